"""Explore one image: what each method says about one class."""

from cam.pages.ui.server import router

router.require()

from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from cam._output.viewer.payload import ViewerOptions, pack, view_attribution
from cam.pages.ui.explore import (
    channel_view,
    downloads,
    layer_slider,
    method_maps,
    perturb_view,
)
from cam.pages.ui.explore.method_maps import Maps
from cam.pages.ui.explore.places import place_view
from cam.pages.ui.frame.frame import announce
from cam.pages.ui.live import live_view
from cam.pages.ui.present import present_view
from cam.pages.ui.server.jobs import POLL_SECONDS
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import Choices
from cam.pages.ui.state.selection import Selection
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls, method_picker
from cam.pages.ui.widgets.growing_maps import GrowingMap, add_growing
from cam.pages.ui.widgets.image_viewer import offer_view, show_viewer
from cam.pages.ui.widgets.prose import (
    escape_markdown,
    write_notes,
    write_small,
)
from cam.pages.ui.widgets.python_code import write_explaining
from cam.pages.ui.widgets.viewer_options import read_options

TOP = 5
# What the part around the viewer shows, as the address calls it.
LOOKING = (
    "perturb",
    "paste",
    "hottest",
    "channels",
    "channels_by",
    "channel",
    "patches",
    "patch_run",
)


def main(selection: Selection) -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    if present_view.show_present(selection):
        return
    st.title("Explore", anchor=False)
    st.markdown(
        "See which image regions drive a prediction: **Grad-CAM** shows the region, coarse and "
        "steady; the **saliency map** shows single pixels, fine and noisy."
    )
    parts = subject_form.choose_parts(selection)
    if parts is None or place_view.show_places(parts, selection):
        return
    subject = subject_form.look_at_part(parts, selection)
    if subject is None:
        return
    with st.sidebar:
        target = subject_form.choose_target(subject)
        against = subject_form.choose_against(subject, target)
        layer = subject_form.choose_layer(subject.model)
        methods = method_picker.choose_methods(selection)
    choices = Choices(subject.choice, tuple(methods), target, layer, against)
    choose_prediction(subject, choices)
    claim = st.container(horizontal=True, vertical_alignment="center")
    # What is at work stands, with its Cancel, where it is in sight beside the growing maps.
    work, images = st.container(), st.container()
    if not methods:
        st.info("Choose at least one method in the sidebar.")
    with work:
        maps, growing = method_maps.explain(choices, subject)
    with claim:
        show_claim(choices, maps)
    options = read_options()
    payload = pack_maps(subject, choices, maps, options)
    with images:
        show_maps(subject, choices, maps, growing, payload)
    if maps:
        titles = ", ".join(method.info.title for method in maps)
        announce(f"{titles} for {name_target(subject, choices)} of {subject.picture.photo.name}.")
    show_details(subject, choices, maps, payload, options)


def choose_prediction(subject: Subject, choices: Choices) -> None:
    """Show the top classes with their probabilities; a click on a class explains it."""
    explained = select_class(subject, choices)
    offered = list(dict.fromkeys([*subject.order[:TOP], explained]))

    def form(index: int | None) -> list[str]:
        # A click on the class that is explained already leaves it.
        index = explained if index is None else index
        return [] if index == subject.top else [subject.titles[index]]

    def title(index: int) -> str:
        return f"{escape_markdown(subject.titles[index])} **{subject.chances[index]:.1%}**"

    start, forget = {"default": explained}, ["against", "channel"]
    bound = address.bind("prediction", explained, form, "target", forget, start=start)
    about = "The most probable classes; a click on a class explains it."
    st.pills("Prediction", offered, format_func=title, help=about, **bound)


