"""Mask the picture and measure the score: occlusion and RISE.

They need neither gradients nor layers, so they explain any model that can be called. Its inputs
are made batch by batch, and no more than one batch of them exists at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cam import kernels
from cam._engine.forward import Probabilities
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.draws import STEADY, Draws, Estimate, Sum, mean_of, tell_errors
from cam._methods.base.maps import refuse_baseline, stretch
from cam._methods.base.method_registry import register_method
from cam.errors import MethodError
from cam.parameters import SEED, colour, integer, number
from cam.types import Maps


@register_method(
    "occlusion",
    rules={"window": integer(1), "stride": integer(1), "baseline": colour()},
    agreement=lambda window, stride, **_: (
        f"stride is {stride}, but must be at most its window, {window}, or pixels would be left out"
        if stride > window
        else None
    ),
    title="Occlusion",
    family="perturbation",
    kind="contribution",
    reads=Pixels,
    needs_gradients=False,
    cost="1 forward, and one for each place of the window: 729 for 224 × 224 pixels by default",
)
def occlusion(
    pixels: Pixels,
    passes: Passes,
    *,
    window: int = 16,
    stride: int = 8,
    baseline: float | Sequence[float] = 0.0,
) -> Maps:
    """How far the score falls when a window over the place hides it.

    With x_k the image whose k-th window shows the baseline and y the explained score:
    map_s = mean over the windows k that cover s of (y(x) - y(x_k)). Windows lie at multiples of
    the stride, all channels of a pixel are hidden together, and a last window that reaches beyond
    the edge is cut off there, so that every pixel is covered.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype, and their scores (B,).
        passes: Where the images go.
        window: Side of the square, in pixels; at most the image's smaller side.
        stride: Pixels from one window to the next; at most the window.
        baseline: What a hidden pixel shows, after normalisation: a number (0 is the mean colour of
            a normalised image), or one a channel.

    Returns:
        Maps (B, H, W) float32; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range, or does not fit the image.

    References:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section
        4.2; averaged over the windows as in captum 0.9, Occlusion
    """
    inputs = pixels.inputs
    count, _, height, width = inputs.shape
    if window > min(height, width):
        raise MethodError(
            f"occlusion's window is {window}, but the image has only {height} × {width} pixels"
        )
    rows = _starts(height, window, stride, inputs.device)
    columns = _starts(width, window, stride, inputs.device)
    # One hole in the middle of a mask twice as large as the picture, which is cut to the picture at
    # a shift for each window.
    mask = torch.ones(2 * height, 2 * width, dtype=torch.bool, device=inputs.device)
    mask[height : height + window, width : width + window] = False
    shifts = torch.cartesian_prod(height - rows, width - columns)  # (K, 2)
    positions = len(shifts)
    over_rows = _covers(rows, window, height)  # (rows, H)
    over_columns = _covers(columns, window, width)  # (columns, W)

    scores: list[Tensor] = []

    def gather() -> Tensor:
        """Average the drops over those windows that were tried; NaN where none was."""
        tried = torch.cat(scores).float()
        rest = tried.new_full((count * positions - len(tried),), torch.nan)
        drops = pixels.scores.float()[:, None] - torch.cat([tried, rest]).view(count, positions)
        drops = drops.view(count, len(rows), len(columns))
        done = torch.arange(count * positions, device=drops.device).view_as(drops) < len(tried)
        # A window covers a pixel if its rows and its columns do, so no map of a window is needed.
        total = over_rows.T @ torch.where(done, drops, 0) @ over_columns  # (B, H, W)
        raw: Tensor = total / (over_rows.T @ done.float() @ over_columns)  # 0 / 0 is NaN
        return raw

    passes.expect(count * positions)
    for part in passes.chunks(count * positions):
        number = torch.arange(part.start, part.stop, device=inputs.device)
        owner = number // positions
        with refuse_baseline(passes.method):
            hidden = kernels.masked_batch(
                inputs,
                mask.expand(len(number), -1, -1),
                baseline,
                owner=owner,
                size=(2 * height, 2 * width),
                shifts=shifts[number % positions],
            )
        scores.append(passes.scores(hidden, owner))
        passes.tell(lambda: _normalise_known(gather()))
    raw = gather()
    return Maps(raw=raw, normalised=kernels.normalise(raw))


@register_method(
    "rise",
    rules={
        "masks": integer(1),
        "cells": integer(1),
        "probability": number(above=0, most=1),
        "steady": STEADY,
        "seed": SEED,
    },
    title="RISE",
    family="perturbation",
    kind="evidence",
    reads=Pixels,
    needs_gradients=False,
    cost=(
        "1 forward, and one for each mask: by default until another seed's map is expected to "
        "correlate by 0.95, at most 4000"
    ),
)
def rise(
    pixels: Pixels,
    passes: Passes,
    *,
    masks: int = 4000,
    cells: int = 7,
    probability: float = 0.5,
    steady: float = 0.95,
    seed: int = 0,
) -> Maps:
    """Which pixels are in view when the model, shown the image in random parts, is sure.

    map = E p(x ⊙ m) m / probability over masks m: a grid of cells × cells, each open with the given
    probability, brought to one cell more than the image by bilinear interpolation and cut to the
    image at a random shift. Of N masks it is estimated as E m = probability allows:
    map = Σ_n (p_n - p̄) (m_n - m̄) / ((N - 1) · probability) + p̄, p̄ and m̄ the means. It has the
    expectation of the paper's sum, without what the masks' own unevenness adds to that, and comes
    as near to it with an eighth of the masks.

    p is the softmax probability of the class, as in the paper, where the target is a class; the
    map adds scores up, and a logit's arbitrary offset would add the unevenness of the masks
    themselves to it. A model with a single output, and a target that is a callable, are taken as
    they are: ``cam.targets.Logit`` explains the logit.

    Beyond the centres of a mask's outermost cells its value goes on unchanged; the authors' program
    mirrors it there, which changes the outer half cell before the cut, and nothing else.

    The masks depend on the seed and the size of the image alone, so they are the same for all
    images of a batch, and on every device.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images go.
        masks: How many at most; the error falls with the root of it.
        cells: Cells along each side of a mask.
        probability: That a cell is open; above 0 and at most 1.
        steady: At which expected correlation with another seed's map, from that of two halves of
            the masks, no more are drawn; 1: all are.
        seed: Of the masks.

    Returns:
        Maps (B, H, W) float32. The raw one has no meaningful zero, so the other is min-max alone.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box
        Models, BMVC 2018, equation 6 and section 3.2
    """
    inputs = pixels.inputs
    count, _, height, width = inputs.shape
    grids, shifts, size = draw_grids(masks, cells, probability, seed, (height, width))
    grids, shifts = grids.to(inputs.device), shifts.to(inputs.device)
    white = torch.ones(1, 1, height, width, device=inputs.device)
    passes.expect(count * masks)
    network = passes.module
    if isinstance(pixels.targets, Tensor) and pixels.logits.shape[1] > 1:
        network = Probabilities(network)

    def show(groups: Sequence[Sum]) -> Tensor:
        both, open_, score = mean_of(groups)
        drawn = sum(group.count for group in groups)
        unbiased = drawn / max(drawn - 1, 1)
        map_: Tensor = (both - open_ * score) * unbiased / probability + score
        return map_

    estimates: list[Estimate] = []
    with passes.through(network):
        for image, picture in enumerate(inputs):
            draws = Draws(masks, Sum, show)
            for part in draws.batches(passes, steady):
                shift = shifts[part]
                weights = kernels.masked_batch(white, grids[part], size=size, shifts=shift)[:, 0]
                masked = kernels.masked_batch(picture, grids[part], size=size, shifts=shift)
                scores = passes.scores(masked, image).float()  # (n,)
                for group, rows in draws.cut(part):
                    score_, open_ = scores[rows], weights[rows]
                    both = torch.tensordot(score_, open_, 1)
                    total = torch.stack([both, open_.sum(0), score_.sum().expand_as(both)])
                    group.add(total, len(rows))
                draws.tell(passes, estimates, stretch)
            estimates.append(draws.estimate())
    raw = torch.stack([estimate.raw for estimate in estimates])
    return tell_errors(stretch(raw), estimates, "masks")


def draw_grids(
    masks: int, cells: int, probability: float, seed: int, picture: tuple[int, int]
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Draw RISE's masks, as small as they are before interpolation.

    Args:
        masks: How many, N.
        cells: Along each side, s.
        probability: That a cell is open.
        seed: Of a separate generator; the state of torch's is left alone.
        picture: (H, W).

    Returns:
        Grids (N, s, s) bool, shifts (N, 2) int64 in rows and columns, both on the CPU, and the
        size (height, width) to which a grid is interpolated: (s + 1) cells of ⌈H/s⌉ × ⌈W/s⌉.
    """
    generator = torch.Generator().manual_seed(seed)
    grids = torch.rand(masks, cells, cells, generator=generator) < probability
    cell = [-(-side // cells) for side in picture]
    shifts = [torch.randint(side, (masks,), generator=generator) for side in cell]
    return grids, torch.stack(shifts, 1), ((cells + 1) * cell[0], (cells + 1) * cell[1])


def _normalise_known(raw: Tensor) -> Maps:
    """Normalise maps (B, H, W) with pixels that no window has covered yet, which stay NaN."""
    unknown = raw.isnan()
    lowest = raw.nan_to_num(torch.inf).amin((1, 2), keepdim=True)
    normalised = kernels.normalise(torch.where(unknown, lowest, raw))
    return Maps(raw, normalised.masked_fill(unknown, torch.nan))


def _starts(side: int, window: int, stride: int, device: torch.device) -> Tensor:
    """List the starts of windows until one reaches the end."""
    steps = -(-(side - window) // stride) + 1
    return torch.arange(steps, device=device) * stride


def _covers(starts: Tensor, window: int, side: int) -> Tensor:
    """Return (windows, side), 1 where a window covers a position."""
    at = torch.arange(side, device=starts.device)
    return ((at >= starts[:, None]) & (at < starts[:, None] + window)).float()
