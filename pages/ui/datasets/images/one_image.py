"""Show one image of a run large, with its maps and scores."""

from typing import Any

import streamlit as st

import cam
from cam._runs.results.image_view import pack_image
from cam._runs.results.run_images import RunImage
from cam.pages.ui.datasets import opened_run
from cam.pages.ui.datasets.opened_run import query
from cam.pages.ui.server import router
from cam.pages.ui.subject import run_pictures
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.image_viewer import show_viewer
from cam.pages.ui.widgets.prose import as_sentence, escape_markdown, write_heading, write_small
from cam.pages.ui.widgets.viewer_options import read_options


def show_image(run: cam.Run, name: str, number: int) -> None:
    """Show what the run knows of one image.

    Raises:
        RunError: It has no such image.
    """
    image = query(run, "image", number)
    facts = image.facts
    view_record.subheader(str(facts["id"]), anchor=False)
    if facts.get("reason"):
        view_record.warning(as_sentence(f"it was skipped: {facts['reason']}"))
        return
    view_record.markdown(
        f"Explained for **{escape_markdown(str(facts['label']))}** (probability "
        f"{facts['probability']:.1%}); predicted "
        f"**{escape_markdown(str(facts['predicted_label']))}** with {facts['confidence']:.1%}."
    )
    with st.container(horizontal=True):
        _offer_explore(run, name, number, facts)
    _show_maps(run, image)
    write_heading("Its scores")
    opened_run.show_table(image.scores.assign(reason=image.scores["reason"].fillna("")))


def _show_maps(run: cam.Run, image: RunImage) -> None:
    if not run.config.get("heatmaps") or image.picture is None:
        write_small("This run kept no heatmaps.")
        return
    first = opened_run.choose_method(run)
    keys = sorted((key for key in run.methods if key in image.heatmaps), key=lambda k: k != first)
    show_viewer(pack_image(image, keys, read_options()), "run_viewer")
    write_small(
        f"Image and maps as the run kept them, maps of {run.config['heatmaps']} pixels a side; "
        "Explore shows and computes them in full."
    )


def _offer_explore(run: cam.Run, name: str, number: int, facts: dict[str, Any]) -> None:
    try:
        link = run_pictures.make_link(run, name, number, facts)
    except cam.CamError as error:
        write_small(as_sentence(f"it cannot be opened in Explore: {error}"))
        return
    label, icon = "Open in Explore", ":material/search:"
    st.page_link(router.PAGES / "explore.py", label=label, icon=icon, query_params=link)
