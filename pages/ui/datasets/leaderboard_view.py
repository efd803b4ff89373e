"""Show the leaderboard, tests, ranks and agreement of a run."""

import math
from collections.abc import Iterable

import pandas
import streamlit as st

import cam
from cam._runs.results.titles import title_method, title_metric, word_sentences
from cam._runs.statistics.intervals import describe_sample
from cam._runs.statistics.paired_differences import NOISE
from cam._runs.statistics.rank_votes import MEDIAN, describe_votes
from cam.pages.ui.charts.plots import plot_intervals, plot_ranks
from cam.pages.ui.datasets import opened_run
from cam.pages.ui.datasets.images.gallery import make_cells
from cam.pages.ui.datasets.images.thumbnails import show_gallery
from cam.pages.ui.datasets.opened_run import query, show_table
from cam.pages.ui.state import address
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.controls import draw_lazily
from cam.pages.ui.widgets.prose import escape_markdown, write_heading, write_small

COLUMNS = ["rank", "method", "mean", "low", "high", "interval", "median", "n", "groups"]
COLUMNS += ["nan", "failed", "skipped"]


def show_results(run: cam.Run) -> None:
    """Show one metric's leaderboard, whether its order means anything, and all metrics."""
    if run.notes.get("caution"):
        view_record.warning(f"Take care: {run.notes['caution']}.")
    board = query(run, "leaderboard")
    best = _show_advice(run)
    if not board["n"].sum():
        view_record.warning("No image has a value of any metric, and this is why:")
        _show_problems(run)
        return
    # By its key a phone's page draws the images first.
    with st.container(key="board"):
        left, right = st.columns([3, 2], gap="medium")
    with left:
        metric = opened_run.choose_metric(run)
        rows = board[board["metric"] == metric].sort_values("rank")
        _plot_leaderboard(run, rows)
        opened_run.describe_metric(run, metric)
    with right:
        _show_three(run, metric, best or str(rows["method"].iloc[0]))
    show_table(rows[COLUMNS].rename(columns={"n": "values", "nan": "undefined"}))
    _show_missing(run)
    if len(run.methods) > 1:
        _show_ranks(run, metric)
        draw_lazily("Every pair of methods, tested", "balance", "pairs", _show_pairs, run, metric)
    if len(run.metrics) > 1 and len(run.methods) > 1:
        _show_overview(run)
        _show_stability(run)
        _show_agreement(run)


def _show_advice(run: cam.Run) -> str | None:
    """Show which method to use, how sure that is, and what would change it; return the method."""
    if not query(run, "leaderboard")["n"].sum():
        return None
    advice = query(run, "advice")
    reasons, changes = (
        word_sentences(sentences, run.methods, run.metrics)
        for sentences in (advice.reasons, advice.changes)
    )
    (view_record.info if advice.method is None else view_record.success)(
        escape_markdown(reasons[0])
    )
    with st.expander("How sure, and what would change it"):
        for sentence in [*reasons[1:], *changes]:
            view_record.markdown(f"- {escape_markdown(sentence)}")
    method: str | None = advice.method
    return method


