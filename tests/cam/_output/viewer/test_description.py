"""Sentences on maps whose evidence lies where the test put it."""

import numpy as np
import pytest

from cam._output.viewer.description import count_half, describe_map

PARTS = {
    (0, 0): "upper left",
    (0, 1): "upper centre",
    (0, 2): "upper right",
    (1, 0): "left",
    (1, 1): "centre",
    (1, 2): "right",
    (2, 0): "lower left",
    (2, 1): "lower centre",
    (2, 2): "lower right",
}


@pytest.mark.parametrize(("part", "name"), PARTS.items(), ids=PARTS.values())
def test_it_names_the_ninth_with_the_evidence(part, name):
    heatmap = np.zeros((30, 60), np.float32)
    row, column = part
    heatmap[10 * row : 10 * row + 10, 20 * column : 20 * column + 20] = 1
    # Half of one ninth of the image.
    expected = f"Strongest at the {name}; 50% of the evidence on 6% of the image."
    assert describe_map(heatmap) == expected


def test_half_is_counted_from_the_largest():
    assert count_half(np.array([[4.0, 1.0], [2.0, 1.0]])) == 1
    assert count_half(np.array([[3.0, 1.0], [2.0, 2.0]])) == 2
    assert count_half(np.ones((10, 10))) == 50


def test_evidence_against_has_its_sentence():
    signed = np.zeros((30, 30), np.float32)
    signed[0, 0], signed[29, 29] = 1, -1
    assert describe_map(signed.clip(min=0), signed) == (
        "Strongest at the upper left; 50% of the evidence on less than 1% of the image. "
        "Against it: strongest at the lower right; "
        "50% of the evidence against on less than 1% of the image."
    )


def test_a_map_that_says_nothing_is_called_so():
    assert describe_map(np.zeros((8, 8))) == "No evidence anywhere."
    assert describe_map(np.full((8, 8), 0.5)) == "The evidence is the same everywhere."
    assert describe_map(np.full((8, 8), np.nan)) == "No evidence anywhere."
