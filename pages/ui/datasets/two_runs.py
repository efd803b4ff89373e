"""Compare two runs, and export a run as CSV, Parquet or report."""

import shlex
import tempfile
from functools import partial
from pathlib import Path

import pandas
import streamlit as st

import cam
from cam._runs.results.report.report import render_report
from cam._runs.results.run_comparison import compare
from cam._runs.statistics.intervals import FEWEST
from cam._runs.statistics.paired_differences import NOISE
from cam.pages.ui.datasets.opened_run import follow_renamed, open_run, show_table
from cam.pages.ui.server.resources import share
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.controls import offer_file
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import as_sentence, report_errors, write_small

PARQUET = "application/vnd.apache.parquet"


def show_comparison(run: cam.Run, name: str, names: list[str]) -> None:
    """Show what changed from another run to this one."""
    others = [other for other in names if other != name]
    view_record.markdown(
        "Two checkpoints, or two versions of the labels: the same images in both runs are compared "
        "one by one, so small changes show, and non-significant ones are marked as such."
    )
    if not others:
        view_record.info("There is no other run to compare with yet.")
        return
    former = follow_renamed("before", others)
    before = choose(f"From this run to {name}", others, "before", "run", former=former)
    with report_errors():
        _show_changes(open_run(before).only(run.parts), run)


def _show_changes(other: cam.Run, run: cam.Run) -> None:
    table = _compare(other, run)
    images = table.attrs["images"]
    changed = table.attrs["configuration"]
    if other.config["data"] != run.config["data"]:
        view_record.warning(
            "The two runs are not over the same data. Images are matched by their names, so trust "
            "this only where the same name is the same image."
        )
    counts = table["verdict"].where(table["groups"] >= FEWEST, "few").value_counts()
    words = {"better": "better", "worse": "worse", "noise": "within noise"}
    words["few"] = f"of too few groups to tell (below {FEWEST})"
    verdicts = ", ".join(
        f"{counts[verdict]} {word}" for verdict, word in words.items() if verdict in counts
    )
    view_record.markdown(
        f"**{verdicts}**, of {len(table)} pairs of method and metric. {images['common']:,} images "
        f"are in both, {images['only_before']:,} only before, {images['only_after']:,} only after; "
        f"{images['predicted_differently']:,} are predicted differently."
    )
    show_table(table[["verdict", *table.columns.drop("verdict")]])
    write_small(
        "Better or worse is said of the mean difference over groups, where its p when the "
        f"differences' signs are flipped, corrected for all rows (Holm), is below {NOISE}; from … "
        "to holds the mean difference with 95 % confidence. A remark stands where most groups say "
        "the opposite of the mean."
    )
    view_record.markdown(
        "**What differs between the runs:** "
        + ("; ".join(f"`{part}`" for part in changed) or "nothing of what determines them")
    )
    st.code(
        shlex.join(["python", "-m", "cam", "diff", str(other.path), str(run.path)]), language="bash"
    )


@share(max_entries=32, show_spinner="Comparing the runs …")
def _compare(before: cam.Run, after: cam.Run) -> pandas.DataFrame:
    return compare(before, after)


def show_export(run: cam.Run, name: str) -> None:
    """Show downloads; each is made when it is asked for."""
    view_record.markdown(
        "**The report** is one page that opens without a network: leaderboards, ranks, agreement, "
        "the best and worst images with their heatmaps, costs, and the configuration. "
        "**The scores** have a row an image, method and metric."
    )
    with st.container(horizontal=True):
        for label, ending, kind, make in (
            ("Report", "html", "text/html", lambda: render_report(run).encode()),
            ("Scores as CSV", "csv", "text/csv", partial(_export, run, "csv")),
            ("Scores as Parquet", "parquet", PARQUET, partial(_export, run, "parquet")),
        ):
            offer_file(label, make, f"{name}.{ending}", kind, key=f"download-{ending}")
    view_record.markdown("The same from Python, and from the command line:")
    path = str(run.path)
    only = f".only({run.parts!r})" if run.parts else ""
    st.code(
        "import cam\nfrom cam._runs.results.report.report import write_report\n\n"
        f"run = cam.Run.open({path!r}){only}\n"
        "print(run.leaderboard())\n"
        'run.export("scores.parquet")\n'
        'write_report(run, "report.html")\n',
        language="python",
    )
    st.code(f"python -m cam report {shlex.quote(path)} --out report.html", language="bash")
    if run.parts:
        write_small("The command's report is of all images, as it takes no filter.")
    try:
        view_record.markdown("And the run itself, which goes on where it was if it was stopped:")
        st.code(run.call.command(path), language="bash", wrap_lines=True)
    except cam.CamError as error:
        write_small(as_sentence(error))


def _export(run: cam.Run, ending: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="cam-export-") as folder:
        return run.export(Path(folder) / f"scores.{ending}").read_bytes()
