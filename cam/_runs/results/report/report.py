"""Write a run as one HTML file.

Nothing is fetched, so it opens anywhere; without scripts, and printed, all but the viewer is there.
"""

import json
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from cam._output.explanation_files import replace_files
from cam._output.viewer.standalone import read_styles, read_viewer, write_data
from cam._runs.results.image_view import ImageViews
from cam._runs.results.report import report_images, report_tables
from cam._runs.results.report.report_charts import draw_intervals, draw_ranks, load_template
from cam._runs.results.report.report_tables import title_table
from cam._runs.results.run import Run
from cam._runs.results.titles import (
    describe_metric,
    title_method,
    title_metric,
    word_sentences,
)
from cam._runs.statistics.intervals import describe_sample
from cam._runs.statistics.rank_votes import describe_votes
from cam.errors import RunError

if TYPE_CHECKING:
    import pandas

TEMPLATE = Path(__file__).with_name("report.html.jinja")
STYLE = Path(__file__).with_name("report.css")
SCRIPT = Path(__file__).with_name("report.js")
MOST_PROBLEMS = 100
# Metrics of the first screen.
LEADS = 2
# Of the images that the viewer opens, with all their maps: about 40 of three methods.
MOST_VIEWED = 1_500_000


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
    from markupsafe import Markup

    template = load_template(
        TEMPLATE,
        cell=report_tables.format_cell,
        heading=report_tables.word_heading,
        number_class=report_tables.number_class,
        p_value=report_tables.format_p,
    )
    board = run.leaderboard()
    advice = run.advice()
    overview = _rank_methods(run, board)
    word = partial(word_sentences, methods=run.methods, metrics=run.metrics)
    best = advice.method or str(overview["method"].iloc[0])
    metrics = [_describe_metric(run, metric, board, best) for metric in run.metrics]
    leads = sorted(metrics, key=_rank_as_lead)[:LEADS]
    explained = [entry["key"] for entry in run.config["methods"] if not entry.get("baseline")]
    several = len(run.metrics) > 1 and len(run.methods) > 1
    agreement = run.agreement() if several else None
    stability = run.rank_stability(board)
    pictures = bool(run.config.get("heatmaps"))
    views = ImageViews([best, *(key for key in run.methods if key != best)], MOST_VIEWED)
    highlights = extremes = None
    mean_maps: list[dict[str, Any]] = []
    if pictures:
        highlights = report_images.choose_highlights(run, views, best, leads[0]["key"])
        extremes = report_images.choose_extremes(run, views)
        mean_maps = report_images.average_maps(run, views, explained)
    problems, refused = run.problems(), run.notes.get("refused") or []
    contents = [("result", "Result"), ("methods", "Leaderboard"), ("metrics", "Metrics")]
    contents += [("images", "Images")] if pictures else []
    contents += [("where", "Where the model looks")] if mean_maps else []
    text: str = template.render(
        title=f"{run.config['model']['name']} on {PurePath(run.notes.get('data', 'data')).name}",
        style=Markup(STYLE.read_text(encoding="utf-8")),
        facts=_list_facts(run),
        contents=[*contents, ("details", "Details")],
        summary=_summarise(run, board),
        advice={"reasons": word(advice.reasons), "changes": word(advice.changes)},
        leads=leads,
        sample=describe_sample(int(board["groups"].max()), int(board["n"].max())),
        highlights=highlights,
        legend=report_images.draw_legend(best),
        overview=title_table(overview),
        baselines=" and ".join(title_method(key) for key in run.methods if key not in explained),
        votes=word([describe_votes(run.config["metrics"])])[0],
        stability=title_table(stability),
        remarks=word(stability.attrs["remarks"]),
        caution=run.notes.get("caution", ""),
        metrics=metrics,
        agreement=agreement
        if agreement is None
        else title_table(agreement.rename_axis("metric").reset_index()),
        agreement_counts=None if agreement is None else agreement.attrs["n"].to_numpy(),
        extremes=extremes,
        images_each=report_images.EXTREMES,
        mean_maps=mean_maps,
        mean_maps_left_out=len(explained) > report_images.WHERE_METHODS,
        mean_maps_methods=report_images.WHERE_METHODS,
        costs=title_table(_list_costs(run)),
        method_remarks=title_table(run.remarks()),
        problems=title_table(problems),
        most_problems=MOST_PROBLEMS,
        refused=refused,
        missing=bool(refused) or not problems.empty,
        configuration=json.dumps(run.store.facts, indent=2, ensure_ascii=False),
        viewed=len(views.payloads),
        viewed_all=not views.full,
        viewer_style=Markup(read_styles()) if views.payloads else "",
        viewer=_write_viewer(views),
    )
    return text


