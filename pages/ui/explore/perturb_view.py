"""Change a part of the image and see the prediction move."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

import cam
from cam._media.edits import Edit, pack_mask, select_hottest
from cam._output.explanation_files import png_bytes
from cam._output.viewer.region import Region
from cam.pages.ui.charts.tables import draw_table
from cam.pages.ui.server import resources
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import Choices, MethodChoice
from cam.pages.ui.subject import edited_picture
from cam.pages.ui.subject.random_parts import DRAWS, change_random_parts
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.controls import SAMPLE_TITLES, name_file, offer_file
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import escape_markdown, write_small

SHARE = 0.2
WAYS = {
    "blur": ("Blur", "blur_on"),
    "erase": ("Erase", "ink_eraser"),
    "grey": ("Paint over", "format_paint"),
}
# Of the grid on which a part's share of the image is measured.
SIDE = 256
RANDOM = "of random parts"
Maps = dict[MethodChoice, cam.Attribution]


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model says of an image: raw scores and probabilities, (classes,) float32 each."""

    logits: np.ndarray
    chances: np.ndarray


def show_perturb(subject: Subject, choices: Choices, maps: Maps, region: Region | None) -> None:
    """Offer changes of the selected part, and measure those that were made."""
    edits = subject.edits
    write_small(
        "Select a part of the image above with the box or the brush, and change it. What matters "
        "to the model moves the score; what a map shows should matter."
    )
    explained = subject.top if choices.target is None else choices.target
    _offer_changes(subject, explained, edits, region)
    _offer_hottest(subject, explained, edits, maps)
    if edits:
        _show_effects(subject, choices, explained, edits)
    else:
        write_small("Nothing is changed yet.")


def _offer_changes(
    subject: Subject, explained: int, edits: Sequence[str], region: Region | None
) -> None:
    """Draw a button for each way to change the selected part."""
    part = None if region is None else _write_part(region)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for way, (label, icon) in WAYS.items():
            _draw_button(label, icon, subject, explained, part and Edit(way, part))
        source = choose("Paste from", SAMPLE_TITLES, "paste", "sample image", width=160)
        edit = part and Edit("paste", part, source)
        _draw_button("Paste", "content_paste", subject, explained, edit)
    if part is None:
        write_small("No part is selected.")


def _write_part(region: Region) -> str:
    """Write a region as an edit does."""
    if region.box is None:
        return pack_mask(region.mask)
    height, width = region.mask.shape
    left, top, right, bottom = region.box
    sides = (left / width, top / height, right / width, bottom / height)
    return "box-" + "-".join(str(round(1000 * side)) for side in sides)


