"""Explore one picture: what each method says about one class."""

from cam.pages.ui.server import router

router.require()

from dataclasses import replace
from functools import partial

import streamlit as st
from torch import Tensor

import cam
from cam._methods.trust import find_trust
from cam._output.explanation_files import png_bytes
from cam.pages.ui.charts.bars import draw_probability
from cam.pages.ui.charts.colours import draw_color_bars
from cam.pages.ui.charts.display import Display
from cam.pages.ui.explore import background_maps, downloads, layer_slider, value_inspector
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Choices, MethodChoice
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls, method_picker
from cam.pages.ui.widgets.display_form import choose_display
from cam.pages.ui.widgets.prose import (
    as_sentence,
    escape_markdown,
    show_png,
    write_facts,
    write_notes,
    write_small,
)
from cam.pages.ui.widgets.python_code import write_explaining
from cam.types import Attribution

TOP = 5
MAPS_A_ROW = 4

Maps = dict[MethodChoice, Attribution]


def main() -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    st.title("Explore", anchor=False)
    st.markdown(
        "See which parts of a picture speak for a class: **Grad-CAM** shows the region, coarse and "
        "steady; the **saliency map** shows single pixels, fine and noisy."
    )
    subject = subject_form.choose_subject()
    if subject is None:
        return
    with st.sidebar:
        target = subject_form.choose_target(subject)
        against = subject_form.choose_against(subject, target)
        layer = subject_form.choose_layer(subject.model)
        methods = method_picker.choose_methods()
    if not methods:
        st.info("Choose at least one method in the sidebar.")
    choices = Choices(subject.choice, tuple(methods), target, layer, against)
    show(subject, choices, explain(choices, subject))


def explain(choices: Choices, subject: Subject) -> Maps:
    """Return the maps that are there; of the others draw why they are not, or how far."""
    quick = tuple(method for method in choices.methods if not method.own_passes)
    slow = [method for method in choices.methods if method.own_passes]
    together = replace(choices, methods=quick)
    results = resources.explain_each(together, subject.top, subject.picture) if quick else {}
    maps = {method: result for method, result in results.items() if isinstance(result, Attribution)}
    failing: dict[str, list[str]] = {}
    for method, result in results.items():
        if isinstance(result, cam.CamError):
            failing.setdefault(as_sentence(result), []).append(method.info.title)
    for sentence, titles in failing.items():
        st.error(f"{', '.join(titles)}: {sentence}")
    maps |= background_maps.explain_slowly(choices, subject, slow)
    return {method: maps[method] for method in choices.methods if method in maps}


@st.fragment
def show(subject: Subject, choices: Choices, maps: Maps) -> None:
    """Show maps, predictions, and what looks closer; opacity and colours redraw this alone."""
    pictures, facts, boxes = (st.container() for _ in range(3))
    # First what is quick: a click on a class ends this and begins the page anew.
    with facts:
        left, right = st.columns([3, 2], gap="large")
        with left:
            show_predictions(subject, choices)
        if maps:
            with right:
                show_facts(subject, maps)
    if maps:
        with pictures:
            display = choose_display()
            show_maps(subject, choices, maps, display)
        with boxes:
            look_closer(subject, choices, maps, display)


def show_maps(subject: Subject, choices: Choices, maps: Maps, display: Display) -> None:
    """Show the photo, and each method's heatmap over it."""
    photo, model, crop = subject.picture.photo, subject.model, subject.crop
    label = model.label(select_class(subject, choices))
    if choices.against is not None:
        label = f"{label}, not {model.label(choices.against)}"
    # Side by side, nine maps would be stamps.
    columns = controls.make_cells(1 + len(maps), MAPS_A_ROW)
    # The titles stand below, so that the pictures of a row begin at one height.
    with columns[0]:
        show_png(png_bytes(crop), f"The part of {photo.name} that it is shown")
        st.markdown("**What the model sees**")
        for note in photo.notes:
            write_small(f"Your picture: {note}.")
    files = {}
    for column, (method, attribution) in zip(columns[1:], maps.items(), strict=True):
        info = method.info
        content = png_bytes(display.overlay(crop, attribution))
        files[f"{info.name}.png"] = content
        with column:
            show_png(content, f"{info.title} heatmap for {label}")
            st.markdown(f"**{info.title}** for {escape_markdown(label)}")
            write_small(controls.describe_method(info))
            if trust := find_trust(info.name):
                write_small(trust.sentence)
            write_small(describe_cost(attribution))
            write_notes(attribution)
            downloads.offer_map(subject, content, attribution)
    show_legends(display, maps)
    downloads.offer_all(subject, maps, files)


