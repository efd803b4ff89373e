"""The result of a volume as images, files and text."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._output.volume_view import MOST_PLANES, make_sheet
from tests.support.volumes import CUBE, VOLUME, ReadsACube, planted


@pytest.fixture(scope="module")
def result():
    return cam.attribute(ReadsACube(), planted(VOLUME, CUBE), ["saliency", "gradcam"], 0)


def test_it_is_described_as_volumes(result):
    assert "2 volumes of 12 × 24 × 24" in repr(result["saliency"])


def test_arrays_have_the_depth(result):
    assert result.to_numpy()["gradcam"].shape == (2, *VOLUME)


def test_a_plane_is_drawn_in_the_scale_of_all(result):
    """A plane far from the cube shows the volume alone, however weak its own strongest value."""
    whole = result["saliency"]
    far, near = (whole.overlay(plane=plane) for plane in (0, 5))
    assert far.size == near.size == (24, 24)
    assert len(np.unique(np.asarray(far))) == 1
    heat = np.asarray(near).astype(int).sum(2)
    assert heat[8:16, 12:20].mean() > heat[:4].mean() + 50


def test_the_strongest_plane_is_drawn_where_none_is_chosen(result):
    whole = result["saliency"]
    strongest = int(whole.heatmap[1].flatten(1).amax(1).argmax())
    assert CUBE[0].start - 1 <= strongest < CUBE[0].stop + 1
    drawn, expected = whole.overlay(index=1), whole.overlay(index=1, plane=strongest)
    assert np.array_equal(np.asarray(drawn), np.asarray(expected))


def test_files_hold_the_arrays_and_a_sheet_of_planes(result, tmp_path):
    files = result["gradcam"].save(tmp_path)
    assert len(files) == 6
    arrays = np.load(tmp_path / "image-0.gradcam.npz")
    assert arrays["heatmap"].shape == VOLUME and arrays["raw"].shape == (6, 12, 12)
    sheet = Image.open(tmp_path / "image-0.gradcam.png")
    assert sheet.size == (4 * 24, 3 * 24)
    facts = json.loads((tmp_path / "image-0.gradcam.json").read_text())
    assert facts["heatmap_shape"] == list(VOLUME)


def test_a_notebook_shows_the_sheets(result):
    html = result._repr_html_()
    assert html.count("data:image/png") == 4 and "gradcam: class 0" in html


def test_a_sheet_has_sixteen_planes_from_the_first_to_the_last():
    planes = [Image.new("RGB", (2, 1), (shade, 0, 0)) for shade in range(100)]
    shades = np.asarray(make_sheet(planes))[:, ::2, 0].ravel()
    assert len(shades) == MOST_PLANES and shades[0] == 0 and shades[-1] == 99
    assert (np.diff(shades.astype(int)) > 5).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"plane": 12}, "plane must be a whole number from 0 to 11"),
        ({"plane": 1.5}, "plane must be a whole number from 0 to 11"),
        ({"image": Image.new("RGB", (24, 24))}, "leave image out"),
        ({"index": 2}, "no image 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(result, options, match):
    with pytest.raises(cam.InputError, match=match):
        result["saliency"].overlay(**options)


def test_an_image_has_no_planes():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 8), torch.nn.Flatten()).eval()
    result = cam.attribute(module, torch.rand(1, 3, 8, 8), "saliency", 0)["saliency"]
    with pytest.raises(cam.InputError, match="has no planes"):
        result.overlay(plane=1)
