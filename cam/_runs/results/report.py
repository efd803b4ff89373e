"""Write a run as one HTML file.

Nothing is fetched, nothing runs, so it opens anywhere and prints.
"""

import base64
import html
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cam._media.rendering import overlay
from cam._methods.base.method_registry import methods as known_methods
from cam._output.explanation_files import replace_files
from cam._runs.results.clusters import describe_clusters
from cam._runs.results.report_charts import draw_intervals, draw_ranks
from cam._runs.results.run import Run
from cam._runs.results.run_images import RunImage
from cam.errors import RunError

if TYPE_CHECKING:
    import pandas

# Best and worst images of each method by each metric.
EXTREMES = 3
# Pictures of about 8 kB each; beyond these, metrics have none.
MOST_PICTURES = 600
MOST_PROBLEMS = 100
# Mean maps and clusters: of how many methods and classes, of at least and at most how many images.
WHERE_METHODS = 3
WHERE_CLASSES = 5
WHERE_IMAGES = 16
WHERE_LIMIT = 1000
WHERE_TYPICAL = 2
SIDE = 144

STYLE = """
:root { color-scheme: light; font: 15px/1.5 system-ui, sans-serif; color: #1d2733; }
body { max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5dbe3; }
h3 { margin-bottom: .3rem; } .note { color: #55606e; } svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .5rem 0; }
th, td { text-align: left; padding: .2rem .7rem; border-bottom: 1px solid #e4e8ee; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.images { display: flex; flex-wrap: wrap; gap: .6rem; } figure { margin: 0; width: 144px; }
figure img { width: 144px; border-radius: 4px; display: block; }
figcaption { font-size: .78rem; line-height: 1.3; overflow-wrap: anywhere; }
pre { background: #f4f6f9; padding: .8rem; overflow-x: auto; font-size: .8rem; }
"""


def write_report(run: Run, path: str | Path) -> Path:
    """Write the report of a run, finished or not.

    Raises:
        RunError: Nothing is done yet, or the file cannot be written.
    """
    target = Path(path)
    text = render_report(run)
    try:
        replace_files({target: text.encode()})
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RunError(f"cannot write {str(target)!r}: {reason}") from None
    return target


def render_report(run: Run) -> str:
    """Render the report's text."""
    board = run.leaderboard()
    title = f"{run.config['model']['name']} on {run.notes.get('data', 'data')}"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{_escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{_escape(title)}</h1>",
        f"<p class='note'>{_summarise(run, board)}</p>",
        _show_leaderboards(run, board),
        _show_agreement(run),
        _show_images(run),
        _show_places(run),
        _show_costs(run),
        _show_problems(run),
        _show_configuration(run),
        "</body></html>",
    ]
    return "\n".join(parts)


def _summarise(run: Run, board: "pandas.DataFrame") -> str:
    state = "all" if run.done == run.total else f"{run.done:,} of"
    missing = [
        f"{int(board[column].sum()):,} {word}"
        for column, word in (("nan", "undefined"), ("failed", "failed"))
        if board[column].sum()
    ]
    skipped = int(board["skipped"].max() or 0)
    if skipped:
        missing.append(f"{skipped:,} images that could not be read")
    return (
        f"{state} {run.total:,} images, {len(run.methods)} methods, {len(run.metrics)} metrics; "
        f"{int(board['n'].sum()):,} values"
        f"{'; ' + ', '.join(missing) if missing else ', none missing'}. "
        "Intervals hold the mean with 95 % confidence: bootstrapped, images being the sample."
    )


def _show_leaderboards(run: Run, board: "pandas.DataFrame") -> str:
    parts = ["<h2>Leaderboard</h2>", _show_overview(run, board)]
    for metric in run.metrics:
        rows = board[board["metric"] == metric].sort_values("rank")
        better = "higher" if run.directions[metric] > 0 else "lower"
        parts.append(f"<h3>{_escape(metric)} <span class='note'>({better} is better)</span></h3>")
        columns = ["rank", "method", "mean", "low", "high", "median", "n", "nan", "failed"]
        parts.append(_make_table(rows[[*columns, "skipped"]]))
        sound = rows.dropna(subset=["mean"])
        if not sound.empty:
            means, lows, highs = (sound[column].to_numpy() for column in ("mean", "low", "high"))
            parts.append(draw_intervals(list(sound["method"].astype(str)), means, lows, highs))
        if len(run.methods) > 1:
            parts += [_show_ranks(run, metric), _show_comparisons(run, metric)]
    return "\n".join(parts)


