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
from cam._methods.base.maps import normalise_maps, refuse_baseline, stretch
from cam._methods.base.method_registry import register_method
from cam._methods.perturbation.blocks import Blocks
from cam.errors import MethodError
from cam.parameters import SEED, colour, integer, number, optional
from cam.types import Maps


@register_method(
    "occlusion",
    rules={
        "window": integer(1),
        "stride": integer(1),
        "depth": optional(integer(1)),
        "baseline": colour(),
    },
    agreement=lambda window, stride, **_: (
        f"stride is {stride}, but must be at most its window, {window}, or pixels would be left out"
        if stride > window
        else None
    ),
    title="Occlusion",
    family="perturbation",
    kind="contribution",
    reads=Pixels,
    volumes=True,
    needs_gradients=False,
    cost="1 forward, and one for each place of the window: 729 for 224 × 224 pixels by default",
)
def occlusion(
    pixels: Pixels,
    passes: Passes,
    *,
    window: int = 16,
    stride: int = 8,
    depth: int | None = None,
    baseline: float | Sequence[float] = 0.0,
) -> Maps:
    """How far the score falls when a window over the place hides it.

    With x_k the image whose k-th window shows the baseline and y the explained score:
    map_s = mean over the windows k that cover s of (y(x) - y(x_k)). In a volume or a clip they are
    blocks. Windows lie at multiples of
    the stride, all channels of a pixel are hidden together, and a last window that reaches beyond
    the edge is cut off there, so that every pixel is covered.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype, and their scores (B,).
        passes: Where the images go.
        window: Side of the square, in pixels; at most the image's smaller side.
        stride: Pixels from one window to the next; at most the window.
        depth: Of a volume or a clip, how many planes or frames a block hides, at every half of as
            many; None: a quarter of them.
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
    count, sides = len(inputs), inputs.shape[2:]
    if window > min(sides[-2:]):
        raise MethodError(
            f"occlusion's window is {window}, but the image has only {sides[-2]} × {sides[-1]} "
            "pixels"
        )
    windows, strides = [window, window], [stride, stride]
    if len(sides) == 3:
        depth = -(-sides[0] // 4) if depth is None else depth
        if depth > sides[0]:
            raise MethodError(
                f"occlusion's depth is {depth}, but there are only {sides[0]} planes or frames"
            )
        windows, strides = [depth, *windows], [max(depth // 2, 1), *strides]
    elif depth is not None:
        raise MethodError(
            f"occlusion's depth, {depth}, is of a volume's or clip's blocks, and this is an image"
        )
    blocks = Blocks(inputs, windows, strides)
    total = count * blocks.positions
    scores: list[Tensor] = []

    def gather() -> Tensor:
        """Average the drops over those windows that were tried; NaN where none was."""
        tried = torch.cat(scores).float()
        rest = tried.new_full((total - len(tried),), torch.nan)
        drops = pixels.scores.float()[:, None] - torch.cat([tried, rest]).view(count, -1)
        drops = drops.view(count, *blocks.counts)
        done = torch.arange(total, device=drops.device).view_as(drops) < len(tried)
        # 0 / 0 is NaN.
        return blocks.spread(torch.where(done, drops, 0)) / blocks.spread(done.float())

    passes.expect(total)
    for part in passes.chunks(total):
        number = torch.arange(part.start, part.stop, device=inputs.device)
        with refuse_baseline(passes.method):
            hidden, owner = blocks.hide(number, baseline)
        scores.append(passes.scores(hidden, owner))
        passes.tell(lambda: _normalise_known(gather()))
    raw = gather()
    return Maps(raw=raw, normalised=normalise_maps(raw))


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
    volumes=True,
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
    count, sides = len(inputs), tuple(inputs.shape[2:])
    grids, shifts, size = draw_grids(masks, cells, probability, seed, sides)
    grids, shifts = grids.to(inputs.device), shifts.to(inputs.device)
    white = torch.ones(1, 1, *sides, device=inputs.device)
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
        for image in range(count):
            picture = inputs[image : image + 1]
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
    masks: int, cells: int, probability: float, seed: int, picture: tuple[int, ...]
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Draw RISE's masks, as small as they are before interpolation.

    Args:
        masks: How many, N.
        cells: Along each side, s.
        probability: That a cell is open.
        seed: Of a separate generator; the state of torch's is left alone.
        picture: (H, W), or (D, H, W) of a volume, whose planes have no more than one cell each.

    Returns:
        Grids (N, s, s) bool, shifts (N, 2) int64 in rows and columns, both on the CPU, and the
        size (height, width) to which a grid is interpolated: (s + 1) cells of ⌈H/s⌉ × ⌈W/s⌉. Of a
        volume there is an axis more.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = [cells] * len(picture)
    if len(picture) == 3:
        counts[0] = min(cells, picture[0])
    grids = torch.rand(masks, *counts, generator=generator) < probability
    cell = [-(-side // number) for side, number in zip(picture, counts, strict=True)]
    shifts = [torch.randint(side, (masks,), generator=generator) for side in cell]
    size = tuple((number + 1) * side for number, side in zip(counts, cell, strict=True))
    return grids, torch.stack(shifts, 1), size


def _normalise_known(raw: Tensor) -> Maps:
    """Normalise maps (B, H, W) with pixels that no window has covered yet, which stay NaN."""
    unknown = raw.isnan()
    lowest = raw.nan_to_num(torch.inf).amin(tuple(range(1, raw.ndim)), keepdim=True)
    normalised = normalise_maps(torch.where(unknown, lowest, raw))
    return Maps(raw, normalised.masked_fill(unknown, torch.nan))