def show_claim(choices: Choices, maps: Maps) -> None:
    """Say what was computed in which time, and offer all methods of one pass."""
    together = [maps[method] for method in maps if not method.own_passes]
    if together:
        count, seconds = len(together), max(made.cost.seconds for made in together)
        device = together[0].heatmap.device.type.upper()
        st.markdown(
            f"**{count} method{'s' * (count != 1)}** · one forward and one backward pass · "
            f"**{seconds:.2f} s** on {device}"
        )
    quick = method_picker.list_quick()
    if not {method.name for method in choices.methods} >= quick.keys():
        st.button(
            f"Show all {len(quick)} methods of this pass",
            icon=":material/grid_view:",
            on_click=address.write,
            args=({"methods": list(quick)},),
            help="They share one forward and one backward pass, and cost little more than one.",
        )
    present = present_view.start_presenting
    st.button("Present", icon=":material/present_to_all:", on_click=present, key="present_view")


def show_maps(
    subject: Subject,
    choices: Choices,
    maps: Maps,
    growing: list[GrowingMap],
    payload: dict[str, Any],
) -> None:
    """Show the image and each method's map in the viewer, also those that still grow."""
    for note in subject.picture.photo.notes:
        write_small(f"Your image: {note}.")
    # While maps grow this part is drawn again, and the rest of the page is not.
    look = st.fragment(look_into, run_every=POLL_SECONDS if growing else None)
    look(subject, choices, maps, growing, payload, address.read_selection())
    for attribution in maps.values():
        write_notes(attribution)


def look_into(
    subject: Subject,
    choices: Choices,
    maps: Maps,
    growing: list[GrowingMap],
    payload: dict[str, Any],
    selection: Selection,
) -> None:
    """Show the viewer, and what a selection in it is good for; that redraws this part alone."""
    address.redraw_if_changed(selection, LOOKING)
    payload = add_growing(payload, [method.name for method in choices.methods], growing)
    # What is selected on maps that change is taken along when they are done.
    region = show_viewer(payload, "viewer", on_region=None if growing else _note_region)
    perturb = partial(perturb_view.show_perturb, subject, choices, maps, region)
    controls.draw_lazily("Perturb and see", "auto_fix_high", "perturb", perturb)
    options = ViewerOptions(**payload["options"])
    channels = partial(channel_view.show_channels, subject, choices, region, options)
    controls.draw_lazily("Channels", "stacks", "channels", channels)


def _note_region() -> None:
    """Let a finished selection come to the server."""


def pack_maps(
    subject: Subject, choices: Choices, maps: Maps, options: ViewerOptions
) -> dict[str, Any]:
    """Pack the image and its maps for the viewer."""
    viewed = [
        view_attribution(attribution, captions=[method_maps.describe_cost(attribution)])
        for attribution in maps.values()
    ]
    label, stem = name_target(subject, choices), controls.name_file(subject.picture)
    return pack(subject.crop, viewed, label, options, stem)


def name_target(subject: Subject, choices: Choices) -> str:
    """Name what is explained."""
    label = subject.model.label(select_class(subject, choices))
    if choices.against is None:
        return label
    return f"{label}, not {subject.model.label(choices.against)}"


def select_class(subject: Subject, choices: Choices) -> int:
    """Return the class that is explained."""
    return subject.top if choices.target is None else choices.target


def show_details(
    subject: Subject,
    choices: Choices,
    maps: Maps,
    payload: dict[str, Any],
    options: ViewerOptions,
) -> None:
    """Show how the maps were made, and draw what looks closer: each in a box."""
    if maps:
        with st.container(horizontal=True, vertical_alignment="center"):
            downloads.offer_all(subject, maps, options)
            downloads.offer_record(subject, maps)
            offer_view(payload, name_target(subject, choices))
        controls.draw_lazily("Details", "info", "details", method_maps.show_facts, maps)
        look_through = partial(layer_slider.look_through, subject, choices, options)
        controls.draw_lazily("Layer sweep", "layers", "through", look_through)
    show_live = partial(live_view.show_live, subject, choices.target, choices.layer)
    controls.draw_lazily("Live: a clip or the camera", "videocam", "live", show_live)
    # Of what is shown: a method that does not run here would end the copied call.
    drawn = replace(choices, methods=tuple(maps))
    code = partial(write_explaining, drawn, subject.picture, subject.top)
    controls.draw_code(lambda: code(options))


main(address.read_selection())