def _show_overview(run: Run, board: "pandas.DataFrame") -> str:
    """Tabulate ranks by each metric and their median, as LATEC does."""
    ranks = board.pivot(index="method", columns="metric", values="rank").reindex(
        index=run.methods, columns=run.metrics
    )
    ranks.insert(0, "median rank", ranks.median(axis=1))
    ranks = ranks.sort_values("median rank", kind="stable")
    return (
        "<p class='note'>Ranks by each metric's mean, and their median. Where metrics disagree "
        "(below), a single winner says little.</p>" + _make_table(ranks.reset_index())
    )


def _show_ranks(run: Run, metric: str) -> str:
    ranking = run.ranks(metric)
    if ranking["nemenyi"] is None:
        return "<p class='note'>Too few images have a value of every method for ranks.</p>"
    test = ""
    if not math.isnan(ranking["p"]):
        test = f"Friedman's test: χ² = {ranking['statistic']:.4g}, p {_format_p(ranking['p'])}. "
    return (
        f"<p class='note'>{test}Average ranks over the {ranking['n']:,} images with a value of "
        f"every method; those joined by a bar differ by less than the critical difference "
        f"{ranking['critical_difference']:.3g} (Nemenyi, 0.05).</p>"
        + draw_ranks(ranking["ranks"], ranking["critical_difference"])
    )


def _show_comparisons(run: Run, metric: str) -> str:
    table = run.comparisons(metric).sort_values("holm")
    return (
        f"<details><summary>Every pair: Wilcoxon's signed-rank test, Holm's correction for "
        f"{len(table)} pairs</summary>{_make_table(table)}</details>"
    )


def _show_agreement(run: Run) -> str:
    if len(run.metrics) < 2 or len(run.methods) < 2:
        return ""
    table = run.agreement()
    counts = table.attrs["n"].to_numpy()
    return (
        "<h2>Agreement between metrics</h2><p class='note'>Kendall's τ-b between two metrics' "
        "order of the methods, image by image, averaged: 1 the same order, 0 unrelated, −1 the "
        f"opposite. Over {counts.min():,} to {counts.max():,} images.</p>"
        + _make_table(table.rename_axis("metric").reset_index())
    )


def _show_images(run: Run) -> str:
    if not run.config.get("heatmaps"):
        return "<h2>Images</h2><p class='note'>This run kept no heatmaps.</p>"
    parts = [f"<h2>Best and worst images</h2><p class='note'>{EXTREMES} of each.</p>"]
    count = 0
    for metric in run.metrics:
        rows = run.extremes(metric, EXTREMES)
        if count + len(rows) > MOST_PICTURES:
            parts.append(
                f"<p class='note'>{_escape(metric)}: left out, as the page would be long.</p>"
            )
            continue
        count += len(rows)
        images = run.pictures(rows["item"].tolist())
        parts.append(f"<h3>{_escape(metric)}</h3>")
        for (method, end), group in rows.groupby(["method", "end"], observed=True):
            figures = [
                _make_figure(
                    _overlay(images[row.item], method), f"{method} of {row.id}", _caption(row)
                )
                for row in group.itertuples()
            ]
            parts.append(_make_figures(f"{method}, {end}", figures))
    return "\n".join(parts)


def _caption(row: Any) -> str:
    """Caption an image with its score, its id and its classes."""
    label = str(row.label)
    if row.label != row.predicted_label:
        label += f", predicted {row.predicted_label}"
    return f"{row.value:.4g} · {_escape(row.id)}<br>{_escape(label)}"


