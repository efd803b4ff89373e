"""XRAI: integrated gradients summed over regions, the densest first."""

import torch
from torch import Tensor
from torch.nn import functional

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.maps import stretch
from cam._methods.base.method_registry import register_method
from cam._methods.gradients.integrated_gradients import average_gradients, gauss_legendre
from cam.parameters import integer
from cam.types import Maps

# As in PAIR's program, which segments pictures of this size with values from -1 to 1.
_SCALES = (50, 100, 150, 250, 500, 1200)
_SIGMA = 0.8
_LEAST_SEGMENT = 150
_SIDE = 224
_DILATION = 5
_ROWS = 32  # masks that are counted at once, which bounds the memory


@register_method(
    "xrai",
    rules={"steps": integer(1), "least": integer(1)},
    title="XRAI",
    family="gradient",
    kind="evidence",
    reads=Pixels,
    percentile=100,
    cost="1 forward, and a forward and a backward for each of 2 × 50 steps by default",
)
def xrai(pixels: Pixels, passes: Passes, *, steps: int = 50, least: int = 50) -> Maps:
    """Which regions of the image matter most, each coloured by how densely it adds to the score.

    The attribution is integrated gradients', averaged over a black and a white baseline (the lowest
    and the highest value of the image), and its largest value over the channels taken at each
    pixel. Regions are Felzenszwalb's at six scales, widened by five pixels. The region is added
    whose pixels that are not covered yet have the highest mean attribution, which becomes their
    value; then the next one, until none adds ``least`` pixels. What is left gets its own mean.

    A raw map may be negative, where a region speaks against the target; the other map is min-max
    alone, so that the order of all regions can be seen.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images on both lines go.
        steps: Points of each line, by Gauss–Legendre quadrature.
        least: Pixels that a region must add to be taken.

    Returns:
        Maps (B, H, W) float32.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Kapishnikov et al., XRAI: Better Attributions Through Regions, ICCV 2019, algorithm 1;
        segments as in PAIR's saliency 0.2.1
    """
    inputs = pixels.inputs
    passes.expect(2 * len(inputs) * steps)
    attribution = torch.zeros_like(inputs, dtype=torch.float64)
    for extreme in (torch.amin, torch.amax):
        start = extreme(inputs, (1, 2, 3), keepdim=True)
        gradients, differences = average_gradients(passes, start, *gauss_legendre(steps))
        attribution += (gradients * differences).double() / 2
    raw = torch.stack(
        [
            cover_by_regions(values, find_segments(picture), least)
            for values, picture in zip(attribution.amax(1), inputs, strict=True)
        ]
    ).float()
    return stretch(raw)


def find_segments(picture: Tensor) -> Tensor:
    """Find Felzenszwalb's regions at six scales, by scikit-image.

    Felzenszwalb and Huttenlocher, Efficient Graph-Based Image Segmentation, 2004.

    Args:
        picture: (C, H, W) as the model takes it; its range is stretched to [-1, 1].

    Returns:
        (N, H, W) bool, on the picture's device; regions overlap.
    """
    # Imported here, because nothing else in the library needs them.
    import numpy as np
    from skimage.morphology import disk
    from skimage.segmentation import felzenszwalb
    from skimage.transform import resize

    values = picture.detach().double().nan_to_num(0, 0, 0)
    low, high = values.min(), values.max()
    values = (values - low) / torch.where(high == low, 1, high - low) * 2 - 1
    image = values.movedim(0, -1).cpu().numpy()
    # Cubic interpolation, without the edge's values beyond it, as PAIR does.
    image = resize(image, (_SIDE, _SIDE), order=3, mode="constant", anti_aliasing=True)
    masks = []
    for scale in _SCALES:
        labels = felzenszwalb(
            image, scale=scale, sigma=_SIGMA, min_size=_LEAST_SEGMENT, channel_axis=-1
        )
        labels = resize(
            labels, picture.shape[1:], order=0, mode="constant", preserve_range=True,
            anti_aliasing=False,
        ).astype(int)  # fmt: skip
        masks += [labels == label for label in range(labels.min(), labels.max() + 1)]
    around = torch.from_numpy(disk(_DILATION)).to(picture.device, torch.float32)[None, None]
    stacked = torch.from_numpy(np.stack(masks)).to(picture.device)[:, None]
    wide = [
        functional.conv2d(stacked[at : at + _ROWS].float(), around, padding=_DILATION) > 0.5
        for at in range(0, len(stacked), _ROWS)
    ]
    return torch.cat(wide)[:, 0]


def cover_by_regions(attribution: Tensor, masks: Tensor, least: int) -> Tensor:
    """Cover a map by regions, the densest first.

    Args:
        attribution: (H, W) float64.
        masks: (N, H, W) bool.
        least: Pixels that a region must add.

    Returns:
        (H, W) float64, at each pixel the mean attribution of what its region added.
    """
    values, covers = attribution.flatten(), masks.flatten(1)
    densities = torch.zeros_like(values)
    covered = torch.zeros_like(values, dtype=torch.bool)
    free = torch.ones(len(covers), dtype=torch.bool, device=values.device)
    sums, counts = _sum_inside(covers, values), _sum_inside(covers, torch.ones_like(values))
    while True:
        free &= counts >= least
        if not bool(free.any()):
            break
        density = torch.where(free, sums / counts, -torch.inf)
        best = int(density.argmax())
        added = covers[best] & ~covered
        densities[added] = density[best]
        covered |= added
        free[best] = False
        sums = sums - _sum_inside(covers[:, added], values[added])
        counts = counts - _sum_inside(covers[:, added], torch.ones_like(values[added]))
    if not bool(covered.all()):
        densities[~covered] = values[~covered].mean()
    return densities.view_as(attribution)


def _sum_inside(covers: Tensor, values: Tensor) -> Tensor:
    """Sum the values (P,) inside each mask (N, P), in batches."""
    starts = range(0, len(covers), _ROWS)
    return torch.cat([covers[at : at + _ROWS].to(values.dtype) @ values for at in starts])
