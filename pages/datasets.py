"""Compare methods over many images, in runs that can be resumed."""

from cam.pages.ui.server import router

router.require()

import streamlit as st

from cam.pages.ui.datasets import image_browser, run_jobs
from cam.pages.ui.datasets.cluster_maps import show_where
from cam.pages.ui.datasets.leaderboard_view import show_results
from cam.pages.ui.datasets.opened_run import choose_parts, open_run
from cam.pages.ui.datasets.run_list import pop_opened, show_runs
from cam.pages.ui.datasets.start_form import greet_started, show_form
from cam.pages.ui.datasets.two_runs import show_comparison, show_export
from cam.pages.ui.widgets.controls import draw_lazily, scroll_here
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import report_errors

BOARD, IMAGES, WHERE = "Leaderboard", "Images", "Where it looks"
AGAINST, TAKE = "Against another run", "Take it home"
VIEWS = (BOARD, IMAGES, WHERE, AGAINST, TAKE)


def main() -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    if greet_started():
        scroll_here()
    st.title("Datasets", anchor=False)
    st.markdown(
        "One picture shows what a method does; many show **which method to trust**. A run explains "
        "every image with every method, measures every map, and says whether a difference is more "
        "than noise."
    )
    with report_errors():
        show(run_jobs.list_states())


def show(runs: list[run_jobs.ObservedRun]) -> None:
    """Show the runs, the form that starts one, and the results of one."""
    if not runs:
        st.info(
            "There are no runs yet. Start the first one below: as it stands it compares Grad-CAM "
            "with the saliency map on 16 mosaics of bundled photos, in about a minute on a CPU.",
            icon=":material/rocket_launch:",
        )
    else:
        st.header("Runs", anchor=False)
        show_runs(runs)
    draw_lazily("Start a run", "add", "start", show_form, expanded=not runs)
    names = [run.state.name for run in runs if run.state.done]
    if names:
        show_run(names)


def show_run(names: list[str]) -> None:
    """Show one run in one of several ways."""
    if pop_opened():
        scroll_here()
    st.header("Results", anchor=False)
    # Another run has other images.
    name = choose("Run", names, "run", on_change=image_browser.leave_image)
    with report_errors():
        run = open_run(name)
        if run.done < run.total:
            st.info(f"So far {run.done:,} of {run.total:,} images; the figures will still move.")
        view = choose("View", VIEWS, "view", segments=True)
        part = choose_parts(run)
        if view == BOARD:
            show_results(part)
        elif view == IMAGES:
            image_browser.show_images(part, name)
        elif view == WHERE:
            show_where(part)
        elif view == AGAINST:
            show_comparison(part, name, names)
        else:
            show_export(part, name)


main()