def _show_places(run: Run) -> str:
    """Show mean maps of the largest classes, and their clusters."""
    if not run.config.get("heatmaps"):
        return ""
    parts = [
        "<h2>Where the model looks</h2><p class='note'>Mean maps of the largest classes, and of "
        "groups of images whose maps are alike. A group whose heat lies in a corner, at a border "
        "or on a background is worth a look: a watermark may be what the model goes by.</p>"
    ]
    explained = [entry["key"] for entry in run.config["methods"] if not entry.get("baseline")]
    # The classes' pictures have nothing in common to be shown under a mean map.
    grey = Image.new("RGB", (SIDE, SIDE), "#808080")
    for method in explained[:WHERE_METHODS]:
        averages = run.class_averages(method)
        large = averages.table["images"] >= WHERE_IMAGES
        for number in np.flatnonzero(large)[:WHERE_CLASSES]:
            row = averages.table.iloc[number]
            mean = overlay(grey, averages.maps[number])
            figures = [_make_figure(mean, f"mean of {row['images']:,} images")]
            grouping = run.clusters(method, row["label"], limit=WHERE_LIMIT)
            groups = list(zip(grouping.maps, grouping.table.itertuples(), strict=True))
            for mean, group in groups if len(groups) > 1 else []:
                share = f"{group.size:,} ({group.share:.0%}), apart {group.apart:.2f}"
                figures.append(_make_figure(overlay(grey, mean), f"mean of a group of {share}"))
                typical = run.pictures(group.representatives[:WHERE_TYPICAL]).values()
                figures += [
                    _make_figure(_overlay(image, method), f"typical of it: {image.facts['id']}")
                    for image in typical
                ]
            parts.append(_make_figures(describe_clusters(grouping), figures))
    if len(parts) == 1:
        return ""
    if len(explained) > WHERE_METHODS:
        parts.append(f"<p class='note'>Of the first {WHERE_METHODS} methods only.</p>")
    return "\n".join(parts)


def _make_figures(note: str, figures: list[str]) -> str:
    return f"<p class='note'>{_escape(note)}</p><div class='images'>{''.join(figures)}</div>"


def _make_figure(picture: Image.Image | None, text: str, caption: str = "") -> str:
    """Put a picture above its caption in HTML, by default its text."""
    if picture is None:
        return ""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    text = _escape(text)
    return (
        f"<figure><img alt='{text}' src='{source}'>"
        f"<figcaption>{caption or text}</figcaption></figure>"
    )


def _overlay(image: RunImage, method: str) -> Image.Image | None:
    """Lay a heatmap over its picture; None where either was not kept."""
    if image.picture is None or method not in image.heatmaps:
        return None
    picture = image.picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    info = known_methods().get(method.partition("(")[0])
    return overlay(picture, image.heatmaps[method], percentile=info.percentile if info else 100)


def _show_costs(run: Run) -> str:
    table = run.costs()
    table["peak MB"] = table.pop("peak_bytes") / 1e6
    return (
        "<h2>Cost</h2><p class='note'>Forwards and backwards of batches; those that methods share "
        "count for each of them. A row with a metric is what measuring took.</p>"
        + _make_table(table.dropna(axis=1, how="all"))
    )


def _show_problems(run: Run) -> str:
    table = run.problems()
    refused = run.notes.get("refused") or []
    parts = ["<h2>What is missing</h2>"]
    if table.empty and not refused:
        parts.append("<p>Nothing: every image was read, and every value is defined.</p>")
    if not table.empty:
        parts.append(_make_table(table.head(MOST_PROBLEMS)))
    if len(table) > MOST_PROBLEMS:
        parts.append(f"<p class='note'>and {len(table) - MOST_PROBLEMS:,} more reasons</p>")
    if refused:
        items = "".join(f"<li>{_escape(name)}: {_escape(why)}</li>" for name, why in refused[:20])
        parts.append(
            f"<p>{len(refused):,} entries of the data could not become images:</p><ul>{items}</ul>"
        )
    return "\n".join(parts)


def _show_configuration(run: Run) -> str:
    text = json.dumps(run.store.facts, indent=2, ensure_ascii=False)
    return f"<h2>Configuration</h2><pre>{_escape(text)}</pre>"


def _make_table(table: "pandas.DataFrame") -> str:
    import pandas

    numeric = [pandas.api.types.is_numeric_dtype(table[column]) for column in table.columns]

    def line(tag: str, values: Iterable[str]) -> str:
        cells = (
            f"<{tag}{' class=number' if number else ''}>{value}</{tag}>"
            for number, value in zip(numeric, values, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    rows = (
        line("td", map(_format_cell, table.columns, row)) for row in table.itertuples(index=False)
    )
    return (
        f"<div class='wide'><table><thead>{line('th', map(_escape, table.columns))}</thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _format_cell(column: str, value: Any) -> str:
    import pandas

    if pandas.isna(value):
        return "–"
    if column in ("p", "holm"):
        return _format_p(value).removeprefix("= ")
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int | np.integer) else _escape(str(value))


def _format_p(value: float) -> str:
    return "&lt; 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _escape(value: object) -> str:
    return html.escape(str(value))
