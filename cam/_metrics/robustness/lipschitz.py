"""Measure how much a heatmap changes per change of the picture."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from cam._metrics.base.batch_noise import NoisyPictures
from cam._metrics.base.map_ranking import scale_to_1
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.errors import MetricError
from cam.parameters import SEED, integer, number

_register = partial(
    register_metric,
    family="robustness",
    needs_method=True,
    direction=-1,
    range=(0, float("inf")),
    baseline="a map that does not depend on the image scores 0",
    cost="1 forward and 10 explanations by default",
)


@_register(
    "local_lipschitz",
    title="Local Lipschitz estimate",
    definition=(
        "max over ε of ‖A(x + σ(max x - min x) ε) - A(x)‖₂ / ‖σ(max x - min x) ε‖₂, ε standard "
        "normal, A divided by its largest |a|"
    ),
    rules={"noise": number(above=0), "samples": integer(1), "seed": SEED},
)
def local_lipschitz(
    subject: Subject, *, noise: float = 0.05, samples: int = 10, seed: int = 0
) -> Tensor:
    """How much the heatmap changes, at most, for each unit by which noise changes the image.

    Maps are scaled, as methods have different units; images are as the model takes them.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        noise: σ, as a share of the image's own range.
        samples: How many ε are tried; a maximum over more of them is larger.
        seed: Of ε.

    Returns:
        (B,); NaN for a map of zeros, and for an image that is the same everywhere.

    References:
        Alvarez-Melis and Jaakkola, On the Robustness of Interpretability Methods, workshop at ICML
        2018, equation 2; by Monte Carlo and with scaled maps as in Quantus 0.6,
        LocalLipschitzEstimate
    """
    pictures = NoisyPictures(subject.inputs, samples, seed, noise)
    return _measure_slopes(subject, pictures, samples, 2).amax(1)


@_register(
    "continuity",
    title="Continuity",
    definition=(
        "max over shifts to the left and right of ‖A(x′) - A(x)‖₁ / ‖x′ - x‖₂, A divided by its "
        "largest |a|"
    ),
    rules={"steps": integer(1), "reach": number(above=0, most=1)},
)
def continuity(subject: Subject, *, steps: int = 10, reach: float = 0.25) -> Tensor:
    """How much the heatmap changes, at most, for each unit by which a shift changes the image.

    It is not shifted back: a map that goes along with the image changes too, and a good score
    takes a smooth one. :func:`.stability.stability_shift` shifts it back. What comes into view is
    0, the mean colour of a normalised image.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        steps: How many shifts, half to either side.
        reach: The longest, as a share of the width; Quantus 0.6 goes to 1, where nothing of the
            image is left.

    Returns:
        (B,); NaN for a map of zeros, and for an image that no shift changes.

    Raises:
        MetricError: The image is too narrow for that many shifts.

    References:
        Montavon, Samek and Müller, Methods for Interpreting and Understanding Deep Neural Networks,
        Digital Signal Processing 2018, explanation continuity
    """
    width = subject.inputs.shape[3]
    most = max(1, round(reach * width))
    half = -(-steps // 2)
    if half > most:
        raise MetricError(
            f"continuity makes {steps} shifts of up to {most} pixels, which is too many; take "
            "fewer steps or a longer reach"
        )
    lengths = [round(most * (step + 1) / half) for step in range(half)]
    shifts = [sign * length for length in lengths for sign in (1, -1)][:steps]

    def write(owner: Tensor, step: Tensor) -> Tensor:
        pictures = torch.zeros_like(subject.inputs[owner])
        for row, (image, index) in enumerate(zip(owner.tolist(), step.tolist(), strict=True)):
            shift = shifts[index]
            source = subject.inputs[image]
            if shift > 0:
                pictures[row, :, :, shift:] = source[:, :, :-shift]
            else:
                pictures[row, :, :, :shift] = source[:, :, -shift:]
        return pictures

    return _measure_slopes(subject, write, steps, 1).amax(1)


def _measure_slopes(
    subject: Subject, write: Callable[[Tensor, Tensor], Tensor], steps: int, order: int
) -> Tensor:
    """Divide each change of the map, in the norm of that order, by the picture's, (B, steps)."""
    inputs, reference = subject.inputs, scale_to_1(subject.importance)
    subject.refuse(subject.importance.flatten(1).abs().amax(1) == 0, "the map is zero everywhere")

    def measure(maps: Tensor, owner: Tensor, step: Tensor) -> Tensor:
        change = (scale_to_1(maps) - reference[owner]).flatten(1).norm(p=order, dim=1)
        moved = (write(owner, step) - inputs[owner]).double().flatten(1).norm(dim=1)
        slope: Tensor = change / moved
        return slope

    slopes = subject.explain_steps(steps, write, measure)
    subject.refuse(~slopes.isfinite().all(1), "a change leaves the image as it was")
    return slopes
