"""Ask about places: by a click, a drawn box, a list."""

from functools import partial

import streamlit as st

from cam._models.tasks.detections import Detections
from cam._models.tasks.segmentation import Segmentation
from cam._output.target_names import name_target
from cam._output.viewer.marks import MarkedBox, Marks, Pick
from cam._output.viewer.region import Region
from cam._targets.spelling import read_target
from cam.pages.ui.explore.places.answers import (
    MOST_DETECTIONS,
    PlaceSubject,
    Question,
    count_detections,
    mask_of,
    name_detection,
)
from cam.pages.ui.state import address
from cam.pages.ui.widgets import links
from cam.pages.ui.widgets.prose import escape_markdown, write_small
from cam.targets import Segment

LEAST = 0.5
REGION, PIXEL = "region", "pixel"
# Of a legend; what is smaller is in the list.
MOST_LISTED = 12
MOST_PILLS = 12


def choose_least(subject: PlaceSubject) -> int:
    """Choose from which score on detections are shown; returns how many are."""
    assert isinstance(subject.answer, Detections)
    about = "Detections with a lower score are neither drawn nor listed."
    least = links.choose_share("Score above", 0.05, 0.95, LEAST, 0.05, "least", help=about)
    return count_detections(subject.answer, least)


def choose_click() -> str:
    """Choose what a click on a segmented image asks about."""
    titles = {REGION: "Region", PIXEL: "Pixel"}
    about = "The connected region of the class that is clicked, or that pixel alone."
    return links.choose("A click asks about", titles, "click", "part", segments=True, help=about)


def list_answers(subject: PlaceSubject, count: int, question: Question) -> None:
    """List what can be asked about, for the keyboard too; a choice explains it."""
    answer = subject.answer
    if isinstance(answer, Detections):
        titles = {
            name_detection(number): _title_detection(subject, number)
            for number in range(1, count + 1)
        }
        value = None if question.number is None else name_detection(question.number)
        label, first = "Detections", name_detection(1)
    else:
        titles = {
            f"segment:{index}": f"{subject.title(index)} **{answer.share(index):.1%}**"
            for index in answer.classes
        }
        value = question.text if question.text in titles else None
        label, first = "Segments", next(iter(titles), "")
    if not titles:
        return

    def form(option: str | None) -> list[str]:
        # A click on what is explained already leaves it.
        option = value if option is None else option
        return [] if option in (None, first) else [str(option)]

    start = {} if value is None else {"default": value}
    bound = address.bind("places", value, form, "target", start=start)
    about = f"A click here, or on the image, explains it; the first {MOST_DETECTIONS} are listed."
    if len(titles) <= MOST_PILLS:
        st.pills(label, list(titles), format_func=titles.__getitem__, help=about, **bound)
        return
    bound.pop("default", None)
    index = None if value is None else list(titles).index(value)
    plain = {name: title.replace("**", "").replace("\\", "") for name, title in titles.items()}
    st.selectbox(label, list(titles), index, plain.__getitem__, help=about, **bound)


def _title_detection(subject: PlaceSubject, number: int) -> str:
    assert isinstance(subject.answer, Detections)
    label = subject.title(int(subject.answer.labels[number - 1]))
    return f"{number}: {escape_markdown(label)} **{float(subject.answer.scores[number - 1]):.0%}**"


def mark_answer(subject: PlaceSubject, count: int, question: Question) -> Marks:
    """Lay the answer over the image, for the viewer."""
    answer = subject.answer
    if isinstance(answer, Segmentation):
        names = {index: subject.title(index) for index in answer.classes[:MOST_LISTED]}
        return Marks(_mark_question(subject, question), mask_of(answer), names)
    height, width = subject.size
    boxes = list(_mark_question(subject, question))
    for number, sides in enumerate(answer.boxes[:count].tolist(), start=1):
        left, top, right, bottom = sides
        score = float(answer.scores[number - 1])
        boxes.append(
            MarkedBox(
                name_detection(number),
                f"{number}: {subject.title(int(answer.labels[number - 1]))} {score:.0%}",
                (left / width, top / height, right / width, bottom / height),
                number == question.number,
            )
        )
    return Marks(tuple(boxes))


def _mark_question(subject: PlaceSubject, question: Question) -> tuple[MarkedBox, ...]:
    """Mark the pixel or the box that was asked about and is no detection."""
    target = None if question.text is None else read_target(question.text)
    if target is None or question.number is not None:
        return ()
    sides = target.at if isinstance(target, Segment) else target.box
    if sides is None:
        return ()
    left, top, *ends = (float(side) for side in sides)
    right, bottom = ends or (left + 1, top + 1)
    height, width = subject.size
    shares = (left / width, top / height, right / width, bottom / height)
    # Without a name it is not picked: what is below it is.
    return (MarkedBox("", name_target(target, subject.title), shares, explained=True),)


def take_pick(subject: PlaceSubject, part: str, pick: Pick) -> None:
    """Write what was clicked into the address."""
    if pick.name:
        address.write({"target": [pick.name] if pick.name != name_detection(1) else None})
        return
    answer = subject.answer
    if isinstance(answer, Detections):
        return
    height, width = subject.size
    column = min(int(pick.x * width), width - 1)
    row = min(int(pick.y * height), height - 1)
    index = int(answer.mask[row, column])
    if index >= 0:
        kind = "region" if part == REGION else "segment"
        address.write({"target": [f"{kind}:{index}@{column},{row}"]})


def offer_box(subject: PlaceSubject, region: Region | None, grid: tuple[int, int]) -> None:
    """Offer to ask about the box that is drawn: a missed object, or a class there.

    Args:
        subject: The image with its answer.
        region: What is selected in the viewer.
        grid: (width, height) of the grid that it is selected on.
    """
    missed = isinstance(subject.answer, Detections)
    what = "an object that is missed" if missed else "a class in a part"
    if region is None or region.box is None:
        write_small(f"To ask about {what}, draw a box on the image with the box tool.")
        return
    height, width = subject.size
    left, top, right, bottom = (
        side * size / cells
        for side, size, cells in zip(
            region.box, (width, height) * 2, (grid[0], grid[1]) * 2, strict=True
        )
    )
    sides = ",".join(f"{side:.6g}" for side in (left, top, right, bottom))
    options = _list_classes(subject, (left, top, right, bottom))
    if not options:
        write_small("No class wins in the box.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = "Class that should be there" if missed else "Class in the box"
        index = st.selectbox(label, options, format_func=subject.title, key="box_class", width=260)
        kind = "missed" if missed else "segment"
        st.button(
            "Why is it missed?" if missed else "Explain it in the box",
            icon=":material/search:",
            on_click=partial(address.write, {"target": [f"{kind}:{index}@{sides}"]}),
        )


def _list_classes(subject: PlaceSubject, box: tuple[float, ...]) -> list[int]:
    """List the classes that may be asked for in a box."""
    answer = subject.answer
    if isinstance(answer, Segmentation):
        left, top, right, bottom = (round(side) for side in box)
        part = answer.mask[top : max(bottom, top + 1), left : max(right, left + 1)]
        return list(Segmentation(part).classes)
    labels = subject.model.labels
    if labels is None:
        return sorted({int(label) for label in answer.labels}) or [0]
    named = range(len(labels))
    return [index for index in named if labels[index] not in ("N/A", "__background__")]