def look_closer(subject: Subject, choices: Choices, maps: Maps, display: Display) -> None:
    """Draw what costs more than everybody needs: each in a box."""
    show_values = partial(value_inspector.show_values, subject, maps, display)
    controls.draw_lazily("Inspect values, draw a box", "colorize", "inspect", show_values)
    look_through = partial(layer_slider.look_through, subject, choices, display)
    controls.draw_lazily("Through the depth of the network", "layers", "through", look_through)
    # Of what is shown: a method that does not run here would end the copied call.
    drawn = replace(choices, methods=tuple(maps))
    controls.draw_code(partial(write_explaining, drawn, subject.picture, subject.top, display))


def select_class(subject: Subject, choices: Choices) -> int:
    """Return the class that is explained."""
    return subject.top if choices.target is None else choices.target


def show_legends(display: Display, maps: Maps) -> None:
    """Show what the colours mean, of both kinds of map if both are there."""
    signs = [display.select_values(attribution)[1] for attribution in maps.values()]
    st.html(draw_color_bars(display.colormap, signs))


def describe_cost(attribution: Attribution) -> str:
    """Describe what a map took."""
    cost = attribution.cost
    passes = ((cost.forwards, "forward"), (cost.backwards, "backward"))
    parts = [f"{count:,} {name}{'s' * (count != 1)}" for count, name in passes if count]
    return f"{' and '.join(parts)}, {cost.seconds:.2f} s"


def show_predictions(subject: Subject, choices: Choices) -> None:
    """Show the top classes as bars; a click on a class explains it."""
    explained_class = select_class(subject, choices)
    st.header("Predictions", anchor=False)
    write_small("Click a class to explain it.")
    for index in dict.fromkeys([*subject.order[:TOP], explained_class]):
        highlighted = index == explained_class
        with st.container(horizontal=True, vertical_alignment="center"):
            clicked = st.button(
                escape_markdown(subject.titles[index]),
                f"class-{index}",
                on_click=st.session_state.update,
                kwargs={"target": subject.titles[index]},
                type="secondary" if highlighted else "tertiary",
                width=160,
            )
            st.html(draw_probability(float(subject.chances[index]), highlighted), width="stretch")
        if clicked:
            # All of the page, and not only this part of it.
            st.rerun()


def show_facts(subject: Subject, maps: Maps) -> None:
    """Show how the maps were made."""
    st.header("How it was made", anchor=False)
    first = next(iter(maps.values()))
    kind = "raw logit" if isinstance(first.targets, Tensor) else "difference of two raw logits"
    lines = [f"Score explained: {float(first.scores[0]):.3f} ({kind})"]
    together = [maps[method].cost.seconds for method in maps if not method.own_passes]
    if together:
        device = first.heatmap.device.type.upper()
        lines.append(
            f"One forward and one backward pass for {len(together)} "
            f"method{'s' * (len(together) != 1)}: {max(together) * 1000:.0f} ms on {device}"
        )
    # All of them look at the same layers.
    at_layers = next((attribution for attribution in maps.values() if attribution.layers), None)
    if at_layers is not None:
        height, width = at_layers.raw.shape[1:]
        layers = ", ".join(f"`{layer}`" for layer in at_layers.layers)
        lines.append(f"Layer {layers}, {height} × {width} positions")
    write_facts(*lines)
    downloads.offer_record(subject, maps)


main()
