"""Sobol and HSIC indices: how much the score depends on each part."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from cam import kernels
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.draws import Draws, Estimate, tell_errors
from cam._methods.base.maps import promote
from cam._methods.base.method_registry import register_method
from cam._methods.perturbation.region_game import RegionGame
from cam.errors import MethodError
from cam.parameters import SEED, integer, number
from cam.types import Maps

# torch.quasirandom.SobolEngine has 21,201 dimensions, of which a cell takes two.
_MOST_CELLS = 100


@register_method(
    "sobol",
    rules={
        "designs": integer(2),
        "cells": integer(1, _MOST_CELLS),
        "baseline": number(),
        "seed": SEED,
    },
    title="Sobol indices",
    family="perturbation",
    kind="sensitivity",
    reads=Pixels,
    needs_gradients=False,
    cost="1 forward, and (cells² + 2) for each design: 51 × 32 by default",
)
def sobol(
    pixels: Pixels,
    passes: Passes,
    *,
    designs: int = 32,
    cells: int = 7,
    baseline: float = 0.0,
    seed: int = 0,
) -> Maps:
    """Which share of the score's variance needs each part, when all fade in and out at random.

    A mask z has a value in [0, 1] for each of d = cells² parts, and shows z x + (1 - z) baseline.
    Of masks A_n and B_n from a scrambled Sobol sequence, and A_n^(i) with B_n's value in part i,
    the total-order index of part i is Σ_n (y(A_n) - y(A_n^(i)))² / (2 N var y(A)): all that the
    part does, alone or together with others, whatever its sign.

    Images do not share batches, so an image has the same map in any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images go.
        designs: N; a power of two fills the space most evenly.
        cells: Parts along each side; at most the image's smaller side.
        baseline: What a hidden pixel shows, after normalisation.
        seed: Of the sequence.

    Returns:
        Maps (B, H, W) float32, at least 0.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Fel et al., Look at the Variance! Efficient Black-box Explanations with Sobol-based
        Sensitivity Analysis, NeurIPS 2021, equation 4; estimator of Jansen 1999
    """
    inputs = pixels.inputs
    count = cells**2
    passes.expect(len(inputs) * designs * (count + 2))
    masks = draw_sobol_masks(designs, count, seed).to(inputs.device).flatten(0, 1)
    grid = make_grid(inputs, cells, passes.method)
    estimates: list[Estimate] = []
    for image, picture in enumerate(promote(inputs)):
        scores = masks.new_zeros(len(masks))
        by_design = scores.view(designs, count + 2)

        def show(groups: Sequence[list[int]], by_design: Tensor = by_design) -> Tensor:
            rows = by_design[list(chain.from_iterable(groups))]
            variance = rows[:, 0].var()
            squares = (rows[:, :1] - rows[:, 2:]).square().mean(0) / 2  # (d,)
            return (squares / variance.where(variance != 0, 1))[grid]

        draws: Draws[list[int]] = Draws(designs, list, show, least=2)
        gathered = 0
        for part in passes.chunks(len(masks)):
            opacity = masks[part][:, grid].to(picture)[:, None]  # (n, 1, H, W)
            mixed = baseline + opacity * (picture - baseline)
            scores[part] = passes.scores(mixed.to(inputs.dtype), image).double()
            whole = slice(gathered, part.stop // (count + 2))
            for group, rows in draws.cut(whole):
                group.extend(whole.start + row for row in rows)
            gathered = whole.stop
            draws.tell(passes, estimates, _normalise)
        draws.count = designs
        estimates.append(draws.estimate())
    maps = _normalise(torch.stack([estimate.raw for estimate in estimates]))
    return tell_errors(maps, estimates, "designs")


@register_method(
    "hsic",
    rules={
        "samples": integer(4),
        "cells": integer(1),
        "baseline": number(),
        "seed": SEED,
    },
    title="HSIC attribution",
    family="perturbation",
    kind="sensitivity",
    reads=Pixels,
    needs_gradients=False,
    cost="1 forward, and one for each sample: 1500 by default",
)
def hsic(
    pixels: Pixels,
    passes: Passes,
    *,
    samples: int = 1500,
    cells: int = 7,
    baseline: float = 0.0,
    seed: int = 0,
) -> Maps:
    """How strongly the score depends, in any way, on whether each part is in view.

    Of masks z in {0, 1}^d, each of d = cells² parts in view or not with equal chance, the
    Hilbert–Schmidt independence criterion of part i: tr(K H L H) / N² with K = 1 + ½ - (z - z')²
    over the pairs of masks, L = exp(-(y - y')² / 2 m²) with m the median of |y - y'|, and H what
    takes the mean off. It is 0 where the score does not depend on the part.

    xplique takes the median of y for m, which changes where a logit's offset does, and divides by N
    in place of N².

    Images do not share batches, so an image has the same map in any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images go.
        samples: N.
        cells: Parts along each side; at most the image's smaller side.
        baseline: What a hidden pixel shows, after normalisation.
        seed: Of the masks.

    Returns:
        Maps (B, H, W) float32, at least 0.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Novello, Fel and Vigouroux, Making Sense of Dependence: Efficient Black-box Explanations
        Using Dependence Measure, NeurIPS 2022, section 3
    """
    inputs = pixels.inputs
    grid = make_grid(inputs, cells, passes.method)
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(samples, cells**2, generator=generator) < 0.5).double()
    masks = masks.to(inputs.device)
    passes.expect(len(inputs) * samples)
    estimates: list[Estimate] = []
    for image in range(len(inputs)):
        scores = masks.new_zeros(samples)
        game = RegionGame(passes, image, grid, baseline)

        def show(groups: Sequence[list[int]], scores: Tensor = scores) -> Tensor:
            rows = list(chain.from_iterable(groups))
            return compute_hsic(masks[rows], scores[rows])[grid]

        draws: Draws[list[int]] = Draws(samples, list, show, least=4)
        for part in draws.batches(passes):
            scores[part] = game.play(masks[part])
            for group, rows in draws.cut(part):
                group.extend(part.start + row for row in rows)
            draws.tell(passes, estimates, _normalise)
        estimates.append(draws.estimate())
    maps = _normalise(torch.stack([estimate.raw for estimate in estimates]))
    return tell_errors(maps, estimates, "samples")


def _normalise(raw: Tensor) -> Maps:
    raw = raw.float()
    return Maps(raw, kernels.normalise(raw))


def draw_sobol_masks(designs: int, count: int, seed: int) -> Tensor:
    """Draw A_n, B_n and the A_n^(i) of each design, (designs, count + 2, count) float64."""
    engine = torch.quasirandom.SobolEngine(  # type: ignore[no-untyped-call]
        2 * count, scramble=True, seed=seed
    )
    drawn = engine.draw(designs, dtype=torch.float64)
    first, second = drawn[:, :count], drawn[:, count:]
    changed = first[:, None].repeat(1, count, 1)  # (N, d, d)
    changed.diagonal(dim1=1, dim2=2).copy_(second)
    return torch.cat([first[:, None], second[:, None], changed], 1)


def compute_hsic(masks: Tensor, scores: Tensor) -> Tensor:
    """Compute the criterion of each part.

    The kernel of two binary values is 1 + 2 (z - ½) (z' - ½), of which H takes the 1 off, so the
    trace is 2 Σ_nm z_n z_m L_nm with z and L less their means.

    Args:
        masks: (N, d) float64 of 0 and 1.
        scores: (N,) float64.

    Returns:
        (d,) float64.
    """
    apart = (scores[:, None] - scores).abs()  # (N, N)
    width = apart.median()
    alike = torch.exp(-apart.square() / (2 * width.where(width != 0, 1) ** 2))
    centred = masks - masks.mean(0)
    return 2 * ((alike @ centred) * centred).sum(0) / len(scores) ** 2


def make_grid(pictures: Tensor, cells: int, method: str) -> Tensor:
    """Number the parts of a grid, (H, W) int64, as interpolation to the nearest draws it.

    Args:
        pictures: (…, H, W).
        cells: Along each side.
        method: Whose they are.

    Raises:
        MethodError: The picture has fewer pixels along a side.
    """
    size, device = pictures.shape[-2:], pictures.device
    if cells > min(size):
        raise MethodError(
            f"{method}'s cells are {cells}, but the image has only {size[0]} × {size[1]} pixels"
        )
    # A place's cell is where it begins, as in torch's interpolation.
    rows, columns = (torch.arange(side, device=device) * cells // side for side in size)
    return rows[:, None] * cells + columns
