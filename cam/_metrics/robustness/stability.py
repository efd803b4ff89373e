"""Whether a heatmap stays what it is when the picture hardly changes."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from cam._metrics.base.batch_noise import Noise
from cam._metrics.base.map_ranking import rank_agreement
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.errors import MetricError
from cam.parameters import SEED, integer, number


@register_metric(
    "max_sensitivity",
    title="Max-sensitivity",
    family="robustness",
    definition="max over δ of ‖A(x + δ) - A(x)‖ / ‖A(x)‖, |δ| ≤ r in every value",
    direction=-1,
    range=(0, float("inf")),
    baseline="a map that does not depend on the picture scores 0",
    citation=(
        "Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, "
        "definition 3.1; by Monte Carlo and divided by the norm as in captum 0.9, sensitivity_max"
    ),
    cost="1 forward and 10 explanations by default",
    rules={
        "radius": number(above=0),
        "samples": integer(1),
        "seed": SEED,
    },
    needs_method=True,
)
def max_sensitivity(
    subject: Subject, *, radius: float = 0.02, samples: int = 10, seed: int = 0
) -> Tensor:
    """How much the heatmap changes, at most, under noise that is too small to be seen.

    δ is uniform in [-r, r], and the same for every picture.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        radius: r, after normalisation.
        samples: How many δ are tried; a maximum over more of them is larger.
        seed: Of δ.

    Returns:
        (B,); NaN for a map of zeros.
    """
    inputs, given = subject.inputs, subject.heatmap.double().flatten(1)
    length = given.norm(dim=1)
    subject.refuse(length == 0, "the map is zero everywhere")
    noise = Noise(inputs, samples, seed)

    def write(owner: Tensor, step: Tensor) -> Tensor:
        return inputs[owner] + noise.take(step, uniform=True) * radius

    def measure(found: Tensor, owner: Tensor, _: Tensor) -> Tensor:
        change = (found.double().flatten(1) - given[owner]).norm(dim=1)
        return torch.div(change, length[owner])

    return subject.explained_again(samples, write, measure).amax(1)


@register_metric(
    "stability_flip",
    title="Stability under a flip",
    family="robustness",
    definition="Spearman of A(x) and the mirror image of A(mirror image of x)",
    direction=1,
    range=(-1, 1),
    baseline="a map of chance scores 0",
    citation=(
        "Equivariance as in Wang et al., Self-supervised Equivariant Attention Mechanism, CVPR "
        "2020, section 3.2; rank correlation as in Ghorbani, Abid and Zou, Interpretation of "
        "Neural Networks Is Fragile, AAAI 2019, section 2"
    ),
    cost="1 forward and 1 explanation",
    needs_method=True,
)
def stability_flip(subject: Subject) -> Tensor:
    """Whether the mirror image of a picture gets the mirror image of its heatmap.

    Returns:
        (B,); NaN where the heatmap is the same everywhere. Another map that is so counts as 0.
    """
    return _alike(
        subject, 1,
        lambda owner, _: subject.inputs[owner].flip(3),
        lambda found, owner, _: rank_agreement(found.flip(2), subject.heatmap[owner]),
    )  # fmt: skip


@register_metric(
    "stability_shift",
    title="Stability under shifts",
    family="robustness",
    definition="mean Spearman of A(x) and A(shifted x) shifted back, where both are, 4 directions",
    direction=1,
    range=(-1, 1),
    baseline="a map of chance scores 0; what comes into view mirrors the edge",
    citation=(
        "Rank correlation as in Ghorbani, Abid and Zou, Interpretation of Neural Networks Is "
        "Fragile, AAAI 2019, section 2; shifts as the constant ones of Kindermans et al., The "
        "(Un)reliability of Saliency Methods, 2017, but of the picture's place"
    ),
    cost="1 forward and 4 explanations",
    rules={"pixels": integer(1)},
    needs_method=True,
)
def stability_shift(subject: Subject, *, pixels: int = 8) -> Tensor:
    """Whether the heatmap goes along when the picture moves left, right, up or down.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        pixels: How far; less than half of the picture's smaller side.

    Returns:
        (B,); NaN where the heatmap is the same everywhere. Another map that is so counts as 0.

    Raises:
        MetricError: The picture is too small.
    """
    height, width = subject.inputs.shape[2:]
    if 2 * pixels >= min(height, width):
        raise MetricError(
            f"stability_shift moves by {pixels} pixels, too far for a picture of {height} × {width}"
        )
    wide = functional.pad(subject.inputs, (pixels,) * 4, mode="reflect")
    # Where the picture is cut out: what was at (y, x) is then at (y - down, x - right).
    shifts = [(0, -pixels), (0, pixels), (-pixels, 0), (pixels, 0)]

    def write(owner: Tensor, step: Tensor) -> Tensor:
        cut = []
        for image, (down, right) in zip(
            owner.tolist(), (shifts[one] for one in step.tolist()), strict=True
        ):
            top, left = pixels + down, pixels + right
            cut.append(wide[image, :, top : top + height, left : left + width])
        return torch.stack(cut)

    def measure(found: Tensor, owner: Tensor, step: Tensor) -> Tensor:
        values = []
        for one, image, (down, right) in zip(
            found, owner.tolist(), (shifts[one] for one in step.tolist()), strict=True
        ):
            given = subject.heatmap[image]
            # Places of the whole picture that both maps show.
            top, bottom = max(0, down), height + min(0, down)
            left, right_end = max(0, right), width + min(0, right)
            there = one[top - down : bottom - down, left - right : right_end - right]
            values.append(rank_agreement(there[None], given[None, top:bottom, left:right_end]))
        return torch.cat(values)

    return _alike(subject, len(shifts), write, measure)


@register_metric(
    "stability_noise",
    title="Stability under noise",
    family="robustness",
    definition="mean Spearman of A(x) and A(x + σ(max x - min x) ε), ε standard normal",
    direction=1,
    range=(-1, 1),
    baseline="a map of chance scores 0",
    citation=(
        "Ghorbani, Abid and Zou, Interpretation of Neural Networks Is Fragile, AAAI 2019, "
        "section 2, with random instead of adversarial noise"
    ),
    cost="1 forward and 5 explanations by default",
    rules={
        "noise": number(above=0),
        "samples": integer(1),
        "seed": SEED,
    },
    needs_method=True,
)
def stability_noise(
    subject: Subject, *, noise: float = 0.05, samples: int = 5, seed: int = 0
) -> Tensor:
    """Whether the heatmap keeps its order of pixels under visible noise.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        noise: σ, as a share of the picture's own range.
        samples: Noisy copies of each picture.
        seed: Of the noise, which is the same for every picture but for its strength.

    Returns:
        (B,); NaN where the heatmap is the same everywhere. Another map that is so counts as 0.
    """
    inputs = subject.inputs
    low, high = inputs.flatten(1).aminmax(dim=1)
    strength = (noise * (high - low)).view(-1, 1, 1, 1)
    drawn = Noise(inputs, samples, seed)
    return _alike(
        subject, samples,
        lambda owner, step: inputs[owner] + drawn.take(step) * strength[owner],
        lambda found, owner, _: rank_agreement(found, subject.heatmap[owner]),
    )  # fmt: skip


@register_metric(
    "stability_light",
    title="Stability under light",
    family="robustness",
    definition=(
        "mean Spearman of A(x) and A(x ± b(max x - min x)), A(m + (1 ± c)(x - m)), m: each "
        "colour's mean"
    ),
    direction=1,
    range=(-1, 1),
    baseline="a map of chance scores 0",
    citation=(
        "Rank correlation as in Ghorbani, Abid and Zou, Interpretation of Neural Networks Is "
        "Fragile, AAAI 2019, section 2; brightness and contrast as in Hendrycks and Dietterich, "
        "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR "
        "2019, section 3, but smaller and without clipping"
    ),
    cost="1 forward and 4 explanations",
    rules={
        "brightness": number(above=0),
        "contrast": number(above=0),
    },
    needs_method=True,
)
def stability_light(subject: Subject, *, brightness: float = 0.1, contrast: float = 0.2) -> Tensor:
    """Whether the heatmap keeps its order of pixels when light or contrast changes.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        brightness: b, as a share of the picture's own range.
        contrast: c, a share.

    Returns:
        (B,); NaN where the heatmap is the same everywhere. Another map that is so counts as 0.
    """
    inputs = subject.inputs
    low, high = inputs.flatten(1).aminmax(dim=1)
    step = (brightness * (high - low)).view(-1, 1, 1, 1)
    turned = contrast * (inputs - inputs.mean((2, 3), keepdim=True))
    lights = torch.stack([inputs + step, inputs - step, inputs + turned, inputs - turned], 1)
    return _alike(
        subject, lights.shape[1],
        lambda owner, step: lights[owner, step],
        lambda found, owner, _: rank_agreement(found, subject.heatmap[owner]),
    )  # fmt: skip


def _alike(
    subject: Subject,
    steps: int,
    write: Callable[[Tensor, Tensor], Tensor],
    measure: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Mean correlation over the steps."""
    flat = subject.heatmap.flatten(1)
    subject.refuse(flat.amax(1) == flat.amin(1), "the map is the same everywhere: it has no order")
    found = subject.explained_again(steps, write, measure)
    subject.refuse(found.isnan().any(1), "a map of a changed picture is not finite")
    return found.mean(1)
