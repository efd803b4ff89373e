"""Regions of a segmentation as targets, by hand."""

import pytest
import torch

import cam
from cam._models.tasks.segmentation import Segmentation


def test_regions_of_a_answerare_targets():
    answer = Segmentation(
        torch.tensor([[0, 1, 1, 0], [0, 1, 0, 1], [2, 2, 2, -1]]), ("sky", "cat", "road")
    )
    assert set(answer.classes) == {0, 1, 2}
    whole = answer.segment(1)
    assert int(whole.mask.sum()) == 4 and whole.target == 1
    part = answer.region(1.7, 0)
    assert part.mask.int().tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert "cat 33.3%" in repr(answer)
    with pytest.raises(cam.TargetError, match="the pixel 4, 0 lies outside of the image of 4 × 3"):
        answer.region(4, 0)
    with pytest.raises(cam.TargetError, match="no class is at 3, 2"):
        answer.region(3, 2)
    with pytest.raises(cam.TargetError, match="class 7 is nowhere in the segmentation"):
        answer.segment(7)
