"""Show the leaderboard, tests, ranks and agreement of a run."""

import math

import pandas
import streamlit as st

import cam
from cam.pages.ui.datasets import interval_charts
from cam.pages.ui.datasets.opened_run import (
    ask,
    choose_metric,
    describe_metric,
    method_title,
    metric_title,
    show_table,
)
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import heading, small

COUNTS = {
    "n": "Values",
    "nan": "Undefined",
    "failed": "Failed",
    "skipped": "Skipped",
}


def show_results(run: cam.Run) -> None:
    """One metric's leaderboard first; then whether its order means anything; then all metrics."""
    metric = choose_metric(run)
    describe_metric(run, metric)
    board = ask(run, "leaderboard")
    if not board["n"].sum():
        st.warning("No image has a value of any metric, and this is why:")
        _problems(run)
        return
    rows = board[board["metric"] == metric].sort_values("rank")
    _leaderboard(rows)
    _missing(run)
    if len(run.methods) > 1:
        _ranks(run, metric)
        if box := controls.lazy_box("Every pair of methods, tested", ":material/balance:", "pairs"):
            with box:
                _pairs(run, metric)
    if len(run.metrics) > 1 and len(run.methods) > 1:
        _overview(run, board)
        _agreement(run)


def _leaderboard(rows: pandas.DataFrame) -> None:
    known = rows.dropna(subset=["mean"])
    if known.empty:
        st.warning("No image has a value of this metric; below is why.")
    else:
        st.html(
            interval_charts.intervals(
                [method_title(str(one)) for one in known["method"]],
                known["mean"].to_numpy(),
                known["low"].to_numpy(),
                known["high"].to_numpy(),
            )
        )
        small(
            "Means over the images, with the interval that holds the mean with 95 % confidence "
            "(bootstrapped, images being the sample)."
        )
    told = rows.assign(method=[method_title(str(one)) for one in rows["method"]])
    columns = ["rank", "method", "mean", "low", "high", "median", *COUNTS]
    st.dataframe(
        told[columns].rename(columns={"rank": "Rank", "method": "Method", **COUNTS}),
        hide_index=True,
        width="stretch",
        column_config={
            "mean": st.column_config.NumberColumn("Mean", format="%.4g"),
            "low": st.column_config.NumberColumn("From", format="%.4g"),
            "high": st.column_config.NumberColumn("To", format="%.4g"),
            "median": st.column_config.NumberColumn("Median", format="%.4g"),
        },
    )


def _missing(run: cam.Run) -> None:
    problems = ask(run, "problems")
    refused = run.notes.get("refused") or []
    if problems.empty and not refused:
        small("Nothing is missing: every image was read, and every value is defined.")
        return
    count = int(problems["images"].sum()) + len(refused)
    if box := controls.lazy_box(
        f"{count:,} values or images are missing", ":material/rule:", "gap"
    ):
        with box:
            _problems(run)


def _problems(run: cam.Run) -> None:
    """A row for each reason why something is missing, and what could not become an image."""
    problems = ask(run, "problems")
    show_table(problems[["reason", "images", "method", "metric", "status", "example"]])
    for what, why in (run.notes.get("refused") or [])[:20]:
        small(f"{what}: {why}")


def _ranks(run: cam.Run, metric: str) -> None:
    heading("Is the order more than chance?")
    found = ask(run, "ranks", metric)
    if found["nemenyi"] is None:
        st.info("Too few images have a value of every method for ranks.")
        return
    ranks = {method_title(key): rank for key, rank in found["ranks"].items()}
    st.html(interval_charts.ranks(ranks, found["critical_difference"]))
    sure = ""
    if not math.isnan(found["p"]):
        verdict = "differ" if found["p"] < 0.05 else "may be alike"
        told = f"χ² = {found['statistic']:.3g}, p {shown_p(found['p'])}"
        sure = f"Friedman's test says that the methods {verdict} ({told}). "
    small(
        f"{sure}On each of {found['n']:,} images the methods are ranked, 1 the best; these are "
        "the averages. Methods joined by a bar differ by less than the critical difference "
        f"{found['critical_difference']:.3g} (Nemenyi): their order may be chance."
    )


def shown_p(value: float) -> str:
    """As in a sentence: "< 0.0001" or "= 0.012"."""
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _overview(run: cam.Run, board: pandas.DataFrame) -> None:
    heading("Ranks by every metric")
    ranks = board.pivot(index="method", columns="metric", values="rank").reindex(
        index=run.methods, columns=run.metrics
    )
    ranks.columns = [metric_title(str(one)) for one in ranks.columns]
    ranks.insert(0, "Median", ranks.median(axis=1))
    ranks.insert(0, "Method", [method_title(str(one)) for one in ranks.index])
    st.dataframe(ranks.sort_values("Median", kind="stable"), hide_index=True, width="stretch")
    small("1 is the best mean. Where metrics disagree, a single winner says little.")


def _pairs(run: cam.Run, metric: str) -> None:
    table = ask(run, "comparisons", metric).sort_values("holm")
    show_table(table)
    small(
        "On the same images: Wilcoxon's signed-rank test. Read the corrected p (Holm, for "
        f"{len(table)} pairs); below 0.05 the difference is more than noise."
    )


def _agreement(run: cam.Run) -> None:
    heading("Do the metrics agree?")
    table = ask(run, "agreement")
    counts = table.attrs["n"].to_numpy()
    titles = [metric_title(str(one)) for one in table.index]
    # Without the counts beside it, which cannot be sent to the browser.
    told = pandas.DataFrame(table.to_numpy(), titles, titles).rename_axis("Metric")
    st.dataframe(
        told.reset_index(),
        hide_index=True,
        width="stretch",
        column_config={one: st.column_config.NumberColumn(format="%.2f") for one in titles},
    )
    small(
        "Kendall's τ between the orders in which two metrics put the methods, image by image: 1 "
        f"the same order, 0 unrelated, −1 the opposite. Over at least "
        f"{counts.min():,} images."
    )
