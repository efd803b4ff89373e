"""Ask detectors and segmenters for answers, once for all visitors."""

from dataclasses import dataclass

import numpy as np

import cam
from cam._models.model import DETECTION, SEGMENTATION
from cam._models.tasks.detections import Detections
from cam._models.tasks.segmentation import Segmentation
from cam._targets.detection_targets import Box
from cam._targets.spelling import read_target, write_target
from cam.errors import nearest
from cam.pages.ui.server import resources
from cam.pages.ui.state.choices import ModelChoice, Picture
from cam.pages.ui.subject.subject_form import LookedAt
from cam.targets import Segment

ANSWERS_KEPT = 32
MODELS_KEPT = 64
LEAST_SCORE = 0.05
# Of an untrained detector any number may be there, and nobody reads more.
MOST_DETECTIONS = 50


@dataclass(frozen=True, eq=False)
class PlaceSubject(LookedAt):
    """An image with a model's answer in places.

    Attributes:
        size: (H, W) of the model's input.
        answer: Boxes, or the class of each pixel.
    """

    size: tuple[int, int]
    answer: Detections | Segmentation

    def title(self, index: int) -> str:
        """Return the name of a class."""
        labels = self.model.labels
        return labels[index] if labels is not None and index < len(labels) else f"class {index}"


@dataclass(frozen=True)
class Question:
    """What is read about the image.

    Attributes:
        text: As :func:`cam.attribute` takes it; None where there is nothing to ask.
        number: Number of the detection, from 1; None for others.
        warning: Why the address asks in vain; empty where it does not.
    """

    text: str | None
    number: int | None = None
    warning: str = ""


@resources.share(max_entries=MODELS_KEPT)
def answers_in_places(choice: ModelChoice, _picture: Picture) -> bool:
    """Test whether a model is a detector or a segmenter; any image shows it.

    Raises:
        CamError: It cannot be loaded, or does not run.
    """
    model = resources.load_model(choice)
    if model.task is not None:
        return model.task in (DETECTION, SEGMENTATION)
    try:
        resources.score(choice, _picture)
    except cam.ModelError:
        return model.detects or model.segments
    return False


@resources.share(max_entries=ANSWERS_KEPT, show_spinner="Detecting …")
def detect(choice: ModelChoice, picture: Picture) -> Detections:
    """Detect objects, the surest first."""
    model = resources.load_model(choice)
    [answer] = model.detect(resources.prepare(choice, picture), LEAST_SCORE)
    return Detections(answer.boxes.cpu(), answer.labels.cpu(), answer.scores.cpu())


@resources.share(max_entries=ANSWERS_KEPT, show_spinner="Segmenting …")
def segment(choice: ModelChoice, picture: Picture) -> Segmentation:
    """Say which class each pixel is of."""
    model = resources.load_model(choice)
    [answer] = model.segment(resources.prepare(choice, picture))
    return Segmentation(answer.mask.cpu(), answer.names)


def look(picture: Picture, choice: ModelChoice) -> PlaceSubject:
    """Let a detector or a segmenter look at a whole image.

    Raises:
        CamError: It does not run on it.
    """
    model = resources.load_model(choice)
    answer = (detect if model.detects else segment)(choice, picture)
    height, width = resources.prepare(choice, picture).shape[-2:]
    return PlaceSubject(picture, picture, choice, model, (height, width), answer)


def count_detections(detections: Detections, least: float) -> int:
    """Count those with a score above the least, which are the first."""
    return min(int((detections.scores > least).sum()), MOST_DETECTIONS)


def name_detection(number: int) -> str:
    """Name a detection as the address does, from 1."""
    return f"detection {number}"


def read_question(subject: PlaceSubject, target: str | None, count: int) -> Question:
    """Read what the address asks about the image; the default where it asks for nothing.

    Args:
        subject: The image with its answer.
        target: Of the address: "detection 2", or a text that :func:`cam.attribute` takes.
        count: How many detections are shown.
    """
    start = _read_default(subject, count)
    if target is None:
        return start
    answer = subject.answer
    names = [name_detection(number) for number in range(1, count + 1)]
    if target in names and isinstance(answer, Detections):
        number = names.index(target) + 1
        return Question(_write_box(answer[number - 1]), number)
    try:
        read = read_target(target)
        if read is None or isinstance(answer, Segmentation) != isinstance(read, Segment):
            raise cam.TargetError(nearest(target, names) if names else "nothing is detected")
        return Question(write_target(read))
    except cam.TargetError as error:
        text = target[:60].replace("`", "'")
        return Question(
            start.text, start.number, f"The link asks for `{text}`, which is not here: {error}"
        )


def _read_default(subject: PlaceSubject, count: int) -> Question:
    answer = subject.answer
    if isinstance(answer, Detections):
        return Question(_write_box(answer[0]), 1) if count else Question(None)
    return Question(f"segment:{answer.classes[0]}") if answer.classes else Question(None)


def _write_box(box: Box) -> str:
    # In pixels with two digits: the box that overlaps most is still that one.
    sides = tuple(round(float(side), 2) for side in box.box)
    return write_target(Box(sides, box.label))


def mask_of(answer: Segmentation) -> np.ndarray:
    """Return the class of each pixel, (H, W)."""
    mask: np.ndarray = answer.mask.numpy()
    return mask
