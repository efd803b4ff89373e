"""Segments by hand: pixels chosen once, regions, refusals."""

import pytest
import torch

from cam import TargetError
from cam._targets.places import draw_places, mirror_target
from cam.targets import Segment, select_scores

# Two classes on 2 × 2: class 1 wins everywhere but at row 0, column 1.
OUTPUT = torch.tensor([[[1.0, 5.0], [2.0, 0.0]], [[2.0, 1.0], [3.0, 4.0]]])
TOP = torch.tensor([[True, True], [False, False]])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Segment(1), 2 + 3 + 4),
        (Segment(0), 5),
        (Segment(1, TOP), 2 + 1),
        (Segment(0, at=(1, 0)), 5),
        (Segment(0, at=(1.9, 0.2)), 5),
        (Segment(1, at=(0, 0, 1, 2)), 2 + 3),
        (Segment(0, at=(0.5, 0.5, 1.5, 1)), 1 + 5),  # each pixel of which it has a part
        (Segment(0, at=(-3, -3, 9, 9)), 1 + 5 + 2 + 0),
        (Segment(1, at=(1, 0), absent=True), 1),
    ],
    ids=repr,
)
def test_a_segment_by_hand(target, expected):
    assert float(target(OUTPUT)) == expected


def test_pixels_are_chosen_on_the_image_and_stay():
    scores, (laid,) = select_scores(OUTPUT[None], Segment(1), size=(2, 2))
    assert scores.item() == 9
    hidden = OUTPUT.clone()
    hidden[1] -= 100  # now it wins nowhere
    assert float(laid(hidden)) == 9 - 300
    again, (same,) = select_scores(hidden[None], [laid], size=(2, 2))
    assert again.item() == 9 - 300
    assert same.mask is laid.mask


def test_a_region_of_a_coarse_output_is_in_pixels_of_the_image():
    """A logit that grows by 1 a column of the output: enlarged, it grows by 1/4 a pixel."""
    ramp = torch.arange(8.0).expand(8, 8)
    output = torch.stack([ramp, torch.full_like(ramp, -1)])
    _, (laid,) = select_scores(output[None], Segment(0, at=(16, 10)), size=(32, 32))
    # The centre of pixel 16 is at 16.5 / 4 - 0.5 in columns of the output.
    assert float(laid(output)) == pytest.approx(16.5 / 4 - 0.5)
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[3, 8:10] = True
    _, (laid,) = select_scores(output[None], Segment(0, mask), size=(32, 32))
    assert float(laid(output)) == pytest.approx(8.5 / 4 - 0.5 + 9.5 / 4 - 0.5)


def test_a_connected_region():
    """Class 1 wins in two parts; only the part around the pixel counts."""
    wins = torch.tensor([[1.0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 1]])
    output = torch.stack([torch.full_like(wins, 0.5), wins * torch.arange(12).reshape(3, 4)])
    output[1, 0, 0] = 0.75
    target = Segment(1, at=(0.5, 1.5), connected=True)
    assert float(target(output)) == 0.75 + 1 + 4
    assert float(Segment(1, at=(3, 0), connected=True)(output)) == 3 + 7 + 10 + 11
    with pytest.raises(TargetError, match=r"class 1 wins at no pixel .* \(there it is 0\)"):
        Segment(1, at=(2, 0), connected=True)(output)
    with pytest.raises(TargetError, match="a connected region is that around a pixel"):
        Segment(1, at=(0, 0, 1, 1), connected=True)


def test_a_single_class_is_there_where_its_logit_is_positive():
    output = torch.tensor([[[-1.0, 2.0], [3.0, -4.0]]])
    assert float(Segment(0)(output)) == 5
    with pytest.raises(TargetError, match=r"wins at no pixel of the region \(nor does any other"):
        Segment(0, at=(0, 0))(output)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Segment(0, TOP, at=(0, 0)), "has a mask or a place, not both"),
        (lambda: Segment(0, at=(0, 0, 1)), "a segment's place is x, y, or x0, y0, x1, y1"),
        (lambda: Segment(0, at=(3, 0, 1, 4)), r"but was given as \[3.0, 0.0, 1.0, 4.0\]"),
        (lambda: Segment(0, at=(float("nan"), 0)), "a segment's place is"),
        (lambda: Segment(0, at=(2, 0)), "the place 2, 0 lies outside of the image of 2 × 2"),
        (lambda: Segment(0, at=(-4, 0, 0, 2)), "the place -4, 0, 0, 2 lies outside"),
        (lambda: Segment(0, TOP & ~TOP), "its mask is empty"),
        (lambda: Segment(0, TOP[:1]), r"must be bool of shape \(2, 2\), but is torch.bool of"),
        (lambda: Segment(0, at=(0, 1, 2, 2)), r"wins at no pixel of the region \(there it is 1\)"),
        (lambda: Segment(2), "target 2 is out of range"),
    ],
)
def test_refuses_in_one_sentence(make, sentence):
    with pytest.raises(TargetError, match=sentence) as error:
        make()(OUTPUT)
    assert "\n" not in str(error.value) and ". " not in str(error.value)


def test_places_as_masks():
    targets = [Segment(1, TOP), Segment(1, at=(0, 1))]
    drawn = draw_places(targets, 2, (2, 2))
    assert torch.equal(drawn, torch.stack([TOP, torch.tensor([[False] * 2, [True, False]])]))
    assert draw_places([Segment(1), Segment(1, TOP)], 2, (2, 2)) is None
    coarse = draw_places([Segment(1, TOP)], 1, (4, 4))
    assert torch.equal(coarse[0], TOP.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_mirrored_segment():
    mask = torch.tensor([[True, False], [False, False]])
    mirrored = mirror_target(Segment(1, mask).lay_on(OUTPUT), 2)
    assert float(mirrored(OUTPUT.flip(2))) == float(Segment(1, mask)(OUTPUT)) == 2