def _write_viewer(views: ImageViews) -> str:
    """Write the data and the scripts of the viewer; nothing where it would open no image."""
    from markupsafe import Markup

    if not views.payloads:
        return ""
    script = f"{read_viewer()}\n{SCRIPT.read_text(encoding='utf-8')}"
    data = write_data(views.payloads)
    return Markup(f'{data}\n<script type="module">\n{script}</script>')


def _list_facts(run: Run) -> list[str]:
    """List what stands below the title: what was measured, when, and by what."""
    started = str(run.notes.get("started", ""))[:10]
    images = f"{run.done:,} images"
    if run.done < run.total:
        images = f"{run.done:,} of {run.total:,} images (unfinished)"
    methods = f"{len(run.methods)} method{'' if len(run.methods) == 1 else 's'}"
    metrics = f"{len(run.metrics)} metric{'' if len(run.metrics) == 1 else 's'}"
    version = str(run.config["versions"].get("cam", "")).strip()
    return [fact for fact in (started, images, methods, metrics, f"cam {version}") if fact]


def _rank_methods(run: Run, board: "pandas.DataFrame") -> "pandas.DataFrame":
    """Rank the methods among themselves: baselines would move the ranks that advice names."""
    explained = [entry["key"] for entry in run.config["methods"] if not entry.get("baseline")]
    part = board[board["method"].isin(explained)].copy()
    part["rank"] = part.groupby("metric", observed=True)["rank"].rank()
    overview = run.rank_overview(part).loc[lambda table: table.index.isin(explained)]
    return overview.rename_axis("method").reset_index()


def _rank_as_lead(facts: dict[str, Any]) -> tuple[bool, float]:
    """Return what is least for the metric that tells the methods' quality apart best."""
    ranks = facts.get("ranks")
    p = 1.0 if ranks is None or ranks["nemenyi"] is None else float(ranks["p"])
    # How large a map is says nothing of whether it is right.
    return facts["family"] == "complexity", 1.0 if np.isnan(p) else p


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
    text = (
        f"{state} {run.total:,} images, {len(run.methods)} methods, {len(run.metrics)} metrics; "
        f"{int(board['n'].sum()):,} values"
        f"{'; ' + ', '.join(missing) if missing else ', none missing'}. {run.polarity}"
    )
    return text[0].upper() + text[1:]


def _describe_metric(run: Run, metric: str, board: "pandas.DataFrame", best: str) -> dict[str, Any]:
    from markupsafe import Markup

    rows = board[board["metric"] == metric].sort_values("rank")
    columns = ["rank", "method", "mean", "low", "high", "interval", "median", "n", "groups"]
    columns += ["nan", "failed", "skipped"]
    facts: dict[str, Any] = {
        "key": metric,
        "family": next(m["family"] for m in run.config["metrics"] if m["key"] == metric),
        "title": title_metric(metric),
        "description": describe_metric(metric),
        "better": "higher" if run.directions[metric] > 0 else "lower",
        "board": title_table(rows[columns]),
        "chart": "",
    }
    sound = rows.dropna(subset=["mean"])
    highlighted = title_method(best)
    if not sound.empty:
        means, lows, highs = (sound[column].to_numpy() for column in ("mean", "low", "high"))
        titles = [title_method(str(key)) for key in sound["method"]]
        facts["chart"] = Markup(draw_intervals(titles, means, lows, highs, highlighted))
    if len(run.methods) > 1:
        ranks = facts["ranks"] = run.ranks(metric)
        if ranks["nemenyi"] is not None:
            titled = {title_method(str(key)): rank for key, rank in ranks["ranks"].items()}
            chart = draw_ranks(titled, ranks["critical_difference"], highlighted)
            facts["rank_chart"] = Markup(chart)
        facts["pairs"] = title_table(run.comparisons(metric).sort_values("holm"))
    return facts


def _list_costs(run: Run) -> "pandas.DataFrame":
    table = run.costs()
    table["peak MB"] = table.pop("peak_bytes") / 1e6
    return table.dropna(axis=1, how="all")
