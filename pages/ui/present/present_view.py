"""Present an image with two large maps in full screen."""

from pathlib import Path
from typing import Any

import streamlit as st

import cam
from cam._media.images import SAMPLES
from cam._performance import speed
from cam._performance.recorded_speeds import read_recordings
from cam.pages.ui.live.components import get_component
from cam.pages.ui.live.frames import encode_image, pack_colours, quantise
from cam.pages.ui.performance.estimates import write_interval, write_median, write_percent
from cam.pages.ui.performance.panels import write_date
from cam.pages.ui.server import resources
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import Choices, MethodChoice
from cam.pages.ui.state.selection import (
    DEFAULT_METHODS,
    FIRST_SAMPLE,
    OF_IMAGE,
    SAMPLE,
    ImageName,
    Selection,
)
from cam.pages.ui.state.visitor import read_widget
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import method_picker
from cam.pages.ui.widgets.controls import SAMPLE_TITLES
from cam.pages.ui.widgets.links import read_switch
from cam.pages.ui.widgets.prose import as_sentence

NAME = "present"
MAPS = 2
QUALITY = 92
_KEY = "present_stage"
_SCRIPT = Path(__file__).with_name("present.js")


def start_presenting() -> None:
    """Turn the page that is open into a presentation: for a button's ``on_click``."""
    address.write({NAME: ["true"]})


def show_present(selection: Selection) -> bool:
    """Present what is chosen, if the address asks for it with ``present=true``.

    Two maps of the image, as those of the first two methods that are chosen, its class, and the
    speed. Arrow keys go to other images, Escape leaves.

    Returns:
        Whether it presents: nothing else of the page is then to be drawn.
    """
    if not read_switch(NAME, False):
        return False
    subject = subject_form.choose_subject(selection)
    if subject is not None:
        with st.sidebar:
            target = subject_form.choose_target(subject)
            against = subject_form.choose_against(subject, target)
            layer = subject_form.choose_layer(subject.model)
            methods = method_picker.choose_methods(selection)
        quick = [method for method in methods if not method.own_passes]
        methods = quick[:MAPS] or [MethodChoice(name) for name in DEFAULT_METHODS]
        choices = Choices(subject.choice, tuple(methods), target, layer, against)
        get_component(_SCRIPT)(
            key=_KEY,
            data=_describe(selection, subject, choices),
            on_move_change=_move,
            on_leave_change=_leave,
        )
    return True


def _leave() -> None:
    address.write({NAME: None})


def _move() -> None:
    """Go to the next sample, or the one before."""
    step = (read_widget(_KEY) or {}).get("move")
    names = list(SAMPLES)
    image = address.read_selection().image
    at = names.index(image.name) if image.source == SAMPLE and image.name in names else -1
    name = names[(at + (-1 if step == "back" else 1)) % len(names)]
    values = None if name == FIRST_SAMPLE else [str(ImageName(SAMPLE, name))]
    address.write({"image": values}, OF_IMAGE)


def _describe(selection: Selection, subject: Subject, choices: Choices) -> dict[str, Any]:
    """Describe what is presented, for the browser."""
    titles = subject.titles
    explained = subject.top if choices.target is None else choices.target
    label, probability = titles[explained], float(subject.chances[explained])
    if choices.against is not None:
        label = f"{label}, not {titles[choices.against]}"
    results = resources.explain_each(choices, subject.top, subject.picture)
    maps, seconds, problems = [], [], []
    for method, result in results.items():
        title = method.info.title
        try:
            if isinstance(result, cam.CamError):
                raise result
            values, signed = result.picture()
            codes = quantise(values[:1], method.info.percentile, signed)[0]
        except cam.CamError as error:
            problems.append(f"{title}: {as_sentence(error)}")
            continue
        seconds.append(result.cost.seconds)
        maps.append({"title": title, "map": encode_image(codes), "signed": signed})
    image = selection.image
    return {
        "tables": pack_colours(),
        "image": encode_image(subject.crop, "JPEG", quality=QUALITY),
        "name": SAMPLE_TITLES.get(image.name, "") if image.source == SAMPLE else "",
        "label": label,
        "probability": None if choices.against is not None else probability,
        "maps": maps,
        "problem": " ".join(problems),
        "figures": [*_measure(len(maps), seconds), *_recorded()],
    }


def _measure(count: int, seconds: list[float]) -> list[tuple[str, str]]:
    if not seconds:
        return []
    maps = f"{count} map{'s' * (count > 1)} of this image, on this server"
    return [(f"{max(seconds):.2f} s", maps)]


def _recorded() -> list[tuple[str, str]]:
    """Return the recorded figures of the fastest kind of device, at its smallest batch."""
    for recording in read_recordings():
        if not recording.races:
            continue
        size = min(recording.races)
        race = recording.races[size]
        mine, plain = race.speeds.get(speed.OURS), race.speeds.get(speed.INFERENCE)
        if mine is None or plain is None:
            continue
        each, share = mine.images_per_second, mine.relative_to(plain)
        origin = f"{recording.device}, {write_date(recording.date)}"
        return [
            (
                write_median(each),
                f"images/s with Grad-CAM{write_interval(each)}; batch of {size}; {origin}",
            ),
            (write_percent(share), f"of plain inference's images/s{write_interval(share, 100)}"),
        ]
    return []
