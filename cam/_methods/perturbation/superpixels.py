"""LIME and Kernel SHAP: linear models of the score over visible superpixels.

Both run the network on the picture with some of its superpixels and explain the scores by a sum
over those in view. They are written here and not taken from captum, whose loop over coalitions
makes one picture at a time, draws from torch's global generator, and fits by scikit-learn, which
the library does not need otherwise. No more than a batch of pictures exists at once.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cam import kernels
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.maps import refuse_baseline
from cam._methods.base.method_registry import register_method
from cam.parameters import SEED, colour, integer, number
from cam.types import Maps

Baseline = float | Sequence[float]

_RULES = {
    "samples": integer(2),
    "segments": integer(1),
    "baseline": colour(blur=False),
    "seed": SEED,
}


@register_method(
    "lime",
    rules=_RULES | {"width": number(above=0), "ridge": number(0)},
    title="LIME",
    family="perturbation",
    kind="contribution",
    reads=Pixels,
    cost="1 forward, and one for each sample: 500 by default",
)
def lime(
    pixels: Pixels,
    passes: Passes,
    *,
    samples: int = 500,
    segments: int = 50,
    width: float = 0.25,
    ridge: float = 1.0,
    baseline: Baseline = 0.0,
    seed: int = 0,
) -> Maps:
    """How much each superpixel adds to the score, by a linear model fitted around the picture.

    Of z in {0, 1}^R, each superpixel in view or not with equal chance, and y(z) the explained
    score: w = argmin Σ_z exp(-d(z)² / 2 width²) (y(z) - b - w·z)² + ridge |w|², with d the cosine
    distance of z from all ones. The first z is the whole picture. The w of a superpixel is spread
    evenly over its pixels.

    What is drawn depends on the seed and the number of superpixels alone, and images do not share
    batches, so an image has the same map in any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the pictures go.
        samples: How many z.
        segments: About how many superpixels (SLIC, by scikit-image); as many as there are pixels:
            each of them.
        width: Of the kernel that makes those with most in view count most.
        ridge: Weight of the penalty, at least 0.
        baseline: What a hidden pixel shows, after normalisation: a number or one a channel.
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
    maps = []
    for image, picture in enumerate(pixels.inputs):
        regions = find_superpixels(picture, segments)
        coalitions = draw_lime_coalitions(samples, int(regions.max()) + 1, seed).to(picture.device)
        scores, finite = _score_coalitions(passes, image, regions, coalitions, baseline)
        similar = torch.nn.functional.cosine_similarity(coalitions, torch.ones_like(coalitions))
        weights = torch.exp(-((1 - similar) ** 2) / (2 * width**2))
        values = _fit_ridge(coalitions, scores, weights, ridge)
        maps.append(_spread(values, regions).where(finite, torch.nan))
    return _maps(maps)


@register_method(
    "kernelshap",
    rules=_RULES,
    title="Kernel SHAP",
    family="perturbation",
    kind="contribution",
    reads=Pixels,
    cost="3 forwards, and one for each sample: 500 by default",
)
def kernelshap(
    pixels: Pixels,
    passes: Passes,
    *,
    samples: int = 500,
    segments: int = 50,
    baseline: Baseline = 0.0,
    seed: int = 0,
) -> Maps:
    """Each superpixel's Shapley value: its fair share of what the picture scores above a blank one.

    Of z in {0, 1}^R and y(z) the explained score with the superpixels of z in view:
    φ = argmin Σ_z (y(z) - y(0) - φ·z)² under Σ φ = y(1) - y(0), with z drawn so that k of R are in
    view with a probability in proportion to (R - 1) / (k (R - k)), each followed by its complement.
    Where there are no more than ``samples`` of z, all are taken, each with its weight, and φ is
    exact. The φ of a superpixel is spread evenly over its pixels, so that a map adds up to
    y(1) - y(0).

    What is drawn depends on the seed and the number of superpixels alone, and images do not share
    batches, so an image has the same map in any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the pictures go.
        samples: How many z.
        segments: About how many superpixels (SLIC, by scikit-image); as many as there are pixels:
            each of them.
        baseline: What a hidden pixel shows, after normalisation: a number or one a channel.
        seed: Of the z.

    Returns:
        Maps (B, H, W) float32; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017,
        theorem 2; pairs of complements as in Covert and Lee, Improving KernelSHAP: Practical
        Shapley Value Estimation via Linear Regression, AISTATS 2021, section 4.2
    """
    divided = [find_superpixels(picture, segments) for picture in pixels.inputs]
    drawn = [draw_shap_coalitions(samples, int(regions.max()) + 1, seed) for regions in divided]
    passes.expect(sum(len(weights) + 2 for _, weights in drawn))
    maps = []
    for image, regions in enumerate(divided):
        coalitions, weights = (tensor.to(regions.device) for tensor in drawn[image])
        ends = coalitions.new_tensor([[0.0], [1.0]]).expand(2, coalitions.shape[1])
        scores, finite = _score_coalitions(
            passes, image, regions, torch.cat([ends, coalitions]), baseline
        )
        values = fit_shapley_values(coalitions, scores[2:], weights, scores[0], scores[1])
        maps.append(_spread(values, regions).where(finite, torch.nan))
    return _maps(maps)


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
        kernel if they are no more than the samples; else as many as those, drawn by it.
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
    drawn = torch.multinomial(by_size, pairs, replacement=True, generator=generator) + 1
    ranks = torch.rand(pairs, regions, generator=generator).argsort(1).argsort(1)
    half = (ranks < drawn[:, None]).double()
    coalitions = torch.stack([half, 1 - half], 1).flatten(0, 1)[:samples]
    return coalitions, torch.ones(samples, dtype=torch.float64)


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


def _score_coalitions(
    passes: Passes, image: int, regions: Tensor, coalitions: Tensor, baseline: Baseline
) -> tuple[Tensor, Tensor]:
    """Score the picture with each coalition in view, (n,) float64.

    Also returns whether all scores are finite. If not, they are 0: no values explain them, and
    solvers refuse them.
    """
    picture, parts = passes.pixels.inputs[image], []
    for part in passes.chunks(len(coalitions)):
        with refuse_baseline(passes.method):
            masked = kernels.region_batch(picture, regions, coalitions[part].bool(), baseline)
        parts.append(passes.scores(masked, image))
    scores = torch.cat(parts).double()
    finite = scores.isfinite().all()
    return scores.where(finite, 0), finite


def _spread(values: Tensor, regions: Tensor) -> Tensor:
    """Spread each region's value (R,) evenly over its pixels, (H, W)."""
    return (values / regions.flatten().bincount())[regions]


def _maps(maps: list[Tensor]) -> Maps:
    raw = torch.stack(maps).float()
    return Maps(raw=raw, normalised=kernels.normalise(raw))
