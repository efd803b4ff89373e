"""Show the leaderboard, tests, ranks and agreement of a run."""

import math
from collections.abc import Iterable

import pandas
import streamlit as st

import cam
from cam.pages.ui.charts.plots import plot_intervals, plot_ranks
from cam.pages.ui.datasets import opened_run
from cam.pages.ui.datasets.opened_run import query, show_table, title_method, title_metric
from cam.pages.ui.widgets.controls import draw_lazily
from cam.pages.ui.widgets.prose import write_heading, write_small

COLUMNS = ["rank", "method", "mean", "low", "high", "median", "n", "nan", "failed", "skipped"]


def show_results(run: cam.Run) -> None:
    """Show one metric's leaderboard, whether its order means anything, and all metrics."""
    metric = opened_run.choose_metric(run)
    opened_run.describe_metric(run, metric)
    board = query(run, "leaderboard")
    if not board["n"].sum():
        st.warning("No image has a value of any metric, and this is why:")
        _show_problems(run)
        return
    rows = board[board["metric"] == metric].sort_values("rank")
    _show_leaderboard(rows)
    _show_missing(run)
    if len(run.methods) > 1:
        _show_ranks(run, metric)
        draw_lazily("Every pair of methods, tested", "balance", "pairs", _show_pairs, run, metric)
    if len(run.metrics) > 1 and len(run.methods) > 1:
        _show_overview(run, board)
        _show_agreement(run)


def _title_all(keys: Iterable[object]) -> list[str]:
    return [title_method(str(key)) for key in keys]


def _show_leaderboard(rows: pandas.DataFrame) -> None:
    defined = rows.dropna(subset=["mean"])
    if defined.empty:
        st.warning("No image has a value of this metric; below is why.")
    else:
        numbers = (defined[name].to_numpy() for name in ("mean", "low", "high"))
        st.html(plot_intervals(_title_all(defined["method"]), *numbers))
        write_small(
            "Means over the images, with the interval that holds the mean with 95 % confidence "
            "(bootstrapped, images being the sample)."
        )
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
        st.info("Too few images have a value of every method for ranks.")
        return
    ranks = {title_method(key): rank for key, rank in result["ranks"].items()}
    st.html(plot_ranks(ranks, result["critical_difference"]))
    sure = ""
    if not math.isnan(result["p"]):
        verdict = "differ" if result["p"] < 0.05 else "may be alike"
        test = f"χ² = {result['statistic']:.3g}, p {format_p(result['p'])}"
        sure = f"Friedman's test says that the methods {verdict} ({test}). "
    write_small(
        f"{sure}On each of {result['n']:,} images the methods are ranked, 1 the best; these are "
        "the averages. Methods joined by a bar differ by less than the critical difference "
        f"{result['critical_difference']:.3g} (Nemenyi): their order may be chance."
    )


def format_p(value: float) -> str:
    """Write p as in a sentence: "< 0.0001" or "= 0.012"."""
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _show_overview(run: cam.Run, board: pandas.DataFrame) -> None:
    write_heading("Ranks by every metric")
    ranks = board.pivot(index="method", columns="metric", values="rank").reindex(
        index=run.methods, columns=run.metrics
    )
    ranks.columns = [title_metric(str(key)) for key in ranks.columns]
    ranks.insert(0, "Median", ranks.median(axis=1))
    ranks.insert(0, "Method", _title_all(ranks.index))
    st.dataframe(ranks.sort_values("Median", kind="stable"), hide_index=True, width="stretch")
    write_small("1 is the best mean. Where metrics disagree, a single winner says little.")


def _show_pairs(run: cam.Run, metric: str) -> None:
    table = query(run, "comparisons", metric).sort_values("holm")
    show_table(table)
    write_small(
        "On the same images: Wilcoxon's signed-rank test. Read the corrected p (Holm, for "
        f"{len(table)} pairs); below 0.05 the difference is more than noise."
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