def _show_three(run: cam.Run, metric: str, method: str) -> None:
    """Show the best, the median and the worst image of a method; a click opens one."""
    ordered = query(run, "ordered", metric, method, count=run.total)
    if ordered.empty or not run.config.get("heatmaps"):
        return
    write_heading(f"{title_method(method)}: best, median and worst image")
    positions = sorted({0, (len(ordered) - 1) // 2, len(ordered) - 1})
    show_gallery(run, method, make_cells(ordered.iloc[positions]), "three", few=True)
    st.button(
        f"All {len(ordered):,} images",
        icon=":material/grid_view:",
        key="to_gallery",
        on_click=address.write,
        args=({"view": ["Gallery"], "method": [method]},),
    )


def _title_all(keys: Iterable[object]) -> list[str]:
    return [title_method(str(key)) for key in keys]


def _plot_leaderboard(run: cam.Run, rows: pandas.DataFrame) -> None:
    defined = rows.dropna(subset=["mean"])
    if defined.empty:
        view_record.warning("No image has a value of this metric; below is why.")
    else:
        numbers = (defined[name].to_numpy() for name in ("mean", "low", "high"))
        view_record.html(plot_intervals(_title_all(defined["method"]), *numbers))
        sample = describe_sample(int(defined["groups"].max()), int(defined["n"].max()))
        write_small(f"Means over the groups, and of the images in each. {sample} {run.polarity}")


def _show_missing(run: cam.Run) -> None:
    problems = query(run, "problems")
    refused = run.notes.get("refused") or []
    if problems.empty and not refused:
        write_small("Nothing is missing: every image was read, and every value is defined.")
        return
    count = int(problems["images"].sum()) + len(refused)
    draw_lazily(f"{count:,} values or images are missing", "rule", "gap", _show_problems, run)


def _show_problems(run: cam.Run) -> None:
    """Show a row for each reason why something is missing, and what could not become an image."""
    problems = query(run, "problems")
    show_table(problems[["reason", "images", "method", "metric", "status", "example"]])
    for what, why in (run.notes.get("refused") or [])[:20]:
        write_small(f"{what}: {why}")


def _show_ranks(run: cam.Run, metric: str) -> None:
    write_heading("Is the order more than chance?")
    result = query(run, "ranks", metric)
    if result["nemenyi"] is None:
        view_record.info(result["note"])
        return
    ranks = {title_method(key): rank for key, rank in result["ranks"].items()}
    view_record.html(plot_ranks(ranks, result["critical_difference"]))
    sure = ""
    if not math.isnan(result["p"]):
        verdict = "differ" if result["p"] < 0.05 else "may be alike"
        test = f"χ² = {result['statistic']:.3g}, p {format_p(result['p'])}"
        sure = f"Friedman's test says that the methods {verdict} ({test}). "
    write_small(
        f"{sure}In each of {result['groups']:,} groups of {result['n']:,} images the methods are "
        "ranked, 1 the best; these are the averages. Methods joined by a bar differ by less than "
        f"the critical difference {result['critical_difference']:.3g} (Nemenyi): their order may "
        f"be chance. {result['note']}"
    )


def format_p(value: float) -> str:
    """Write p as in a sentence: "< 0.0001" or "= 0.012"."""
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _show_overview(run: cam.Run) -> None:
    write_heading("Ranks by every metric")
    ranks = query(run, "rank_overview").rename(columns={MEDIAN: "Median"})
    ranks = ranks.rename(columns={key: title_metric(key) for key in run.metrics})
    ranks.insert(0, "Method", _title_all(ranks.index))
    view_record.dataframe(ranks)
    votes = word_sentences([describe_votes(run.config["metrics"])], run.methods, run.metrics)
    write_small(votes[0])


def _show_stability(run: cam.Run) -> None:
    table = query(run, "rank_stability")
    if table.empty:
        return
    write_heading("Do the ranks hold under other baselines?")
    titles = {key: title_method(key) for key in run.methods}
    show_table(pandas.DataFrame(table.rename(columns=titles).to_dict("list")))
    write_small(
        "Each method's rank by the same metric with other baselines or parameters. Concordance is "
        "Kendall's W of them: 1 where the order is the same, 0 where it is another each time."
    )
    for remark in table.attrs["remarks"]:
        view_record.warning(remark)


def _show_pairs(run: cam.Run, metric: str) -> None:
    table = query(run, "comparisons", metric).sort_values("holm")
    show_table(table)
    write_small(
        "The mean difference over groups, on the same images, and the p of that mean when the "
        "differences' signs are flipped. Read the corrected p (Holm, for "
        f"{len(table)} pairs); below {NOISE} the difference is more than noise."
    )


def _show_agreement(run: cam.Run) -> None:
    write_heading("Do the metrics agree?")
    table = query(run, "agreement")
    counts = table.attrs["n"].to_numpy()
    titles = [title_metric(str(key)) for key in table.index]
    # Without the counts beside it, which cannot be sent to the browser.
    values = pandas.DataFrame(table.to_numpy(), titles, titles).rename_axis("Metric")
    view_record.dataframe(
        values.reset_index(),
        column_config=dict.fromkeys(titles, st.column_config.NumberColumn(format="%.2f")),
    )
    write_small(
        "Kendall's τ between the orders in which two metrics put the methods, image by image: 1 "
        f"the same order, 0 unrelated, −1 the opposite. Over at least "
        f"{counts.min():,} images."
    )
