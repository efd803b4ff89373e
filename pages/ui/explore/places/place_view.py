"""Explore an image with a detector or a segmenter."""

from functools import partial
from typing import Any

import streamlit as st

from cam._models.tasks.detections import Detections
from cam._output.target_names import name_target
from cam._output.viewer.payload import ViewerOptions, pack, view_attribution
from cam._targets.spelling import read_target
from cam.pages.ui.explore import downloads, method_maps
from cam.pages.ui.explore.method_maps import Maps
from cam.pages.ui.explore.places import answers, asking
from cam.pages.ui.explore.places.answers import PlaceSubject, Question
from cam.pages.ui.frame.frame import announce
from cam.pages.ui.server import weight_downloads
from cam.pages.ui.server.jobs import POLL_SECONDS
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import Choices
from cam.pages.ui.state.selection import Selection
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import ImageAndModel
from cam.pages.ui.widgets import controls, method_picker
from cam.pages.ui.widgets.growing_maps import GrowingMap, add_growing
from cam.pages.ui.widgets.image_viewer import offer_view, show_viewer
from cam.pages.ui.widgets.prose import escape_markdown, report_errors, write_notes, write_small
from cam.pages.ui.widgets.python_code import write_explaining
from cam.pages.ui.widgets.viewer_options import read_options

# What the part around the viewer shows, as the address calls it.
LOOKING = ("perturb",)


def show_places(parts: ImageAndModel, selection: Selection) -> bool:
    """Show an image with boxes or segments, and their maps; False for a model of classes."""
    with report_errors(advice="Choose another model or other weights in the sidebar."):
        if not weight_downloads.ensure_weights(parts.choice):
            return True
        if not answers.answers_in_places(parts.choice, parts.picture):
            return False
        subject = answers.look(parts.picture, parts.choice)
        _show(subject, selection)
    return True


def _show(subject: PlaceSubject, selection: Selection) -> None:
    with st.sidebar:
        detects = isinstance(subject.answer, Detections)
        count = asking.choose_least(subject) if detects else 0
        part = asking.REGION if detects else asking.choose_click()
        layer = subject_form.choose_layer(subject.model)
        methods = tuple(method_picker.choose_methods(selection))
    question = answers.read_question(subject, selection.target, count)
    if question.warning:
        st.warning(question.warning)
    asking.list_answers(subject, count, question)
    if question.text is None:
        st.info(_explain_nothing(subject))
    if not methods:
        st.info("Choose at least one method in the sidebar.")
    choices = Choices(subject.choice, methods, None, layer, question=question.text)
    work, images = st.container(), st.container()
    maps: Maps = {}
    growing: list[GrowingMap] = []
    label = _name_question(subject, question)
    with work:
        if question.text is not None:
            write_small(f"Explained: {escape_markdown(label)}.")
            maps, growing = method_maps.explain(choices, subject)
    options = read_options()
    payload = _pack(subject, count, question, maps, options, label)
    with images:
        for note in subject.picture.photo.notes:
            write_small(f"Your image: {note}.")
        look = st.fragment(_look_into, run_every=POLL_SECONDS if growing else None)
        look(subject, part, choices, growing, payload, address.read_selection())
        for attribution in maps.values():
            write_notes(attribution)
    if maps:
        titles = ", ".join(method.info.title for method in maps)
        announce(f"{titles} for {label} of {subject.picture.photo.name}.")
        with st.container(horizontal=True, vertical_alignment="center"):
            downloads.offer_all(subject, maps, options)
            downloads.offer_record(subject, maps)
            offer_view(payload, label)
        controls.draw_lazily("Details", "info", "details", method_maps.show_facts, maps)
        drawn = Choices(subject.choice, tuple(maps), None, layer, question=question.text)
        controls.draw_code(lambda: write_explaining(drawn, subject.picture, None, options))


def _explain_nothing(subject: PlaceSubject) -> str:
    if isinstance(subject.answer, Detections):
        return (
            "The model detects nothing here with such a score. Lower it in the sidebar, or draw a "
            "box around an object that it misses."
        )
    return "The model sees none of its classes here."


def _name_question(subject: PlaceSubject, question: Question) -> str:
    """Name what is explained."""
    if question.text is None:
        return "nothing"
    return name_target(read_target(question.text), subject.title)


def _pack(
    subject: PlaceSubject,
    count: int,
    question: Question,
    maps: Maps,
    options: ViewerOptions,
    label: str,
) -> dict[str, Any]:
    viewed = [
        view_attribution(attribution, captions=[method_maps.describe_cost(attribution)])
        for attribution in maps.values()
    ]
    stem = controls.name_file(subject.picture)
    marks = asking.mark_answer(subject, count, question)
    return pack(subject.crop, viewed, label, options, stem, marks=marks)


def _look_into(
    subject: PlaceSubject,
    part: str,
    choices: Choices,
    growing: list[GrowingMap],
    payload: dict[str, Any],
    selection: Selection,
) -> None:
    """Show the viewer, and what is drawn in it; that redraws this part alone."""
    address.redraw_if_changed(selection, LOOKING)
    payload = add_growing(payload, [method.name for method in choices.methods], growing)
    take = partial(asking.take_pick, subject, part)
    on_region = None if growing else _note_region
    region = show_viewer(payload, "viewer", on_region=on_region, on_pick=take)
    width, height = payload["grid"]
    asking.offer_box(subject, region, (width, height))


def _note_region() -> None:
    """Let a finished selection come to the server."""
