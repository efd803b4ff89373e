"""LIME and Kernel SHAP: linear models of the score over visible superpixels.

Both run the network on the picture with some of its superpixels and explain the scores by a sum
over those in view. They are written here and not taken from captum, whose loop over coalitions
makes one picture at a time, draws from torch's global generator, and fits by scikit-learn, which
the library does not need otherwise. No more than a batch of pictures exists at once.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from cam import kernels
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.draws import STEADY, Draws, Estimate, tell_errors
from cam._methods.base.method_registry import register_method
from cam._methods.perturbation.region_game import Baseline, RegionGame, find_superpixels
from cam.parameters import SEED, colour, integer, number
from cam.types import Maps

_RULES = {
    "samples": integer(2),
    "segments": integer(1),
    "baseline": colour(),
    "steady": STEADY,
    "seed": SEED,
}


@register_method(
    "lime",
    rules=_RULES | {"width": number(above=0), "ridge": number(0)},
    title="LIME",
    family="perturbation",
    kind="contribution",
    reads=Pixels,
    needs_gradients=False,
    cost=(
        "1 forward, and one for each sample: by default until another seed's map is expected to "
        "correlate by 0.95, at most 4000"
    ),
)
def lime(
    pixels: Pixels,
    passes: Passes,
    *,
    samples: int = 4000,
    segments: int = 50,
    width: float = 0.25,
    ridge: float = 1.0,
    baseline: Baseline = 0.0,
    steady: float = 0.95,
    seed: int = 0,
) -> Maps:
    """How much each superpixel adds to the score, by a linear model fitted around the image.

    Of z in {0, 1}^R, each superpixel in view or not with equal chance, and y(z) the explained
    score: w = argmin Σ_z exp(-d(z)² / 2 width²) (y(z) - b - w·z)² + ridge |w|², with d the cosine
    distance of z from all ones. The first z is the whole image. The w of a superpixel is spread
    evenly over its pixels.

    What is drawn depends on the seed and the number of superpixels alone, and images do not share
    batches, so an image has the same map in any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images go.
        samples: How many z at most.
        segments: About how many superpixels (SLIC, by scikit-image); as many as there are pixels:
            each of them.
        width: Of the kernel that makes those with most in view count most.
        ridge: Weight of the penalty, at least 0.
        baseline: What a hidden pixel shows, after normalisation: a number or one a channel.
        steady: At which expected correlation with another seed's map, from that of two halves of
            the z, no more are drawn; 1: all are.
        seed: Of the z.

    Returns:
        Maps (B, H, W) float32; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Ribeiro, Singh and Guestrin, “Why Should I Trust You?”: Explaining the Predictions of Any
        Classifier, KDD 2016, equation 2; distance, kernel and ridge as in the authors' lime 0.2
    """
    passes.expect(len(pixels.inputs) * samples)
    estimates: list[Estimate] = []
    for image, picture in enumerate(pixels.inputs):
        regions = find_superpixels(picture, segments)
        coalitions = draw_lime_coalitions(samples, int(regions.max()) + 1, seed).to(picture.device)
        similar = torch.nn.functional.cosine_similarity(coalitions, torch.ones_like(coalitions))
        weights = torch.exp(-((1 - similar) ** 2) / (2 * width**2))
        game = RegionGame(passes, image, regions, baseline)
        estimates.append(
            _fit_until_steady(
                game, coalitions, weights, partial(_fit_ridge, ridge=ridge), steady, estimates
            )
        )
    return _maps(estimates)


@register_method(
    "kernelshap",
    rules=_RULES,
    title="Kernel SHAP",
    family="perturbation",
    kind="contribution",
    reads=Pixels,
    needs_gradients=False,
    cost=(
        "3 forwards, and one for each sample: by default until another seed's map is expected to "
        "correlate by 0.95, at most 4000"
    ),
)
def kernelshap(
    pixels: Pixels,
    passes: Passes,
    *,
    samples: int = 4000,
    segments: int = 25,
    baseline: Baseline = 0.0,
    steady: float = 0.95,
    seed: int = 0,
) -> Maps:
    """Each superpixel's Shapley value: its fair share of what the image scores above a blank one.

    Of z in {0, 1}^R and y(z) the explained score with the superpixels of z in view:
    φ = argmin Σ_z π(z) (y(z) - y(0) - φ·z)² under Σ φ = y(1) - y(0). Of the z each number k of
    regions in view has the same share, with the weight π = (R - 1) / (k (R - k)), and each is
    followed by its complement. Drawn in proportion to π, as in the first paper, they need about
    twice as many for the same error.
    Where there are no more than ``samples`` of z, all are taken, each with its weight, and φ is
    exact. The φ of a superpixel is spread evenly over its pixels, so that a map adds up to
    y(1) - y(0).

    What is drawn depends on the seed and the number of superpixels alone, and images do not share
    batches, so an image has the same map in any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images go.
        samples: How many z at most.
        segments: About how many superpixels (SLIC, by scikit-image); as many as there are pixels:
            each of them.
        baseline: What a hidden pixel shows, after normalisation: a number or one a channel.
        steady: At which expected correlation with another seed's map, from that of two halves of
            the z, no more are drawn; 1: all are.
        seed: Of the z.

    Returns:
        Maps (B, H, W) float32; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017,
        theorem 2; pairs of complements as in Covert and Lee, Improving KernelSHAP: Practical
        Shapley Value Estimation via Linear Regression, AISTATS 2021, section 4.2; sizes as in Musco
        and Witter, Provably Accurate Shapley Value Estimation via Leverage Score Sampling, ICLR
        2025, algorithm 1
    """
    estimates: list[Estimate] = []
    divided = [find_superpixels(picture, segments) for picture in pixels.inputs]
    drawn = [draw_shap_coalitions(samples, int(regions.max()) + 1, seed) for regions in divided]
    passes.expect(sum(len(weights) + 2 for _, weights in drawn))
    for image, regions in enumerate(divided):
        coalitions, weights = (tensor.to(regions.device) for tensor in drawn[image])
        count = coalitions.shape[1]
        game = RegionGame(passes, image, regions, baseline)
        blank, whole = game.play(coalitions.new_tensor([[0.0], [1.0]]).expand(2, count))
        fit = partial(fit_shapley_values, blank=blank, whole=whole)
        if count < 2 or len(weights) == 2**count - 2:
            raw = game.spread(fit(coalitions, game.play(coalitions), weights))
            estimates.append(Estimate(raw, torch.zeros_like(raw), 1.0, len(weights)))
        else:
            estimates.append(
                _fit_until_steady(game, coalitions, weights, fit, steady, estimates, least=count)
            )
    return _maps(estimates)


def draw_lime_coalitions(samples: int, regions: int, seed: int) -> Tensor:
    """Draw coalitions (samples, regions) of 0 and 1, the first whole."""
    generator = torch.Generator().manual_seed(seed)
    coalitions = torch.rand(samples, regions, generator=generator) < 0.5
    coalitions[0] = True
    return coalitions.double()


def draw_shap_coalitions(samples: int, regions: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw coalitions, none empty and none whole, with their weights.

    Returns:
        (n, regions) float64 of 0 and 1, and (n,) float64. All 2^R - 2 sets with their Shapley
        kernel if they are no more than the samples; else as many as those, of all sizes alike,
        with a size's weight in the kernel.
    """
    if regions == 1:
        return torch.zeros(0, 1, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    sizes = torch.arange(1, regions, dtype=torch.float64)
    by_size = (regions - 1) / (sizes * (regions - sizes))
    if regions < 40 and 2**regions - 2 <= samples:
        numbers = torch.arange(1, 2**regions - 1)
        coalitions = (numbers[:, None] >> torch.arange(regions)) & 1
        count = coalitions.sum(1)
        sets = torch.tensor([math.comb(regions, int(size)) for size in count])
        return coalitions.double(), by_size[count - 1] / sets
    generator = torch.Generator().manual_seed(seed)
    pairs = -(-samples // 2)
    # Each size equally often, give or take one, in random order so that any part is a fair draw.
    order = torch.randperm(pairs, generator=generator)
    drawn = (order * (regions - 1) + int(pairs * torch.rand((), generator=generator))) // pairs
    drawn = drawn.clamp(max=regions - 2) + 1  # (pairs,)
    ranks = torch.rand(pairs, regions, generator=generator).argsort(1).argsort(1)
    half = (ranks < drawn[:, None]).double()
    coalitions = torch.stack([half, 1 - half], 1).flatten(0, 1)[:samples]
    return coalitions, by_size[drawn - 1].repeat_interleave(2)[:samples]


def fit_shapley_values(
    coalitions: Tensor, scores: Tensor, weights: Tensor, blank: Tensor, whole: Tensor
) -> Tensor:
    """Fit regions' values that add up to ``whole - blank``.

    Args:
        coalitions: (n, R) float64, 1 where a region was in view.
        scores: (n,) float64 with them.
        weights: (n,) float64.
        blank: The score without any region.
        whole: The score with all.

    Returns:
        (R,) float64.
    """
    change = whole - blank
    # The last value is what the others leave.
    last = coalitions[:, -1:]
    right = scores - blank - last[:, 0] * change
    values = _solve(coalitions[:, :-1] - last, right, weights)
    return torch.cat([values, (change - values.sum())[None]])


def _fit_ridge(coalitions: Tensor, scores: Tensor, weights: Tensor, ridge: float) -> Tensor:
    """Fit slopes (R,) by weighted ridge regression; its offset is not penalised."""
    share = weights / weights.sum()
    return _solve(coalitions - share @ coalitions, scores - share @ scores, weights, ridge)


def _solve(left: Tensor, right: Tensor, weights: Tensor, ridge: float = 0) -> Tensor:
    """Minimise Σ_n weights_n (right_n - left_n·v)² + ridge |v|² over v, (R,)."""
    gram = left.T @ (weights[:, None] * left)
    gram.diagonal().add_(ridge)
    solution: Tensor = torch.linalg.pinv(gram, hermitian=True) @ (left.T @ (weights * right))
    return solution


def _fit_until_steady(
    game: RegionGame,
    coalitions: Tensor,
    weights: Tensor,
    fit: Callable[[Tensor, Tensor, Tensor], Tensor],
    steady: float,
    before: Sequence[Estimate],
    least: int = 1,
) -> Estimate:
    """Play coalitions (n, R) in turn until chance no longer decides the values.

    Args:
        game: Scores them.
        coalitions: Pairs of complements stay together.
        weights: (n,).
        fit: From coalitions (m, R), scores (m,) and weights (m,) to values (R,).
        steady: As for :meth:`Draws.batches`.
        before: Estimates of the images before this one.
        least: The fewest coalitions that determine the values.
    """
    scores = coalitions.new_zeros(len(coalitions))

    def show(groups: Sequence[list[int]]) -> Tensor:
        rows = sorted(itertools.chain.from_iterable(groups))
        return game.spread(fit(coalitions[rows], scores[rows], weights[rows]))

    draws = Draws(len(coalitions), list[int], show, block=2, least=least)
    for part in draws.batches(game.passes, steady):
        scores[part] = game.play(coalitions[part])
        for group, rows in draws.cut(part):
            group.extend(part.start + row for row in rows)
        # A coalition and its complement say the same, so fewer leave the values open.
        if part.stop >= 2 * coalitions.shape[1]:
            draws.tell(game.passes, before, _normalise)
    return draws.estimate()


def _maps(estimates: list[Estimate]) -> Maps:
    maps = _normalise(torch.stack([estimate.raw for estimate in estimates]))
    return tell_errors(maps, estimates, "samples")


def _normalise(raw: Tensor) -> Maps:
    raw = raw.float()
    return Maps(raw, kernels.normalise(raw))
