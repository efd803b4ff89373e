"""Masked volumes: trilinear masks, windows and baselines."""

import pytest
import torch
from torch.nn import functional

import kernels

VOLUMES = torch.randn(2, 3, 4, 6, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("align", [False, True])
def test_masks_are_interpolated_in_three_axes(align):
    masks = torch.rand(5, 2, 3, 4, generator=torch.Generator().manual_seed(1))
    owner = torch.tensor([0, 1, 1, 0, 1])
    masked = kernels.masked_batch(VOLUMES, masks, 0.5, owner=owner, align_corners=align)
    whole = functional.interpolate(
        masks[:, None].double(), (4, 6, 8), mode="trilinear", align_corners=align
    )
    expected = whole * VOLUMES[owner].double() + (1 - whole) * 0.5
    assert torch.allclose(masked.double(), expected, atol=1e-6)


def test_masks_are_stretched_to_their_range():
    masks = torch.rand(2, 4, 6, 8) / 3 + 0.2
    masked = kernels.masked_batch(torch.ones(1, 1, 4, 6, 8), masks, stretch=True)[:, 0]
    low, high = masks.amin((1, 2, 3), keepdim=True), masks.amax((1, 2, 3), keepdim=True)
    assert torch.allclose(masked, (masks - low) / (high - low), atol=1e-6)


def test_windows_are_cut_where_shifts_say():
    masks = torch.rand(3, 8, 9, 10)
    shifts = torch.tensor([[0, 0, 0], [4, 3, 2], [2, 1, 1]])
    masked = kernels.masked_batch(torch.ones(1, 1, 4, 6, 8), masks, size=(8, 9, 10), shifts=shifts)[
        :, 0
    ]
    for cut, mask, (plane, row, column) in zip(masked, masks, shifts.tolist(), strict=True):
        assert torch.equal(cut, mask[plane : plane + 4, row : row + 6, column : column + 8])


def test_what_lies_outside_is_nan():
    masks = torch.ones(2, 8, 9, 10)
    shifts = torch.tensor([[5, 0, 0], [0, 0, 0]])
    masked = kernels.masked_batch(torch.ones(1, 1, 4, 6, 8), masks, size=(8, 9, 10), shifts=shifts)
    assert masked[0].isnan().all() and masked[1].eq(1).all()


def test_a_baseline_of_one_number_a_channel():
    masked = kernels.masked_batch(
        VOLUMES[:1], torch.zeros(2, 4, 6, 8, dtype=torch.bool), [1.0, 2.0, 3.0]
    )
    assert torch.equal(masked[1, :, 0, 0, 0], torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"masks": torch.ones(1, 6, 8)}, r"masks must be \(N, d, h, w\)"),
        ({"size": (4, 6)}, "size must be at least the volume's"),
        ({"size": (3, 6, 8)}, "size must be at least the volume's"),
        ({"size": (5, 6, 8)}, "so shifts must say"),
        ({"shifts": torch.zeros(1, 2, dtype=torch.int64)}, "shifts must be"),
        ({"masks": torch.ones(3, 4, 6, 8)}, "owner must say"),
        ({"channels_last": True}, "volumes are contiguous"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, match):
    options = {"masks": torch.ones(1, 4, 6, 8), **arguments}
    image = VOLUMES if len(options["masks"]) > 1 else VOLUMES[:1]
    with pytest.raises(ValueError, match=match):
        kernels.masked_batch(image, **options)
