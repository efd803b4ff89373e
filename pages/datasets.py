"""Compare methods over many images, in runs that can be resumed."""

from cam.pages.ui.server import router

router.require()

import streamlit as st

import cam
from cam.pages.ui.datasets import run_jobs
from cam.pages.ui.datasets.cluster_maps import show_where
from cam.pages.ui.datasets.image_browser import show_images
from cam.pages.ui.datasets.leaderboard_view import show_results
from cam.pages.ui.datasets.opened_run import choose_parts, open_run
from cam.pages.ui.datasets.run_list import asked_for, show_runs
from cam.pages.ui.datasets.start_form import greet_started, show_form
from cam.pages.ui.datasets.two_runs import show_comparison, show_export
from cam.pages.ui.widgets import controls

BOARD, IMAGES, WHERE = "Leaderboard", "Images", "Where it looks"
AGAINST, TAKE = "Against another run", "Take it home"
VIEWS = (BOARD, IMAGES, WHERE, AGAINST, TAKE)


def main() -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    if greet_started():
        controls.scroll_here()
    st.title("Datasets", anchor=False)
    st.markdown(
        "One picture shows what a method does; many show **which method to trust**. A run explains "
        "every image with every method, measures every map, and says whether a difference is more "
        "than noise."
    )
    try:
        found = run_jobs.states()
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    if not found:
        st.info(
            "There are no runs yet. Start the first one below: as it stands it compares Grad-CAM "
            "with the saliency map on 16 mosaics of bundled photos, in about a minute on a CPU.",
            icon=":material/rocket_launch:",
        )
    else:
        st.header("Runs", anchor=False)
        show_runs(found)
    start = st.expander(
        "Start a run",
        expanded=not found,
        icon=":material/add:",
        key="start",
        on_change="rerun",
        bind="query-params",
    )
    if start.open:
        with start:
            show_form()
    names = [state.name for state, _, _ in found if state.done]
    if names:
        show_run(names)


def show_run(names: list[str]) -> None:
    """One run, seen in one of several ways."""
    if asked_for():
        controls.scroll_here()
    controls.check_link("run", "run", names)
    st.header("Results", anchor=False)
    name = st.selectbox("Run", names, key="run", bind="query-params", on_change=forget_item)
    try:
        run = open_run(name)
        if run.done < run.total:
            st.info(f"So far {run.done:,} of {run.total:,} images; the figures will still move.")
        controls.check_link("view", "view", VIEWS)
        view = st.segmented_control(
            "View", VIEWS, default=BOARD, required=True, key="view", bind="query-params"
        )
        chosen = choose_parts(run)
        if view == BOARD:
            show_results(chosen)
        elif view == IMAGES:
            show_images(chosen, name)
        elif view == WHERE:
            show_where(chosen)
        elif view == AGAINST:
            show_comparison(chosen, name, names)
        else:
            show_export(chosen, name)
    except cam.CamError as error:
        st.error(controls.sentence(error))


def forget_item() -> None:
    """Another run has other images."""
    st.query_params.pop("item", None)


main()
