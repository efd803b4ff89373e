"""Write a run as one HTML file.

Nothing is fetched, nothing runs, so it opens anywhere and prints.
"""

import base64
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cam._media.rendering import overlay
from cam._methods.base.method_registry import methods as known_methods
from cam._output.explanation_files import replace_files
from cam._runs.results.clusters import describe_clusters
from cam._runs.results.report_charts import draw_intervals, draw_ranks, load_template
from cam._runs.results.run import Run
from cam._runs.results.run_images import RunImage
from cam._runs.statistics.intervals import describe_sample
from cam._runs.statistics.rank_votes import describe_votes
from cam.errors import RunError
from cam.polarity import DIVERGING

if TYPE_CHECKING:
    import pandas

TEMPLATE = Path(__file__).with_name("report.html.jinja")
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
    """Return the report's HTML."""
    template = load_template(
        TEMPLATE, cell=_format_cell, number_class=_number_class, p_value=_format_p
    )
    board = run.leaderboard()
    explained = [entry["key"] for entry in run.config["methods"] if not entry.get("baseline")]
    several = len(run.metrics) > 1 and len(run.methods) > 1
    text: str = template.render(
        title=f"{run.config['model']['name']} on {run.notes.get('data', 'data')}",
        summary=_summarise(run, board),
        advice=run.advice(),
        overview=run.rank_overview(board).rename_axis("method").reset_index(),
        votes=describe_votes(run.config["metrics"]),
        stability=run.rank_stability(board),
        caution=run.notes.get("caution", ""),
        metrics=[_describe_metric(run, metric, board) for metric in run.metrics],
        agreement=run.agreement() if several else None,
        extremes=_choose_extremes(run) if run.config.get("heatmaps") else None,
        images_each=EXTREMES,
        mean_maps=_average_maps(run, explained) if run.config.get("heatmaps") else [],
        mean_maps_left_out=len(explained) > WHERE_METHODS,
        mean_maps_methods=WHERE_METHODS,
        costs=_list_costs(run),
        problems=run.problems(),
        most_problems=MOST_PROBLEMS,
        refused=run.notes.get("refused") or [],
        configuration=json.dumps(run.store.facts, indent=2, ensure_ascii=False),
    )
    return text


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
        + describe_sample(int(board["groups"].max()), int(board["n"].max()))
        + f" {run.polarity}"
    )


def _describe_metric(run: Run, metric: str, board: "pandas.DataFrame") -> dict[str, Any]:
    from markupsafe import Markup

    rows = board[board["metric"] == metric].sort_values("rank")
    columns = ["rank", "method", "mean", "low", "high", "interval", "median", "n", "groups"]
    columns += ["nan", "failed", "skipped"]
    facts: dict[str, Any] = {
        "name": metric,
        "better": "higher" if run.directions[metric] > 0 else "lower",
        "board": rows[columns],
        "chart": "",
    }
    sound = rows.dropna(subset=["mean"])
    if not sound.empty:
        ends = (sound[column].to_numpy() for column in ("mean", "low", "high"))
        facts["chart"] = Markup(draw_intervals(list(sound["method"].astype(str)), *ends))
    if len(run.methods) > 1:
        ranks = facts["ranks"] = run.ranks(metric)
        if ranks["nemenyi"] is not None:
            chart = draw_ranks(ranks["ranks"], ranks["critical_difference"])
            facts["rank_chart"] = Markup(chart)
        facts["pairs"] = run.comparisons(metric).sort_values("holm")
    return facts


def _choose_extremes(run: Run) -> dict[str, list[dict[str, Any]] | None]:
    """Return rows of the best and worst images of each metric; None where there are too many."""
    rows_of: dict[str, list[dict[str, Any]] | None] = {}
    count = 0
    for metric in run.metrics:
        rows = run.extremes(metric, EXTREMES)
        if count + len(rows) > MOST_PICTURES:
            rows_of[metric] = None
            continue
        count += len(rows)
        images = run.pictures(rows["item"].tolist())
        rows_of[metric] = [
            {
                "note": f"{method}, {end}",
                "images": [
                    _embed(
                        _overlay_map(images[row.item], method),
                        f"{method} of {row.id}",
                        _caption(row),
                    )
                    for row in group.itertuples()
                ],
            }
            for (method, end), group in rows.groupby(["method", "end"], observed=True)
        ]
    return rows_of


def _caption(row: Any) -> list[str]:
    """Caption an image with its score, its id and its classes."""
    label = str(row.label)
    if row.label != row.predicted_label:
        label += f", predicted {row.predicted_label}"
    return [f"{row.value:.4g} · {row.id}", label]


def _average_maps(run: Run, explained: list[str]) -> list[dict[str, Any]]:
    """Return rows with the mean maps of the largest classes, and their clusters."""
    rows = []
    # The classes' pictures have nothing in common to be shown under a mean map.
    grey = Image.new("RGB", (SIDE, SIDE), "#808080")
    for method in explained[:WHERE_METHODS]:
        averages = run.class_averages(method)
        large = averages.table["images"] >= WHERE_IMAGES
        for number in np.flatnonzero(large)[:WHERE_CLASSES]:
            row = averages.table.iloc[number]
            mean = overlay(grey, averages.maps[number])
            images = [_embed(mean, f"mean of {row['images']:,} images")]
            grouping = run.clusters(method, row["label"], limit=WHERE_LIMIT)
            groups = list(zip(grouping.maps, grouping.table.itertuples(), strict=True))
            for mean, group in groups if len(groups) > 1 else []:
                share = f"{group.size:,} ({group.share:.0%}), apart {group.apart:.2f}"
                images.append(_embed(overlay(grey, mean), f"mean of a group of {share}"))
                for image in run.pictures(group.representatives[:WHERE_TYPICAL]).values():
                    text = f"typical of it: {image.facts['id']}"
                    images.append(_embed(_overlay_map(image, method), text))
            rows.append({"note": describe_clusters(grouping), "images": images})
    return rows


def _embed(
    picture: Image.Image | None, text: str, caption: list[str] | None = None
) -> dict[str, Any]:
    """Return a picture as a data URI, its alternative text, and the lines below it."""
    source = ""
    if picture is not None:
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=80)
        source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"source": source, "text": text, "caption": caption}


def _overlay_map(image: RunImage, method: str) -> Image.Image | None:
    """Return the map over the picture; None where one of them was not kept."""
    if image.picture is None or method not in image.heatmaps:
        return None
    picture = image.picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    info = known_methods().get(method.partition("(")[0])
    signed = method in image.signed
    colours, percentile = DIVERGING if signed else "turbo", info.percentile if info else 100
    return overlay(picture, image.heatmaps[method], colours, percentile=percentile, signed=signed)


def _list_costs(run: Run) -> "pandas.DataFrame":
    table = run.costs()
    table["peak MB"] = table.pop("peak_bytes") / 1e6
    return table.dropna(axis=1, how="all")


def _number_class(column: "pandas.Series") -> str:
    import pandas
    from markupsafe import Markup

    return Markup(' class="number"') if pandas.api.types.is_numeric_dtype(column) else ""


def _format_cell(value: Any, column: str) -> str:
    import pandas

    if pandas.isna(value):
        return "–"
    if column in ("p", "holm"):
        return _format_p(value).removeprefix("= ")
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def _format_p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"
