"""Explore: contrasts, parameters, slow methods, signs, boxes, depth, downloads."""

import io
import json
import time
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._output import explanation_files
from cam._output.viewer.payload import ViewerOptions, pack, view_attribution
from cam.pages.ui.explore import background_maps, downloads
from cam.pages.ui.server import resources
from cam.pages.ui.state.choices import Choices, MethodChoice, ModelChoice
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.python_code import write_explaining
from cam.pages.ui.widgets.viewer_options import draw_overlay
from tests.support.dashboard_page import (
    check,
    find,
    finish,
    list_values,
    open_page,
    read_address,
    read_maps,
    read_viewers,
)

BUNDLED = "efficientnet_lite0"

GRADCAM, SALIENCY = MethodChoice("gradcam"), MethodChoice("saliency")


@pytest.fixture(scope="module")
def subject() -> Subject:
    choice, picture = ModelChoice(BUNDLED), resources.open_sample("chelsea")
    model, chances = resources.load_model(choice), resources.predict(choice, picture)
    return Subject(picture, picture, choice, model, chances, chances.argsort()[::-1].tolist())


def explained(subject, *methods, target=None, against=None):
    choices = Choices(ModelChoice(BUNDLED), methods, target, None, against)
    maps = resources.explain(choices, subject.top, subject.picture)
    return dict(zip(methods, maps.values(), strict=True))


def test_a_contrast_is_the_librarys(subject):
    app = open_page(image="chelsea", target="tiger cat", against="tabby")
    assert read_maps(app)[0] == "Grad-CAM heatmap for tiger cat, not tabby"
    mine = explained(subject, GRADCAM, target=282, against=281)[GRADCAM]
    batch = subject.model.prepare(subject.picture.photo)
    logits = subject.model.module(batch)[0].detach()
    torch.testing.assert_close(mine.scores[0], logits[282] - logits[281])


def test_a_class_is_not_contrasted_with_itself():
    app = open_page(image="chelsea", target="tabby")
    [against] = [box for box in app.selectbox if box.label == "Contrast with"]
    assert "tabby" not in against.options and len(against.options) == 999


def test_another_class_forgets_the_contrast():
    app = open_page(model="known/patch", target="vertical stripes", against="horizontal stripes")
    app = check(app.selectbox(key="target").set_value("horizontal stripes").run())
    assert not [line for line in list_values(app.warning) if line.startswith("The link asks")]
    assert read_address(app) == {"model": ["known/patch"], "target": ["horizontal stripes"]}


def test_another_picture_forgets_the_contrast():
    app = open_page(image="chelsea", target="tiger cat", against="tabby")
    app = check(app.button_group(key="sample").set_value("rocket").run())
    assert read_maps(app)[0] == "Grad-CAM heatmap for missile"


def test_a_slow_method_comes_with_progress_and_its_parameters():
    link = {"image": "chelsea", "methods": ["gradcam", "occlusion"]}
    app = open_page(**link, **{"occlusion.window": "112", "occlusion.stride": "56"})
    app = finish(app)
    assert read_maps(app) == [
        "Grad-CAM heatmap for Egyptian cat",
        "Occlusion heatmap for Egyptian cat",
    ]
    # A window of 112 every 56 pixels: 3 × 3 places, and the shared pass.
    [viewer] = read_viewers(app)
    _, occlusion = viewer["maps"]
    assert occlusion["captions"][0].startswith(("10 forwards", "3 forwards"))
    assert app.number_input(key="occlusion.window").value == 112


def test_a_parameter_that_makes_no_sense_is_told_and_the_rest_is_shown():
    link = {"image": "chelsea", "methods": ["gradcam", "rise"]}
    app = finish(open_page(**link, **{"rise.probability": "7"}))
    [sentence] = list_values(app.error)
    assert sentence.startswith("RISE: ") and "probability" in sentence
    assert read_maps(app) == ["Grad-CAM heatmap for Egyptian cat"]


def test_attention_of_a_network_without_any_is_told():
    app = finish(
        open_page(
            image="chelsea", methods=["gradcam", "saliency", "attention_rollout"], code="true"
        )
    )
    [sentence] = list_values(app.error)
    assert sentence.startswith("Attention rollout: EfficientNet has no self-attention")
    assert len(read_maps(app)) == 2
    # The call that copies is of what is shown: with the other it would end in the same sentence.
    assert "methods=['gradcam', 'saliency']" in app.code[0].value


def test_a_slow_map_grows_over_the_image_to_the_same_bits(subject):
    app = open_page(methods=["rise"], **{"rise.masks": "120"})
    descriptions = []
    for _ in range(400):
        [viewer] = read_viewers(app)
        [map_] = viewer["maps"]
        assert viewer["crop"].startswith("data:image/png"), "the image is there all the time"
        descriptions.append((map_["growing"], map_["description"]))
        if not map_["growing"]:
            break
        time.sleep(0.2)
        check(app.run())
    assert descriptions[0][0] and not descriptions[-1][0]
    so_far = {words for growing, words in descriptions if growing}
    assert so_far <= {"No map yet."} or any(words.startswith("So far: ") for words in so_far)
    # As the library computes it when nobody looks.
    model = subject.model
    batch = model.prepare(subject.picture.photo)
    attribution = cam.attribute(model, batch, cam.method("rise", masks=120), subject.top)["rise"]
    [expected] = pack(subject.crop, [view_attribution(attribution)], "x")["maps"]
    assert map_["heatmap"] == expected["heatmap"]


def test_slow_work_can_be_cancelled_and_the_page_stays(subject):
    app = open_page(
        image="chelsea", methods=["gradcam", "saliency", "rise"], **{"rise.masks": "20000"}
    )
    assert len(read_maps(app)) == 3, "that which is at work has its place"
    cancel = find(app.button, "Cancel")
    app = check(cancel.click().run())
    assert any(markdown.value == "RISE: cancelled." for markdown in app.markdown)
    assert len(read_maps(app)) == 2
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


def test_the_threshold_leaves_the_image(subject):
    [attribution] = explained(subject, GRADCAM).values()
    crop = subject.model.crop(subject.picture.photo)
    options = ViewerOptions(threshold=0.5, fade=False)
    covered, plain = (np.asarray(image) for image in (
        draw_overlay(options, crop, attribution), crop
    ))  # fmt: skip
    untouched = (covered == plain).all(2).mean()
    below = torch.nn.functional.interpolate(
        attribution.heatmap[None], size=plain.shape[:2], mode="bilinear"
    )[0, 0].lt(0.5).float().mean()  # fmt: skip
    assert untouched == pytest.approx(float(below), abs=0.02)


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


@pytest.mark.parametrize("signs", ["for", "both", "against"])
def test_the_code_gives_the_image_that_is_saved(subject, signs, tmp_path, monkeypatch):
    method = MethodChoice("layercam", (("eigen_smooth", True),))
    choices = Choices(ModelChoice(BUNDLED), (method,), 282, "blocks.4", 281)
    options = ViewerOptions(0.4, True, 0.2, "viridis", signs)
    code = write_explaining(choices, subject.picture, subject.order[0], options)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    maps = resources.explain(choices, subject.top, subject.picture)
    [attribution] = maps.values()
    mine = draw_overlay(options, subject.model.crop(subject.picture.photo), attribution)
    assert np.array_equal(np.asarray(Image.open("layercam.png")), np.asarray(mine))
