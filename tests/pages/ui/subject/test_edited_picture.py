"""Test that edited and moved images have the copied code's maps."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cam
from cam._output.viewer.payload import ViewerOptions
from cam.pages.ui.explore import downloads
from cam.pages.ui.server import resources
from cam.pages.ui.state.choices import Choices, MethodChoice, ModelChoice
from cam.pages.ui.subject.edited_picture import MOST, _cut_square, edit_picture
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.python_code import write_explaining
from tests.support.checkout import ROOT
from tests.support.dashboard_page import check, find, list_values, open_page, read_address

BUNDLED = ModelChoice("efficientnet_lite0")
METHODS = (MethodChoice("gradcam"), MethodChoice("saliency"))
EDITS = ("blur.box-300-200-600-700", "paste-coffee.random-20-1", "erase.box-0-0-200-200")


def run_code(picture, tmp_path: Path) -> dict[str, np.ndarray]:
    """Run what the page copies as a script, and read the maps."""
    code = write_explaining(Choices(BUNDLED, METHODS, 281, None), picture, 285, ViewerOptions())
    code += "import numpy\nnumpy.savez('maps', **{k: v.heatmap[0] for k, v in maps.items()})\n"
    (tmp_path / "script.py").write_text(code)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, check=True)
    with np.load(tmp_path / "maps.npz") as maps:
        return dict(maps)


@pytest.mark.parametrize(
    ("position", "edits"),
    [
        pytest.param(0, (), marks=pytest.mark.slow),
        (83, EDITS),
        pytest.param(50, EDITS, marks=pytest.mark.slow),
    ],
)
def test_the_copied_script_gives_the_same_maps(position, edits, tmp_path):
    """Of an uploaded panorama, whose file lies where the script is run."""
    photo = cam.sample("chelsea").crop((0, 50, 451, 250))
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    (tmp_path / "wide.png").write_bytes(buffer.getvalue())
    picture = resources.decode_upload(buffer.getvalue(), "wide.png")
    if position != 50:
        picture = _cut_square(picture, position)
        assert picture.photo.image.size == (200, 200)
        left = 251 * position // 100
        expected = np.asarray(photo)[:, left : left + 200]
        assert (np.asarray(picture.photo.image) == expected).all()
    picture = edit_picture(BUNDLED, picture, edits)
    maps = resources.explain(Choices(BUNDLED, METHODS, 281, None), 285, picture)
    for name, theirs in run_code(picture, tmp_path).items():
        assert np.abs(maps[name].heatmap[0].numpy() - theirs).max() <= 1e-6, name


def test_only_what_the_model_sees_is_changed():
    picture = resources.open_sample("chelsea")
    edited = edit_picture(BUNDLED, picture, ("grey.box-0-0-1000-1000",))
    model = resources.load_model(BUNDLED)
    part = np.asarray(model.crop(edited.photo))
    assert (part == 128).all()
    assert edited.digest != picture.digest
    before, after = (np.asarray(each.photo.image) for each in (picture, edited))
    assert (before != after).any(2).sum() <= part.shape[0] * part.shape[1]
    assert edit_picture(BUNDLED, picture, ()) is picture


def test_a_record_says_what_was_changed():
    picture = resources.open_sample("chelsea")
    edited = edit_picture(BUNDLED, picture, EDITS[:1])
    model = resources.load_model(BUNDLED)
    maps = resources.explain(Choices(BUNDLED, METHODS, 281, None), 285, edited)
    subject = Subject(edited, picture, BUNDLED, model, np.zeros(1000), [0], EDITS[:1])
    record = downloads.write_record(subject, dict(zip(METHODS, maps.values(), strict=True)))
    assert EDITS[0] in record.decode()


def test_edits_that_cannot_be_done_are_a_sentence_and_the_others_stay():
    app = open_page(image="coffee", edit=[EDITS[0], "burn.box-0-0-10-10", "blur.grid-?"])
    sentences = list_values(app.warning)
    assert len(sentences) == 2
    assert all("The link asks for an edit that cannot be done" in line for line in sentences)
    assert not app.error


def test_a_link_of_many_edits_is_cut_short():
    edits = [f"blur.random-1-{seed}" for seed in range(40)]
    app = open_page(image="coffee", methods="gradcam", edit=edits)
    assert list_values(app.warning) == [f"The link asks for 40 edits; here are the first {MOST}."]


def test_the_crop_of_a_long_image_moves():
    app = open_page(image="chelsea", methods="gradcam", code="true", position="0")
    size = cam.sample("chelsea").size
    assert f".crop((0, 0, {min(size)}, {min(size)}))" in app.code[0].value
    app = check(find(app.slider, "Crop position").set_value(100).run())
    left = max(size) - min(size)
    assert f".crop(({left}, 0, {max(size)}, {min(size)}))" in app.code[0].value
    assert read_address(app)["position"] == ["100"]
    app = check(find(app.slider, "Crop position").set_value(50).run())
    assert ".crop((" not in app.code[0].value.split("crop = ")[0]
    assert "position" not in read_address(app)


@pytest.mark.parametrize("position", ["-1", "101", "left"])
def test_a_position_that_is_none_is_one_sentence(position):
    app = open_page(image="chelsea", methods="gradcam", position=position)
    [sentence] = list_values(app.warning)
    assert "which is no whole number from 0 to 100" in sentence
