"""Compare methods over many images, in runs that can be resumed."""

from cam.pages.ui.server import router

router.require()

import streamlit as st

import cam
from cam.pages.ui.datasets import run_jobs
from cam.pages.ui.datasets.images import gallery
from cam.pages.ui.datasets.images.confusion_view import show_confusions
from cam.pages.ui.datasets.images.mean_maps import show_where
from cam.pages.ui.datasets.images.placement_view import show_placement
from cam.pages.ui.datasets.leaderboard_view import show_results
from cam.pages.ui.datasets.opened_run import TITLES, choose_parts, follow_renamed, open_run
from cam.pages.ui.datasets.run_edits import show_edits
from cam.pages.ui.datasets.run_list import OF_RUN, pop_opened, show_active
from cam.pages.ui.datasets.runs_table import describe_run, show_table
from cam.pages.ui.datasets.start_form import greet_started, show_form
from cam.pages.ui.datasets.two_runs import show_comparison, show_export
from cam.pages.ui.server.allowed_roots import EXAMPLE
from cam.pages.ui.state import address
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.controls import scroll_here
from cam.pages.ui.widgets.image_viewer import offer_record
from cam.pages.ui.widgets.links import choose, read_switch
from cam.pages.ui.widgets.prose import report_errors

BOARD, GALLERY, PLANE = "Leaderboard", "Gallery", "Embedding"
CONFUSIONS, WHERE = "Confusion matrix", "Attribution patterns"
COMPARE, EXPORT = "Compare runs", "Export"
ABOUT_EXAMPLE = (
    "A network built by hand, whose exact attribution is known: your model may need another method."
)
VIEWS = (BOARD, GALLERY, PLANE, CONFUSIONS, WHERE, COMPARE, EXPORT)


def main() -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    if greet_started():
        scroll_here()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.title("Datasets", anchor=False)
        if not read_switch("start", False):
            st.button(
                "Start a run",
                icon=":material/add:",
                type="primary",
                key="open_form",
                on_click=address.write,
                args=({"start": ["true"]},),
            )
    view_record.markdown(
        "**Which method to trust**: every method explains every image, every map is measured, and "
        "differences are tested."
    )
    with report_errors():
        show(run_jobs.list_states())


def show(runs: list[run_jobs.ObservedRun]) -> None:
    """Show what is at work, the form where it is open, one run's results, and all runs."""
    if any(run.doing != run_jobs.FINISHED for run in runs):
        show_active(runs)
    if read_switch("start", False):
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                view_record.subheader("New run", anchor=False)
                st.button(
                    "Close",
                    icon=":material/close:",
                    key="close_form",
                    on_click=address.write,
                    args=({"start": None},),
                )
            show_form()
    names = [run.state.name for run in runs if run.state.done]
    finished = [run.state.name for run in runs if run.doing == run_jobs.FINISHED]
    show_run([*names, EXAMPLE], (finished or [EXAMPLE])[0])
    view_record.header("Runs", anchor=False)
    show_table(runs, (finished or [EXAMPLE])[0])


def show_run(names: list[str], default: str) -> None:
    """Show one run in one of several ways; by default the latest finished one, or the example."""
    if pop_opened():
        scroll_here()
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        former = follow_renamed("run", names)
        name = choose("Run", names, "run", default=default, forget=OF_RUN, former=former)
    with report_errors():
        run = open_run(name)
        with right, st.container(horizontal=True):
            part = choose_parts(run)
            show_edits(name)
            file = st.container(width="content")
        with view_record.record_view() as record:
            view = show_part(run, part, name, names)
        with file:
            offer_record(record, f"{name} · {view}", f"{name}-{view}")


def show_part(run: cam.Run, part: cam.Run, name: str, names: list[str]) -> str:
    """Show some of a run's images in one of the views; returns which."""
    for by, group in part.parts.items():
        view_record.note_choice(TITLES[by], group)
    view_record.small(describe_run(run) + (f" · {ABOUT_EXAMPLE}" if name == EXAMPLE else ""))
    if run.done < run.total:
        view_record.info(
            f"So far {run.done:,} of {run.total:,} images; the figures will still move."
        )
    view = choose("View", VIEWS, "view", segments=True, label_visibility="collapsed")
    show_view(view, part, name, names)
    return view


def show_view(view: str, part: cam.Run, name: str, names: list[str]) -> None:
    """Show a run in one of the views."""
    if view == BOARD:
        show_results(part)
    elif view == GALLERY:
        gallery.show_images(part, name)
    elif view == PLANE:
        show_placement(part)
    elif view == CONFUSIONS:
        show_confusions(part)
    elif view == WHERE:
        show_where(part)
    elif view == COMPARE:
        show_comparison(part, name, [other for other in names if other != EXAMPLE])
    else:
        show_export(part, name)


main()
