"""What the address asks of detectors and segmenters, and what is copied."""

import pytest
import torch

import cam
from cam._output.viewer.marks import Pick
from cam._output.viewer.payload import ViewerOptions
from cam.pages.ui.explore.places import answers, asking
from cam.pages.ui.server import resources, served
from cam.pages.ui.state.choices import Choices, MethodChoice, ModelChoice
from cam.pages.ui.widgets.python_code import write_explaining
from tests.support.places_page import MODELS


@pytest.fixture(autouse=True)
def shelf():
    served.models.fill(MODELS)
    yield
    served.models.fill({})
    for function in (resources._load_shared, resources.prepare, answers.detect, answers.segment):
        function.clear()
    answers.answers_in_places.clear()


def look(name: str) -> answers.PlaceSubject:
    return answers.look(resources.open_sample("chelsea"), ModelChoice(name))


@pytest.mark.parametrize(
    ("name", "expected"), [("queries", True), ("segments", True), ("efficientnet_lite0", False)]
)
def test_who_answers_in_places(name, expected):
    assert answers.answers_in_places(ModelChoice(name), resources.open_sample("coffee")) is expected


def test_what_the_address_asks_of_a_detector():
    subject = look("queries")
    assert answers.count_detections(subject.answer, 0.5) == 2
    assert answers.count_detections(subject.answer, 0.625) == 1
    assert answers.read_question(subject, None, 2).text == "box:1@4,36,28,60"
    second = answers.read_question(subject, "detection 2", 2)
    assert (second.text, second.number, second.warning) == ("box:1@32,8,56,32", 2, "")
    drawn = answers.read_question(subject, "missed:dog@1,2,30,40", 2)
    assert (drawn.text, drawn.number) == ("missed:dog@1,2,30,40", None)
    assert answers.read_question(subject, None, 0).text is None
    for wrong in ("detection 2", "zebra", "segment:1@3,4", "box:1"):
        question = answers.read_question(subject, wrong, 1)
        assert question.number == 1
        assert question.warning.startswith(f"The link asks for `{wrong}`, which is not here: ")


def test_what_the_address_asks_of_a_segmenter():
    subject = look("segments")
    largest = subject.answer.classes[0]
    assert answers.read_question(subject, None, 0).text == f"segment:{largest}"
    assert answers.read_question(subject, "region:1@3,50", 0).text == "region:1@3,50"
    assert "not here" in answers.read_question(subject, "box:1@1,2,3,4", 0).warning


def test_marks_lie_where_the_boxes_are():
    subject = look("queries")
    question = answers.read_question(subject, "detection 2", 2)
    first, second = asking.mark_answer(subject, 2, question).boxes
    assert second.sides == (0.5, 0.125, 0.875, 0.5) and second.explained and not first.explained
    assert second.title.startswith("2: cat ")
    drawn = answers.read_question(subject, "missed:2@16,16,32,32", 2)
    box = asking.mark_answer(subject, 2, drawn).boxes[0]
    assert box.explained and box.name == "" and box.sides == (0.25, 0.25, 0.5, 0.5)
    assert box.title == "dog missed in 16, 16, 32, 32"


def test_a_pick_is_written_into_the_address(monkeypatch):
    written = []
    monkeypatch.setattr(asking.address, "write", written.append)
    subject = look("segments")
    index = int(subject.answer.mask[32, 48])
    asking.take_pick(subject, "pixel", Pick("", 0.76, 0.51))
    asking.take_pick(subject, "region", Pick("", 0.76, 0.51))
    asking.take_pick(look("queries"), "region", Pick("detection 2", 0.7, 0.2))
    asking.take_pick(look("queries"), "region", Pick("detection 1", 0.7, 0.2))
    assert written == [
        {"target": [f"segment:{index}@48,32"]},
        {"target": [f"region:{index}@48,32"]},
        {"target": ["detection 2"]},
        {"target": None},
    ]


@pytest.mark.parametrize(
    ("name", "text"), [("queries", "box:1@32,8,56,32"), ("segments", "region:1@3,50")]
)
def test_what_is_copied_makes_the_same_maps(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subject = look(name)
    choices = Choices(ModelChoice(name), (MethodChoice("saliency"),), None, None, question=text)
    [expected] = resources.explain(choices, None, subject.picture).values()
    code = write_explaining(choices, subject.picture, None, ViewerOptions())
    assert f"model = …  # '{name}'" in code
    names: dict = {"given": subject.model}
    exec(code.replace("model = …", "model = given"), names)
    assert torch.equal(names["maps"]["saliency"].heatmap, expected.heatmap)
    assert expected.heatmap.max() > 0.9
    assert (tmp_path / "saliency.png").stat().st_size > 1000
    assert isinstance(expected, cam.Attribution)
