"""Show the leaderboard, tests, ranks and agreement of a run."""

import math
from collections.abc import Iterable

import pandas
import streamlit as st

import cam
from cam._runs.statistics.intervals import describe_sample
from cam._runs.statistics.paired_differences import NOISE
from cam._runs.statistics.rank_votes import MEDIAN, describe_votes
from cam.pages.ui.charts.plots import plot_intervals, plot_ranks
from cam.pages.ui.datasets import opened_run
from cam.pages.ui.datasets.opened_run import query, show_table, title_method, title_metric
from cam.pages.ui.widgets.controls import draw_lazily
from cam.pages.ui.widgets.prose import escape_markdown, write_heading, write_small

COLUMNS = ["rank", "method", "mean", "low", "high", "interval", "median", "n", "groups"]
COLUMNS += ["nan", "failed", "skipped"]


def show_results(run: cam.Run) -> None:
    """Show one metric's leaderboard, whether its order means anything, and all metrics."""
    if run.notes.get("caution"):
        st.warning(f"Take care: {run.notes['caution']}.")
    _show_advice(run)
    metric = opened_run.choose_metric(run)
    opened_run.describe_metric(run, metric)
    board = query(run, "leaderboard")
    if not board["n"].sum():
        st.warning("No image has a value of any metric, and this is why:")
        _show_problems(run)
        return
    rows = board[board["metric"] == metric].sort_values("rank")
    _show_leaderboard(run, rows)
    _show_missing(run)
    if len(run.methods) > 1:
        _show_ranks(run, metric)
        draw_lazily("Every pair of methods, tested", "balance", "pairs", _show_pairs, run, metric)
    if len(run.metrics) > 1 and len(run.methods) > 1:
        _show_overview(run)
        _show_stability(run)
        _show_agreement(run)


def _show_advice(run: cam.Run) -> None:
    """Show which method to use, how sure that is, and what would change it."""
    if not query(run, "leaderboard")["n"].sum():
        return
    advice = query(run, "advice")
    write_heading("Which method to use")
    first, *others = advice.reasons
    (st.success if first.startswith("Use ") else st.info)(first)
    for sentence in others:
        st.markdown(escape_markdown(sentence))
    with st.expander("What would change it"):
        for sentence in advice.changes:
            st.markdown(f"- {escape_markdown(sentence)}")


def _title_all(keys: Iterable[object]) -> list[str]:
    return [title_method(str(key)) for key in keys]


def _show_leaderboard(run: cam.Run, rows: pandas.DataFrame) -> None:
    defined = rows.dropna(subset=["mean"])
    if defined.empty:
        st.warning("No image has a value of this metric; below is why.")
    else:
        numbers = (defined[name].to_numpy() for name in ("mean", "low", "high"))
        st.html(plot_intervals(_title_all(defined["method"]), *numbers))
        sample = describe_sample(int(defined["groups"].max()), int(defined["n"].max()))
        write_small(f"Means over the groups, and of the images in each. {sample} {run.polarity}")
    show_table(rows[COLUMNS].rename(columns={"n": "values", "nan": "undefined"}))


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
        st.info(result["note"])
        return
    ranks = {title_method(key): rank for key, rank in result["ranks"].items()}
    st.html(plot_ranks(ranks, result["critical_difference"]))
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
    st.dataframe(ranks, hide_index=True, width="stretch")
    write_small(describe_votes(run.config["metrics"]))


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
        st.warning(remark)


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
    st.dataframe(
        values.reset_index(),
        hide_index=True,
        width="stretch",
        column_config=dict.fromkeys(titles, st.column_config.NumberColumn(format="%.2f")),
    )
    write_small(
        "Kendall's τ between the orders in which two metrics put the methods, image by image: 1 "
        f"the same order, 0 unrelated, −1 the opposite. Over at least "
        f"{counts.min():,} images."
    )
