"""Measure whether a heatmap stays the same when the picture hardly changes."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from cam._metrics.base.batch_noise import Noise, NoisyPictures, picture_range
from cam._metrics.base.map_ranking import is_constant, rank_agreement
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.errors import MetricError
from cam.parameters import SEED, integer, number

_register = partial(register_metric, family="robustness", needs_method=True)
_register_stability = partial(_register, direction=1, range=(-1, 1))


@_register(
    "max_sensitivity",
    title="Max-sensitivity",
    definition="max over δ of ‖A(x + δ) - A(x)‖ / ‖A(x)‖, |δ| ≤ r in every value",
    direction=-1,
    range=(0, float("inf")),
    baseline="a map that does not depend on the image scores 0",
    cost="1 forward and 10 explanations by default",
    rules={"radius": number(above=0), "samples": integer(1), "seed": SEED},
)
def max_sensitivity(
    subject: Subject, *, radius: float = 0.02, samples: int = 10, seed: int = 0
) -> Tensor:
    """How much the heatmap changes, at most, under noise that is too small to be seen.

    δ is uniform in [-r, r], and the same for every image.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        radius: r, after normalisation.
        samples: How many δ are tried; a maximum over more of them is larger.
        seed: Of δ.

    Returns:
        (B,); NaN for a map of zeros.

    References:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition
        3.1; by Monte Carlo and divided by the norm as in captum 0.9, sensitivity_max
    """
    inputs, reference = subject.inputs, subject.importance.double().flatten(1)
    length = reference.norm(dim=1)
    subject.refuse(length == 0, "the map is zero everywhere")
    noise = Noise(inputs, samples, seed)

    def write(owner: Tensor, step: Tensor) -> Tensor:
        return inputs[owner] + noise.take(step, uniform=True) * radius

    def measure(maps: Tensor, owner: Tensor, _: Tensor) -> Tensor:
        change = (maps.double().flatten(1) - reference[owner]).norm(dim=1)
        return torch.div(change, length[owner])

    return subject.explain_steps(samples, write, measure).amax(1)


@_register_stability(
    "stability_flip",
    title="Stability under a flip",
    definition="Spearman of A(x) and the mirror image of A(mirror image of x)",
    baseline="a map of chance scores 0",
    cost="1 forward and 1 explanation",
)
def stability_flip(subject: Subject) -> Tensor:
    """Whether the mirror image of an image gets the mirror image of its heatmap.

    Returns:
        (B,); NaN where the heatmap is the same everywhere. Another map that is so counts as 0.

    References:
        Equivariance as in Wang et al., Self-supervised Equivariant Attention Mechanism, CVPR 2020,
        section 3.2; rank correlation as in Ghorbani, Abid and Zou, Interpretation of Neural
        Networks Is Fragile, AAAI 2019, section 2
    """
    return _average_agreement(
        subject,
        1,
        lambda owner, _: subject.inputs[owner].flip(3),
        lambda maps, owner, _: rank_agreement(maps.flip(2), subject.importance[owner]),
    )


@_register_stability(
    "stability_shift",
    title="Stability under shifts",
    definition="mean Spearman of A(x) and A(shifted x) shifted back, where both are, 4 directions",
    baseline="a map of chance scores 0; what comes into view mirrors the edge",
    cost="1 forward and 4 explanations",
    rules={"pixels": integer(1)},
)
def stability_shift(subject: Subject, *, pixels: int = 8) -> Tensor:
    """Whether the heatmap goes along when the image moves left, right, up or down.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        pixels: How far; less than half of the image's smaller side.

    Returns:
        (B,); NaN where the heatmap is the same everywhere. Another map that is so counts as 0.

    Raises:
        MetricError: The image is too small.

    References:
        Rank correlation as in Ghorbani, Abid and Zou, Interpretation of Neural Networks Is Fragile,
        AAAI 2019, section 2; shifts as the constant ones of Kindermans et al., The (Un)reliability
        of Saliency Methods, 2017, but of the image's place
    """
    height, width = subject.inputs.shape[2:]
    if 2 * pixels >= min(height, width):
        raise MetricError(
            f"stability_shift moves by {pixels} pixels, too far for an image of {height} × {width}"
        )
    wide = functional.pad(subject.inputs, (pixels,) * 4, mode="reflect")
    # Where the picture is cut out: what was at (y, x) is then at (y - down, x - right).
    shifts = [(0, -pixels), (0, pixels), (-pixels, 0), (pixels, 0)]

    def write(owner: Tensor, step: Tensor) -> Tensor:
        parts = []
        for image, index in zip(owner.tolist(), step.tolist(), strict=True):
            top, left = (pixels + shift for shift in shifts[index])
            parts.append(wide[image, :, top : top + height, left : left + width])
        return torch.stack(parts)

    def measure(maps: Tensor, owner: Tensor, step: Tensor) -> Tensor:
        values = []
        for shifted, image, index in zip(maps, owner.tolist(), step.tolist(), strict=True):
            down, right = shifts[index]
            # The part of the picture that both maps show.
            top, bottom = max(0, down), height + min(0, down)
            left, right_end = max(0, right), width + min(0, right)
            visible = shifted[top - down : bottom - down, left - right : right_end - right]
            reference = subject.importance[image, top:bottom, left:right_end]
            values.append(rank_agreement(visible[None], reference[None]))
        return torch.cat(values)

    return _average_agreement(subject, len(shifts), write, measure)


@_register_stability(
    "stability_noise",
    title="Stability under noise",
    definition="mean Spearman of A(x) and A(x + σ(max x - min x) ε), ε standard normal",
    baseline="a map of chance scores 0",
    cost="1 forward and 5 explanations by default",
    rules={"noise": number(above=0), "samples": integer(1), "seed": SEED},
)
def stability_noise(
    subject: Subject, *, noise: float = 0.05, samples: int = 5, seed: int = 0
) -> Tensor:
    """Whether the heatmap keeps its order of pixels under visible noise.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        noise: σ, as a share of the image's own range.
        samples: Noisy copies of each image.
        seed: Of the noise, which is the same for every image but for its strength.

    Returns:
        (B,); NaN where the heatmap is the same everywhere. Another map that is so counts as 0.

    References:
        Ghorbani, Abid and Zou, Interpretation of Neural Networks Is Fragile, AAAI 2019, section 2,
        with random instead of adversarial noise
    """
    pictures = NoisyPictures(subject.inputs, samples, seed, noise)
    return _average_agreement(subject, samples, pictures)


@_register_stability(
    "stability_light",
    title="Stability under light",
    definition=(
        "mean Spearman of A(x) and A(x ± b(max x - min x)), A(m + (1 ± c)(x - m)), m: each "
        "colour's mean"
    ),
    baseline="a map of chance scores 0",
    cost="1 forward and 4 explanations",
    rules={"brightness": number(above=0), "contrast": number(above=0)},
)
def stability_light(subject: Subject, *, brightness: float = 0.1, contrast: float = 0.2) -> Tensor:
    """Whether the heatmap keeps its order of pixels when light or contrast changes.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        brightness: b, as a share of the image's own range.
        contrast: c, a share.

    Returns:
        (B,); NaN where the heatmap is the same everywhere. Another map that is so counts as 0.

    References:
        Rank correlation as in Ghorbani, Abid and Zou, Interpretation of Neural Networks Is Fragile,
        AAAI 2019, section 2; brightness and contrast as in Hendrycks and Dietterich, Benchmarking
        Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019, section 3, but
        smaller and without clipping
    """
    inputs = subject.inputs
    brighter = brightness * picture_range(inputs)
    harder = contrast * (inputs - inputs.mean((2, 3), keepdim=True))
    lights = torch.stack(
        [inputs + brighter, inputs - brighter, inputs + harder, inputs - harder], 1
    )
    return _average_agreement(subject, 4, lambda owner, step: lights[owner, step])


def _average_agreement(
    subject: Subject,
    steps: int,
    write: Callable[[Tensor, Tensor], Tensor],
    measure: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Average the rank correlation, or what is measured instead, over the steps."""
    if measure is None:

        def measure(maps: Tensor, owner: Tensor, _: Tensor) -> Tensor:
            return rank_agreement(maps, subject.importance[owner])

    reason = "the map is the same everywhere: it has no order"
    subject.refuse(is_constant(subject.importance), reason)
    agreement = subject.explain_steps(steps, write, measure)
    subject.refuse(agreement.isnan().any(1), "a map of a changed image is not finite")
    return agreement.mean(1)
