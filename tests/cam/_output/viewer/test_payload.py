"""Payloads: what is packed comes back, and keeps the library's colour."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._output.viewer.payload import ViewerMap, ViewerOptions, pack, view_attribution
from cam._output.viewer.standalone import read_script, write_page
from tests.support.networks import Pooled
from tests.support.viewer_maps import make_image, make_maps


def unpack(layer: dict, height: int, width: int) -> np.ndarray:
    """Read values as the browser does, written again."""
    planes = zlib.decompress(base64.b64decode(layer["codes"]))
    half = height * width
    codes = np.zeros((height, width), np.int64)
    for row in range(height):
        code = 0
        for column in range(width):
            at = row * width + column
            code = (code + planes[at] * 256 + planes[half + at]) % 65536
            codes[row, column] = code
    values = (codes - layer["zero"] + 0.5) / layer["steps"]
    return np.where(codes == 65535, np.nan, values)


@pytest.mark.parametrize("index", range(4), ids=["smooth", "noisy", "signed", "holes"])
def test_values_come_back_with_their_colour(index):
    map_ = make_maps(40)[index]
    packed = pack(make_image(40), [map_], "tabby")["maps"][0]
    for values, name, colours in ((map_.heatmap, "heatmap", 256), (map_.signed, "signed", 128)):
        if values is None:
            assert packed[name] is None
            continue
        layer = packed[name]
        size = np.abs(values)[~np.isnan(values)]
        end = np.percentile(size.astype(np.float64), map_.percentile)
        assert layer["end"] == pytest.approx(end, rel=1e-6)
        read = unpack(layer, 40, 40)
        assert (np.isnan(read) == np.isnan(values)).all()
        held = ~np.isnan(values)
        assert np.abs(read * layer["end"] - values)[held].max() <= layer["end"] / layer["steps"]
        scaled = values / np.float32(layer["end"])
        assert (np.floor(read * colours) == np.floor(scaled * colours))[held].all()


def test_the_crop_is_lossless_and_of_its_size():
    image = make_image(33)
    payload = pack(image, [], "tabby")
    kind, _, text = payload["crop"].partition(",")
    assert kind == "data:image/png;base64"
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) == np.asarray(image)).all()
    assert payload["size"] == payload["grid"] == [33, 33]


def test_the_digest_is_of_the_data_and_not_of_the_looks():
    image, maps = make_image(20), make_maps(20)
    first = pack(image, maps, "tabby")
    assert pack(image, maps, "tabby", ViewerOptions(threshold=0.5))["digest"] == first["digest"]
    assert pack(image, maps[:3], "tabby")["digest"] != first["digest"]
    assert pack(make_image(21), maps, "tabby")["digest"] != first["digest"]


def test_an_attribution_is_viewed_as_the_library_draws_it():
    model, batch = Pooled(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for attribution in cam.attribute(
        model, batch, methods=["saliency", "input_x_gradient"]
    ).values():
        viewed = view_attribution(attribution, 1, ["a line"])
        values, signed = attribution.picture()
        drawn = viewed.signed if signed else viewed.heatmap
        assert signed == (viewed.kind == "contribution")
        assert (drawn == values[1].numpy()).all()
        if viewed.signed is not None:
            back = viewed.signed.astype(np.float64) * viewed.unit
            np.testing.assert_allclose(back, attribution.signed[1].numpy(), rtol=1e-6, atol=1e-12)
        assert viewed.captions == ("a line",)
        assert viewed.title == cam.methods()[attribution.method].title


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "the opacity must lie between 0 and 1, but is 1.5"),
        ({"threshold": -1}, "the threshold must lie between 0 and 1, but is -1"),
        ({"colormap": "infern"}, "did you mean 'inferno'"),
        ({"signs": "all"}, "choice of signs"),
    ],
)
def test_looks_that_cannot_be_are_refused(options, message):
    with pytest.raises(cam.CamError, match=message):
        ViewerOptions(**options)


def test_maps_that_do_not_fit_are_refused():
    first, second = make_maps(20)[0], make_maps(24)[1]
    with pytest.raises(cam.CamError, match="of one size"):
        pack(make_image(), [first, second], "tabby")
    with pytest.raises(cam.CamError, match="same name"):
        pack(make_image(), [first, first], "tabby")
    with pytest.raises(cam.CamError, match="kind of map"):
        pack(make_image(), [ViewerMap("a", "A", first.heatmap, kind="guess")], "tabby")


def test_a_page_holds_its_data_whatever_its_words_are():
    words = "</script><script>alert(1)</script>"
    payload = pack(make_image(20), make_maps(20), words)
    page = write_page(payload, words)
    assert "<script>alert" not in page
    text = page.split('id="payloads">')[1].split("</script>")[0]
    assert json.loads(text)["shared"]["label"] == words


def test_the_script_is_one_module_with_one_export():
    script = read_script()
    assert script.count("export ") == 1 and "export default function mount" in script
    assert "\nimport " not in script
