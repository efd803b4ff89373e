"""Explore one picture: what each method says about one class."""

from cam.pages.ui.server import router

router.require()

from dataclasses import replace

import streamlit as st
from torch import Tensor

import cam
from cam._output.explanation_files import npz_bytes, png_bytes
from cam.pages.ui.explore import background_maps, downloads, layer_slider, value_inspector
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Asked, Choices
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import charts, controls, method_picker
from cam.pages.ui.widgets.controls import Display
from cam.pages.ui.widgets.html_charts import SIGNED
from cam.pages.ui.widgets.text import small

TOP = 5
MAPS_A_ROW = 4


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
        target = subject_form.choose_target(subject.model, subject.order)
        against = subject_form.choose_against(subject.model, subject.order, target)
        layer = subject_form.choose_layer(subject.model)
        asked = method_picker.choose_methods()
    if not asked:
        st.info("Choose at least one method in the sidebar.")
    choices = Choices(subject.name, subject.trained, tuple(asked), target, layer, against)
    show(subject, choices, explain(choices, subject))


def explain(choices: Choices, subject: Subject) -> dict[Asked, cam.Attribution]:
    """What is there of the maps, in the order asked for; of the others why, or how far they are."""
    quick = tuple(asked for asked in choices.methods if not asked.own_passes)
    found = at_once(replace(choices, methods=quick), subject) if quick else {}
    alone = [asked for asked in choices.methods if asked.own_passes]
    found |= background_maps.explain(choices, subject, alone)
    return {asked: found[asked] for asked in choices.methods if asked in found}


def at_once(choices: Choices, subject: Subject) -> dict[Asked, cam.Attribution]:
    """Explain in shared passes; what is in the way of some methods is told, and the rest shown."""
    try:
        maps = resources.explain(
            choices, subject.order[0], subject.picture.digest, subject.picture
        ).maps
    except cam.CamError as error:
        in_the_way = _troubled(error, choices.methods)
        names = ", ".join(asked.info.title for asked in in_the_way)
        st.error(f"{names}: {controls.sentence(error)}")
        rest = tuple(asked for asked in choices.methods if asked not in in_the_way)
        return at_once(replace(choices, methods=rest), subject) if rest else {}
    return dict(zip(choices.methods, maps.values(), strict=True))


def _troubled(error: cam.CamError, asked: tuple[Asked, ...]) -> list[Asked]:
    """Whose error it is: those that look at a layer, or at attention, or all."""
    if isinstance(error, cam.LayerError):
        at_layers = [one for one in asked if one.info.layer]
        return at_layers or list(asked)
    with_attention = [one for one in asked if one.info.attention]
    return with_attention or list(asked)


@st.fragment
def show(subject: Subject, choices: Choices, found: dict[Asked, cam.Attribution]) -> None:
    """Maps, predictions, and what looks closer; opacity and colours redraw this part alone."""
    maps, facts, boxes = (st.container() for _ in range(3))
    # First what is quick: a click on a class ends this and begins the page anew.
    with facts:
        left, right = st.columns([3, 2], gap="large")
        with left:
            show_predictions(subject, choices)
        if found:
            with right:
                show_facts(subject, found)
    if found:
        with maps:
            display = controls.choose_display()
            show_maps(subject, choices, found, display)
        with boxes:
            look_closer(subject, choices, found, display)


def show_maps(
    subject: Subject, choices: Choices, found: dict[Asked, cam.Attribution], display: Display
) -> None:
    """The photo, and each method's heatmap over it."""
    picture, model = subject.picture, subject.model
    label = model.label(explained(subject, choices))
    if choices.against is not None:
        label = f"{label}, not {model.label(choices.against)}"
    seen = resources.seen(subject.name, subject.trained, picture.digest, picture)
    # Side by side, nine maps would be stamps.
    columns = controls.cells(1 + len(found), MAPS_A_ROW)
    # The titles stand below, so that the pictures of a row begin at one height.
    with columns[0]:
        controls.show_png(png_bytes(seen), f"The part of {picture.photo.name} that it is shown")
        st.markdown("**What the model sees**")
        for note in picture.photo.notes:
            small(f"Your picture: {note}.")
    files = {}
    for column, (asked, attribution) in zip(columns[1:], found.items(), strict=True):
        info = asked.info
        content = png_bytes(display.over(seen, attribution))
        files[f"{info.name}.png"] = content
        with column:
            controls.show_png(content, f"{info.title} heatmap for {label}")
            st.markdown(f"**{info.title}** for {controls.plain(label)}")
            small(controls.description(info))
            small(cost(attribution))
            for _, note in attribution.notes():
                st.warning(controls.sentence(note))
            offer_downloads(f"{controls.stem(picture)}.{info.name}", content, attribution)
    show_legends(display, found)
    downloads.offer_all(subject, found, files)


