"""A browser's answers are read, where they can be true."""

import base64

import numpy as np
import pytest

from cam._output.viewer.payload import pack
from cam._output.viewer.region import read_region
from tests.support.viewer_maps import make_image, make_maps

PAYLOAD = pack(make_image(40), make_maps(21), "tabby")
MASK = np.zeros((21, 21), bool)
MASK[3:7, 2:11] = True
ANSWER = {
    "mask": base64.b64encode(np.packbits(MASK).tobytes()).decode(),
    "box": [2, 3, 11, 7],
    "grid": [21, 21],
    "active": "smooth",
    "shares": {"smooth": {"supporting": 0.25, "opposing": None}},
    "digest": PAYLOAD["digest"],
}


def test_a_box_is_read():
    region = read_region(ANSWER, PAYLOAD)
    assert (region.mask == MASK).all() and region.box == (2, 3, 11, 7)
    assert region.active == "smooth" and region.shares == {"smooth": (0.25, None)}
    brushed = read_region(ANSWER | {"box": None}, PAYLOAD)
    assert brushed.box is None and (brushed.mask == MASK).all()


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "of other maps"},
        {"mask": "AAAA"},
        {"mask": "no base64!"},
        {"mask": base64.b64encode(bytes(56)).decode()},
        {"box": [1, 2]},
        {"box": "wide"},
        {"box": [2, 3, 11, 8]},
        {"box": [-19, 3, 11, 7]},
        {"shares": None},
    ],
)
def test_what_cannot_be_a_selection_is_none(change):
    assert read_region(ANSWER | change, PAYLOAD) is None
    assert read_region(None, PAYLOAD) is None


def test_a_map_that_is_not_there_is_not_active():
    assert read_region(ANSWER | {"active": "<b>"}, PAYLOAD).active == ""
