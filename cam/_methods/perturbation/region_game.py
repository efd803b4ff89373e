"""Divide a picture into regions, and score it with some in view."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cam import kernels
from cam._engine.passes import Passes
from cam._methods.base.maps import refuse_baseline

Baseline = float | Sequence[float]
"""What a hidden pixel shows: a number, or one a channel."""


class RegionGame:
    """Scores a picture with some of its superpixels in view.

    Args:
        passes: Where the pictures go.
        image: Which picture of the batch.
        regions: (H, W) int64, its superpixels.
        baseline: What a hidden pixel shows.
    """

    def __init__(self, passes: Passes, image: int, regions: Tensor, baseline: Baseline) -> None:
        self.passes = passes
        self._image, self._regions, self._baseline = image, regions, baseline
        self._areas = regions.flatten().bincount()
        self._finite = True

    def play(self, coalitions: Tensor) -> Tensor:
        """Score coalitions (n, R), as (n,) float64; what is not finite counts as 0.

        No values explain such scores, and solvers refuse them: all maps become NaN.
        """
        picture, parts = self.passes.pixels.inputs[self._image], []
        for part in self.passes.chunks(len(coalitions)):
            with refuse_baseline(self.passes.method):
                masked = kernels.region_batch(
                    picture, self._regions, coalitions[part].bool(), self._baseline
                )
            parts.append(self.passes.scores(masked, self._image))
        scores = torch.cat(parts).double() if parts else coalitions.new_zeros(0)
        finite = scores.isfinite()
        self._finite = self._finite and bool(finite.all())
        return scores.where(finite, 0)

    def spread(self, values: Tensor) -> Tensor:
        """Spread each region's value (R,) evenly over its pixels, (H, W)."""
        spread = (values / self._areas)[self._regions]
        return spread if self._finite else torch.full_like(spread, torch.nan)


def find_superpixels(picture: Tensor, segments: int) -> Tensor:
    """Find regions of near and similar pixels by SLIC, of scikit-image.

    Achanta et al., SLIC Superpixels Compared to State-of-the-Art Superpixel Methods, 2012.

    Args:
        picture: (C, H, W) as the model takes it; its range is stretched to [0, 1].
        segments: About how many.

    Returns:
        (H, W) int64 from 0 on, without gaps, on the picture's device.
    """
    if segments >= picture[0].numel():
        return torch.arange(picture[0].numel(), device=picture.device).view(picture.shape[1:])
    # Imported here, because nothing else in the library needs it.
    from skimage.segmentation import slic

    values = picture.detach().float().nan_to_num(0, 0, 0)
    low, high = values.min(), values.max()
    values = (values - low) / (high - low).clamp(min=1e-12)
    labels = slic(
        values.movedim(0, -1).cpu().numpy(), n_segments=segments, start_label=0, channel_axis=-1
    )
    _, numbers = torch.unique(torch.from_numpy(labels), return_inverse=True)
    regions: Tensor = numbers.to(picture.device)
    return regions
