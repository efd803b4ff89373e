"""Explore: contrasts, parameters, slow methods, signs, boxes, depth, downloads."""

import io
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._output import explanation_files
from cam.pages.ui.charts.display import Display
from cam.pages.ui.charts.inspector import draw_inspector
from cam.pages.ui.explore import background_maps, downloads, value_inspector
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Choices, MethodChoice, ModelChoice
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.python_code import write_explaining
from tests.support.dashboard_page import check, find, finish, list_values, open_page, read_headings

BUNDLED = "efficientnet_lite0"

GRADCAM, SALIENCY = MethodChoice("gradcam"), MethodChoice("saliency")


@pytest.fixture(scope="module")
def subject() -> Subject:
    choice, picture = ModelChoice(BUNDLED), resources.open_sample("chelsea")
    model, chances = resources.load_model(choice), resources.predict(choice, picture)
    return Subject(picture, choice, model, chances, chances.argsort()[::-1].tolist())


def explained(subject, *methods, target=None, against=None):
    choices = Choices(ModelChoice(BUNDLED), methods, target, None, against)
    maps = resources.explain(choices, subject.top, subject.picture)
    return dict(zip(methods, maps.values(), strict=True))


def test_a_contrast_is_the_librarys(subject):
    app = open_page(sample="Cat", target="tiger cat", against="tabby")
    assert read_headings(app)[1] == "**Grad-CAM** for tiger cat, not tabby"
    mine = explained(subject, GRADCAM, target=282, against=281)[GRADCAM]
    batch = subject.model.prepare(subject.picture.photo)
    logits = subject.model.module(batch)[0].detach()
    torch.testing.assert_close(mine.scores[0], logits[282] - logits[281])


def test_a_class_is_not_contrasted_with_itself():
    app = open_page(sample="Cat", target="tabby")
    [against] = [box for box in app.selectbox if box.label == "… and not"]
    assert "tabby" not in against.options and len(against.options) == 999


def test_another_picture_forgets_the_contrast():
    app = open_page(sample="Cat", target="tiger cat", against="tabby")
    app = check(app.button_group(key="sample").set_value("rocket").run())
    assert read_headings(app)[1] == "**Grad-CAM** for missile"


def test_a_slow_method_comes_with_progress_and_its_parameters():
    link = {"sample": "Cat", "methods": "Grad-CAM", "more": "Occlusion (perturbation)"}
    app = open_page(**link, **{"occlusion.window": "112", "occlusion.stride": "56"})
    app = finish(app)
    assert read_headings(app)[1:] == [
        "**Grad-CAM** for Egyptian cat",
        "**Occlusion** for Egyptian cat",
    ]
    # A window of 112 every 56 pixels: 3 × 3 places, and the shared pass.
    assert any(markdown.value.startswith(":small[10 forwards") for markdown in app.markdown) or any(
        ":small[3 forwards" in markdown.value for markdown in app.markdown
    )
    assert app.number_input(key="occlusion.window").value == 112


def test_a_parameter_that_makes_no_sense_is_told_and_the_rest_is_shown():
    link = {"sample": "Cat", "methods": "Grad-CAM", "more": "RISE (perturbation)"}
    app = finish(open_page(**link, **{"rise.probability": "7"}))
    [sentence] = list_values(app.error)
    assert sentence.startswith("RISE: ") and "probability" in sentence
    assert read_headings(app)[1:] == ["**Grad-CAM** for Egyptian cat"]


def test_attention_of_a_network_without_any_is_told():
    app = finish(open_page(sample="Cat", more="Attention rollout (attention)", code="true"))
    [sentence] = list_values(app.error)
    assert sentence.startswith("Attention rollout: EfficientNet has no self-attention")
    assert len(read_headings(app)) == 3
    # The call that copies is of what is shown: with the other it would end in the same sentence.
    assert "methods=['gradcam', 'saliency']" in app.code[0].value


def test_slow_work_can_be_cancelled_and_the_page_stays(subject):
    app = open_page(sample="Cat", more="RISE (perturbation)", **{"rise.masks": "20000"})
    assert len(read_headings(app)) == 3
    cancel = find(app.button, "Cancel")
    app = check(cancel.click().run())
    assert any(markdown.value == "RISE: cancelled." for markdown in app.markdown)
    # The model that visitors share was free all the time.
    assert subject.model.lock.acquire(timeout=1)
    subject.model.lock.release()


def test_slow_work_explains_a_twin(subject, monkeypatch):
    models = []
    monkeypatch.setattr(
        background_maps.resources, "explain_with", lambda model, *_rest: models.append(model)
    )
    choices = Choices(ModelChoice(BUNDLED), (MethodChoice("rise"),), None, None)
    background_maps.make_work(choices, subject)(lambda *_: True)
    [twin] = models
    assert twin is not subject.model and twin.lock is not subject.model.lock
    for mine, theirs in zip(
        twin.module.parameters(), subject.model.module.parameters(), strict=True
    ):
        assert mine is theirs


