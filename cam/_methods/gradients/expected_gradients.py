"""Expected gradients and GradientSHAP: integrated gradients from many pictures."""

import torch
from torch import Tensor

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.background import (
    REFERENCES,
    check_references,
    take_background,
    tell_stand_ins,
)
from cam._methods.base.draws import GROUPS, STEADY, Draws, Estimate, Sum, mean_of, tell_errors
from cam._methods.base.maps import promote, reduce_gradient
from cam._methods.base.method_registry import register_method
from cam._methods.base.noisy_copies import draw_noise
from cam.parameters import SEED, integer, number
from cam.types import Maps

_COST = (
    "1 forward, and a forward and a backward for each sample: by default until another seed's "
    "map is expected to correlate by 0.95, at most 4000"
)
_RULES = {
    "samples": integer(1),
    "references": REFERENCES,
    "steady": STEADY,
    "seed": SEED,
}


@register_method(
    "expected_gradients",
    rules=_RULES,
    title="Expected gradients",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    volumes=True,
    cost=_COST,
)
def expected_gradients(
    pixels: Pixels,
    passes: Passes,
    *,
    samples: int = 4000,
    references: Tensor | None = None,
    steady: float = 0.95,
    seed: int = 0,
) -> Maps:
    """How much each pixel adds to the score compared with other images, not with a blank one.

    a = E (x - x') ⊙ ∂y/∂x (x' + α (x - x')) over images x' and α uniform in [0, 1];
    map = Σ_c a_c. The raw map adds up to y(x) - E y(x'), but for the error of the samples. The
    other map shows |Σ_c a_c|, min-max normalised for each image.

    The paper takes x' from the training images, and ``references`` is for them. Without them
    the bundled photos stand in, in the colours of the image, and the attribution's notes say so.

    Each α comes from a separate stratum and each reference is taken equally often, give or take
    once, which lowers the error and changes no expectation. What is drawn depends on the seed and
    the shape of an image alone, and images do not share batches, so an image has the same map in
    any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images on the path go.
        samples: Pairs of x' and α, at most.
        references: (R, C, H, W) images as the model takes them, on its device; None: see above.
        steady: At which expected correlation with another seed's map, from that of two halves of
            the samples, no more are drawn; 1: all are.
        seed: Of what is drawn.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range, or references that do not fit the images.

    References:
        Erion et al., Improving performance of deep learning models with axiomatic attribution
        priors and expected gradients, Nature Machine Intelligence 2021, equation 3
    """
    return _expect(passes, samples, references, 0.0, steady, seed)


@register_method(
    "gradientshap",
    rules=_RULES | {"noise": number(0)},
    title="GradientSHAP",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    volumes=True,
    cost=_COST,
)
def gradientshap(
    pixels: Pixels,
    passes: Passes,
    *,
    samples: int = 4000,
    references: Tensor | None = None,
    noise: float = 0.09,
    steady: float = 0.95,
    seed: int = 0,
) -> Maps:
    """How much each pixel adds to the score above other images', averaged over noisy copies.

    a = E (x + σ ε - x') ⊙ ∂y/∂x (x' + α (x + σ ε - x')) over references x', α uniform in [0, 1]
    and ε standard normal; map = Σ_c a_c, with σ the given share of the image's range of values.
    It approximates Shapley values of the pixels where the score is nearly linear between x' and x.
    Without noise it is expected gradients.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images on the path go.
        samples: Triples of x', α and ε, at most.
        references: (R, C, H, W) images as the model takes them, on its device; None: the bundled
            photos stand in, as for ``expected_gradients``.
        noise: Standard deviation of the noise, as a share of the image's range of values.
        steady: As for ``expected_gradients``.
        seed: Of what is drawn.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range, or references that do not fit the images.

    References:
        Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017; as
        GradientExplainer of the authors' shap and GradientShap of captum 0.9
    """
    return _expect(passes, samples, references, noise, steady, seed)


def _expect(
    passes: Passes,
    samples: int,
    references: Tensor | None,
    noise: float,
    steady: float,
    seed: int,
) -> Maps:
    """Average (x - x') ⊙ gradient over samples; see the methods above."""
    inputs = passes.pixels.inputs
    check_references(references, inputs, passes.method)
    estimates: list[Estimate] = []
    passes.expect(len(inputs) * samples)
    for image, picture in enumerate(promote(inputs)):
        others = take_background(references, picture)
        which, shares = draw_samples(samples, len(others), seed)
        which, shares = which.to(inputs.device), shares.to(picture)
        generator = torch.Generator(inputs.device).manual_seed(seed)
        scale = noise * (picture.max() - picture.min())
        draws = Draws(samples, Sum, mean_of)
        for part in draws.batches(passes, steady):
            starts = others[which[part]]
            differences = picture - starts  # (n, C, H, W)
            if noise:
                differences += scale * draw_noise(picture, len(starts), generator)
            between = starts + shares[part].view(-1, *[1] * picture.ndim) * differences
            _, gradients = passes.gradients(between.to(inputs.dtype), image)
            added = (differences * gradients).sum(1)  # (n, H, W)
            for group, rows in draws.cut(part):
                group.add(added[rows].sum(0), len(rows))
            draws.tell(passes, estimates, lambda raw: reduce_gradient(raw[:, None]))
        estimates.append(draws.estimate())
    raw = torch.stack([estimate.raw for estimate in estimates])
    maps = tell_errors(reduce_gradient(raw[:, None]), estimates, "samples")
    return tell_stand_ins(maps, references, passes.method)


def draw_samples(samples: int, references: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw the pairs of reference and α, evenly for all and for each group of the draws.

    So the groups differ by as much as chance leaves to a map, and its error is not exaggerated.

    Args:
        samples: How many, N.
        references: Pictures to choose from.
        seed: Of a separate generator; the state of torch's is left alone.

    Returns:
        Numbers of references (N,) int64, and α (N,) float64, both on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = min(GROUPS, samples)
    rounds = -(-samples // groups)
    group = torch.arange(groups)[:, None]
    # Block b of the strata has one for each group, and each group takes the blocks in its order.
    blocks = torch.rand(groups, rounds, generator=generator).argsort(1)
    within = torch.rand(rounds, groups, generator=generator).argsort(1)
    strata = blocks * groups + within[blocks, group]  # (groups, rounds)
    shares = strata + torch.rand(strata.shape, generator=generator, dtype=torch.float64)
    order = torch.randperm(references, generator=generator)
    which = order[(group * rounds + torch.arange(rounds)) % references]
    # Draw n belongs to group n modulo their number.
    return which.T.flatten()[:samples], shares.T.flatten()[:samples] / (rounds * groups)