def _offer_hottest(subject: Subject, explained: int, edits: Sequence[str], maps: Maps) -> None:
    """Offer to erase where a map is highest, a random part, and the way back."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if maps:
            titles = {method.name: method.info.title for method in maps}
            name = choose("Map", titles, "hottest", "method", width=180)
            [heatmap] = [made.heatmap[0] for method, made in maps.items() if method.name == name]
            mask = select_hottest(heatmap.cpu().numpy(), SHARE)
            part = pack_mask(mask) if mask.any() else None
            label, edit = f"Erase its hottest {SHARE:.0%}", part and Edit("erase", part)
            _draw_button(label, "local_fire_department", subject, explained, edit)
        edit = Edit("erase", f"random-{SHARE * 100:.0f}-{len(edits)}")
        label = f"Erase a random {SHARE:.0%}"
        _draw_button(label, "casino", subject, explained, edit)
        for label, icon, rest in (
            ("Undo", "undo", list(edits[:-1])),
            ("Restore the image", "restart_alt", []),
        ):
            st.button(
                label,
                icon=f":material/{icon}:",
                disabled=not edits,
                on_click=address.write,
                args=({"edit": rest or None},),
            )


def _draw_button(
    label: str, icon: str, subject: Subject, explained: int, edit: Edit | str | None
) -> None:
    st.button(
        label,
        icon=f":material/{icon}:",
        disabled=not edit or len(subject.edits) >= edited_picture.MOST,
        on_click=_change,
        args=(str(edit), subject.titles[explained]),
    )


def _change(edit: str, title: str) -> None:
    """Make one more change: after those that are there by then, as two clicks may come at once."""
    edits = edited_picture.list_possible(address.read_selection().edits)
    # The class that is explained stays, also where another one becomes the most probable.
    address.write({"edit": [*edits, edit], "target": [title]})


def _show_effects(subject: Subject, choices: Choices, explained: int, edits: Sequence[str]) -> None:
    """Show what the changes do to the score, beside what the maps say of the part."""
    before, after = _read_scores(subject, ()), _read_scores(subject, tuple(edits))

    def score(values: Scores) -> float:
        # Of a contrast the maps explain the difference, and so does the figure beside them.
        against = 0.0 if choices.against is None else float(values.logits[choices.against])
        return float(values.logits[explained]) - against

    label = escape_markdown(subject.model.label(explained))
    scored = label
    if choices.against is not None:
        scored += f", not {escape_markdown(subject.model.label(choices.against))}"
    with st.container(horizontal=True):
        for title, old, new, form in (
            (f"Probability of {label}", before.chances[explained], after.chances[explained], ".1%"),
            (f"Score of {scored}", score(before), score(after), ".2f"),
        ):
            st.metric(title, f"{new:{form}}", f"{new - old:+{form}}", border=True)
        top = int(after.chances.argmax())
        now = escape_markdown(subject.model.label(top))
        st.metric(
            "Prediction now",
            now,
            f"{after.chances[top]:.1%}",
            "off",
            border=True,
            delta_arrow="off",
        )
    maps = _explain_original(subject, choices, explained)
    rows = []
    seconds = 0.0
    for number, text in enumerate(edits, start=1):
        alone = _read_scores(subject, (text,))
        part = Edit.parse(text)
        masks = [part.draw_mask(*made.heatmap.shape[1:]) for made in maps.values()]
        covered = float(part.draw_mask(SIDE, SIDE).mean())
        percent = max(1, round(100 * covered))
        drawn = change_random_parts(
            subject.choice, subject.original, part.way, part.source, percent
        )
        seconds += drawn.seconds
        moved = drawn.logits[:, explained]
        if choices.against is not None:
            moved = moved - drawn.logits[:, choices.against]
        rows.append(
            [
                f"{number}. {_describe(part)}",
                f"{covered:.0%}",
                *map(_write_share, maps.values(), masks),
                f"{score(alone) - score(before):+.2f}",
                f"{moved.mean():+.2f} ± {moved.std(ddof=1):.2f}",
                f"{alone.chances[explained] - before.chances[explained]:+.1%}",
                _write_spread(100 * drawn.chances[:, explained]),
            ]
        )
    heads = ["Change, alone", "of the image"]
    heads += [f"of {method.info.title}" for method in maps]
    heads += ["score", RANDOM, "probability", RANDOM]
    st.html(draw_table(heads, rows, "What each change does"))
    passes = (DRAWS + 1) * len(rows)
    write_small(
        "A map that points at what the model uses has a larger share of its evidence in a part "
        "than the part has of the image, and changing that part costs more of the score than "
        f"changing random ones. Those are {DRAWS} random parts as large as the changed one, each "
        "changed alone and in the same way: their mean ± standard deviation. They took "
        f"{passes} forward passes, {seconds:.1f} s."
    )
    name = f"{name_file(subject.picture)}.edited.png"
    write = subject.picture.photo.image
    offer_file("Edited image", lambda: png_bytes(write), name, "image/png")


def _read_scores(subject: Subject, edits: tuple[str, ...]) -> Scores:
    """Return scores and probabilities of the image with these changes."""
    choice = subject.choice
    picture = edited_picture.edit_picture(choice, subject.original, edits)
    return Scores(resources.score(choice, picture), resources.predict(choice, picture))


def _explain_original(subject: Subject, choices: Choices, explained: int) -> Maps:
    """Explain the image as it was before it was changed, by the methods of the page."""
    quick = tuple(method for method in choices.methods if not method.own_passes)
    first = quick or (MethodChoice("gradcam"),)
    original = Choices(choices.model, first, explained, choices.layer, choices.against)
    results = resources.explain_each(original, subject.top, subject.original)
    return {
        method: result for method, result in results.items() if isinstance(result, cam.Attribution)
    }


def _write_spread(percents: np.ndarray) -> str:
    return f"{percents.mean():+.1f}% ± {percents.std(ddof=1):.1f}%"


def _write_share(attribution: cam.Attribution, mask: np.ndarray) -> str:
    """Write the share of a map's evidence in a part; a dash where it has none."""
    heatmap = attribution.heatmap[0].double().cpu().numpy()
    total = float(heatmap.sum())
    return f"{float(heatmap[mask].sum()) / total:.0%}" if total > 0 else "–"


def _describe(edit: Edit) -> str:
    """Describe a change in words."""
    kind = edit.part.partition("-")[0]
    where = {"box": "a box", "grid": "an area", "random": "random cells"}[kind]
    if edit.way == "paste":
        return f"{SAMPLE_TITLES[edit.source]} pasted into {where}"
    return f"{WAYS[edit.way][0]} {where}"