def test_what_is_shown_signed(subject):
    # Of a class that is not there, much speaks against it.
    maps = explained(subject, GRADCAM, SALIENCY, target=subject.order[500])
    display = Display(signed=True)
    values, signed = display.select_values(maps[GRADCAM])
    large = torch.nn.functional.interpolate(
        maps[GRADCAM].raw[:, None], size=(224, 224), mode="bilinear"
    )
    assert signed and values.abs().max() == 1 and torch.equal(values.sign(), large[0, 0].sign())
    assert display.select_values(maps[SALIENCY])[1] is False


def test_the_threshold_leaves_the_picture(subject):
    [attribution] = explained(subject, GRADCAM).values()
    crop = subject.model.crop(subject.picture.photo)
    covered, plain = (np.asarray(picture) for picture in (
        Display(threshold=0.5).overlay(crop, attribution), crop
    ))  # fmt: skip
    untouched = (covered == plain).all(2).mean()
    below = torch.nn.functional.interpolate(
        attribution.heatmap[None], size=plain.shape[:2], mode="bilinear"
    )[0, 0].lt(0.5).float().mean()  # fmt: skip
    assert untouched == pytest.approx(float(below), abs=0.02)


@pytest.mark.parametrize(("threshold", "signed"), [(0.0, False), (0.4, False), (0.4, True)])
def test_the_inspector_colours_what_the_overlay_colours(threshold, signed):
    heatmap = torch.linspace(-1.0 if signed else 0.0, 1.0, 60).reshape(6, 10)
    black = Image.new("RGB", (10, 6))
    over = cam.overlay(black, heatmap, "viridis", 1.0, 90, threshold, signed)
    display = Display(1, "viridis", threshold, signed)
    figure = draw_inspector(black, heatmap.numpy(), display, 90, None, signed)
    untouched = (np.asarray(over) == 0).all(2)
    assert np.array_equal(np.isnan(figure.data[0].z), untouched)
    # What is not coloured is read off all the same.
    read = figure.data[0].customdata if threshold else figure.data[0].z
    assert np.abs(read - heatmap.numpy()).max() < 1e-3


@pytest.mark.parametrize("box", [(0, 111, 0, 223), (20, 20, 30, 30), (100, 223, 50, 99)])
def test_the_share_of_a_box_is_that_part_of_the_sum(subject, box):
    maps = explained(subject, GRADCAM, SALIENCY)
    shares = value_inspector._measure_shares(subject, maps, box)
    left, right, top, bottom = box
    for method, attribution in maps.items():
        # What speaks against the class has no share.
        heatmap = attribution.signed[0].double().clamp(min=0).numpy()
        if attribution.kind == "evidence":
            heatmap = heatmap - heatmap.min()
        inside = heatmap[top : bottom + 1, left : right + 1].sum() / heatmap.sum()
        assert shares[method] == pytest.approx(inside, rel=1e-5)


def test_a_box_of_a_link_is_read_off(subject):
    app = open_page(sample="Cat", methods="Grad-CAM", inspect="true", box_columns=["0", "111"])
    heatmap = explained(subject, GRADCAM)[GRADCAM].heatmap[0]
    share = float(heatmap[:, :112].sum() / heatmap.sum())
    assert any(f"**{share:.0%}** of the evidence" in markdown.value for markdown in app.markdown)
    clear = find(app.button, "Clear the box")
    app = check(clear.click().run())
    assert app.slider(key="box_columns").value == (0, 223)
    assert not any("of the evidence is in this box" in markdown.value for markdown in app.markdown)


def test_a_drawn_box_moves_the_sliders(monkeypatch):
    state = {"map": {"selection": {"box": [{"x": [250.2, 99.6], "y": [-3.0, 49.7]}]}}}
    monkeypatch.setattr(value_inspector, "st", SimpleNamespace(session_state=state))
    value_inspector._take_box("map", 224, 224)
    assert state["box_columns"] == (100, 223) and state["box_rows"] == (0, 50)


def test_the_archive_holds_pictures_arrays_and_the_record(subject):
    method = MethodChoice("layercam", (("eigen_smooth", True),))
    maps = explained(subject, method, target=282, against=281)
    facts = json.loads(downloads.write_record(subject, maps))
    assert facts[0]["parameters"] == {"eigen_smooth": True}
    assert facts[0]["target"]["label"] == "tiger cat"
    assert facts[0]["against"]["label"] == "tabby"
    archive = zipfile.ZipFile(
        io.BytesIO(explanation_files.zip_bytes({"a.png": b"1", "b/c.npz": b"22"}))
    )
    assert archive.testzip() is None
    assert {name: archive.read(name) for name in archive.namelist()} == {
        "a.png": b"1",
        "b/c.npz": b"22",
    }


@pytest.mark.parametrize("signed", [False, True])
def test_the_code_gives_the_picture_that_is_shown(subject, signed, tmp_path, monkeypatch):
    method = MethodChoice("layercam", (("eigen_smooth", True),))
    choices = Choices(ModelChoice(BUNDLED), (method,), 282, "blocks.4", 281)
    display = Display(0.4, "viridis", 0.2, signed)
    code = write_explaining(choices, subject.picture, subject.order[0], display)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    maps = resources.explain(choices, subject.top, subject.picture)
    [attribution] = maps.values()
    mine = display.overlay(subject.model.crop(subject.picture.photo), attribution)
    assert np.array_equal(np.asarray(Image.open("layercam.png")), np.asarray(mine))