def look_closer(
    subject: Subject, choices: Choices, found: dict[Asked, cam.Attribution], display: Display
) -> None:
    """What costs more to draw than everybody needs: each in a box."""
    picture = subject.picture
    seen = resources.seen(subject.name, subject.trained, picture.digest, picture)
    if box := controls.lazy_box("Inspect values, draw a box", ":material/colorize:", "inspect"):
        with box:
            value_inspector.show_values(subject, seen, found, display)
    if box := controls.lazy_box("Through the depth of the network", ":material/layers:", "through"):
        with box:
            layer_slider.look_through(subject, choices, seen, display)
    if box := controls.lazy_box("Copy as Python", ":material/code:", "code"):
        with box:
            # Of what is shown: a method that does not run here would end the copied call.
            shown = replace(choices, methods=tuple(found))
            code = controls.as_python(shown, picture, subject.order[0], display)
            st.code(code, language="python", wrap_lines=True)


def explained(subject: Subject, choices: Choices) -> int:
    """The class that is explained."""
    return subject.order[0] if choices.target is None else choices.target


def show_legends(display: Display, found: dict[Asked, cam.Attribution]) -> None:
    """What the colours mean, of both kinds of map if both are there."""
    kinds = {display.values(attribution)[1] for attribution in found.values()}
    if False in kinds:
        st.html(charts.color_bar(display.colormap))
    if True in kinds:
        st.html(charts.color_bar(SIGNED, ("against the class", "for it")))


def cost(attribution: cam.Attribution) -> str:
    """What a map took."""
    spent = attribution.cost
    parts = [
        f"{count:,} {name}{'s' * (count != 1)}"
        for count, name in ((spent.forwards, "forward"), (spent.backwards, "backward"))
        if count
    ]
    return f"{' and '.join(parts)}, {spent.seconds:.2f} s"


def offer_downloads(stem: str, content: bytes, attribution: cam.Attribution) -> None:
    """The picture as it is shown, and the arrays behind it."""
    with st.container(horizontal=True):
        st.download_button(
            "PNG",
            content,
            f"{stem}.png",
            "image/png",
            key=f"png-{attribution.method}",
            on_click="ignore",
            icon=":material/download:",
            help="The picture as it is shown.",
        )
        st.download_button(
            "NPZ",
            lambda: npz_bytes(attribution, 0),
            f"{stem}.npz",
            "application/octet-stream",
            key=f"npz-{attribution.method}",
            on_click="ignore",
            icon=":material/download:",
            help="NumPy arrays: the heatmap, and the raw map at the layer's resolution.",
        )


def show_predictions(subject: Subject, choices: Choices) -> None:
    """The top classes as bars; a click on a class explains it."""
    chosen = explained(subject, choices)
    st.header("Predictions", anchor=False)
    chances = subject.chances
    options = controls.class_options(subject.model.labels, len(chances))
    small("Click a class to explain it.")
    top = subject.order[:TOP]
    shown = top if chosen in top else [*top, chosen]
    for index in shown:
        with st.container(horizontal=True, vertical_alignment="center"):
            clicked = st.button(
                controls.plain(options[index]),
                key=f"class-{index}",
                type="secondary" if index == chosen else "tertiary",
                width=160,
                on_click=controls.take_class,
                args=(options[index],),
            )
            st.html(charts.bar(float(chances[index]), index == chosen), width="stretch")
        if clicked:
            # All of the page, and not only this part of it.
            st.rerun()


def show_facts(subject: Subject, found: dict[Asked, cam.Attribution]) -> None:
    """How the maps were made."""
    st.header("How it was made", anchor=False)
    first = next(iter(found.values()))
    kind = "raw logit" if isinstance(first.targets, Tensor) else "difference of two raw logits"
    lines = [f"Score explained: {float(first.scores[0]):.3f} ({kind})"]
    shared = [one for asked, one in found.items() if not asked.own_passes]
    if shared:
        seconds = max(one.cost.seconds for one in shared)
        device = first.heatmap.device.type.upper()
        lines.append(
            f"One forward and one backward pass for {len(shared)} "
            f"method{'s' * (len(shared) != 1)}: {seconds * 1000:.0f} ms on {device}"
        )
    at_layers = [one for one in found.values() if one.layers]
    for one in at_layers[:1]:  # all of them look at the same
        height, width = one.raw.shape[1:]
        layers = ", ".join(f"`{layer}`" for layer in one.layers)
        lines.append(f"Layer {layers}, {height} × {width} positions")
    st.markdown("\n".join(f"- {line}" for line in lines))
    st.download_button(
        "JSON",
        lambda: downloads.record_bytes(subject, found),
        f"{controls.stem(subject.picture)}.json",
        "application/json",
        on_click="ignore",
        icon=":material/download:",
        help="The record: predictions, target, layer, methods and versions.",
    )


main()
