"""Measure relative changes of maps against those of inputs, outputs, representations."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from cam._engine.evaluation_mode import attach
from cam._engine.forward import run_model
from cam._engine.layers import resolve_layers
from cam._metrics.base.batch_noise import NoisyPictures
from cam._metrics.base.map_ranking import scale_to_1
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.errors import MetricError
from cam.parameters import SEED, Rule, integer, number, optional

# What divides where there is 0.
_SMALLEST = 1e-6
_RULES = {"noise": number(above=0), "samples": integer(1), "seed": SEED}
_register = partial(
    register_metric,
    family="robustness",
    needs_method=True,
    direction=-1,
    range=(0, float("inf")),
    baseline="a map that does not depend on the image scores 0",
    cost="1 forward, 10 explanations and 10 forwards by default",
)
Run = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From pictures (n, C, H, W) to logits (n, K) and a representation (n, D)."""


@_register(
    "relative_input_stability",
    title="Relative input stability (RIS)",
    definition=(
        "max over x′ of ‖(A(x) - A(x′)) / A(x)‖ / ‖(x - x′) / x‖, x′ = x + σ(max x - min x) ε with "
        "the class of x"
    ),
    rules=_RULES,
)
def relative_input_stability(
    subject: Subject, *, noise: float = 0.01, samples: int = 10, seed: int = 0
) -> Tensor:
    """How much more the map changes, value by value and in per cent, than the image does.

    Values near 0 decide it, as they change by many times themselves: compare orders of magnitude.
    Where a value is 0 a millionth divides, of the map's largest value or of the image's unit.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        noise: σ, as a share of the image's own range.
        samples: How many x′ are tried; those that get another class do not count.
        seed: Of ε.

    Returns:
        (B,); NaN for a map of zeros, and where every x′ gets another class.

    References:
        Agarwal et al., Rethinking Stability for Attribution-based Explanations, 2022,
        relative input stability
    """

    def change(changed: Tensor, owner: Tensor, _: Tensor, __: Tensor) -> Tensor:
        return _relative_change(subject.inputs[owner], changed)

    return _measure(subject, noise, samples, seed, lambda x: _run(subject, x), change)


@_register(
    "relative_output_stability",
    title="Relative output stability (ROS)",
    definition=(
        "max over x′ of ‖(A(x) - A(x′)) / A(x)‖ / ‖h(x) - h(x′)‖, h: the logits, x′ = x + σ(max x "
        "- min x) ε with the class of x"
    ),
    rules=_RULES,
)
def relative_output_stability(
    subject: Subject, *, noise: float = 0.01, samples: int = 10, seed: int = 0
) -> Tensor:
    """How much the map changes, value by value and in per cent, for each unit of the logits.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        noise: As for :func:`relative_input_stability`.
        samples: As for :func:`relative_input_stability`.
        seed: Of ε.

    Returns:
        (B,); NaN for a map of zeros, and where every x′ gets another class.

    References:
        Agarwal et al., Rethinking Stability for Attribution-based Explanations, 2022,
        relative output stability
    """

    def change(_: Tensor, owner: Tensor, logits: Tensor, __: Tensor) -> Tensor:
        reference = subject.passes.pixels.logits.flatten(1)[owner]
        moved: Tensor = (reference - logits).double().norm(dim=1)
        return moved

    return _measure(subject, noise, samples, seed, lambda x: _run(subject, x), change)


@_register(
    "relative_representation_stability",
    title="Relative representation stability (RRS)",
    definition=(
        "max over x′ of ‖(A(x) - A(x′)) / A(x)‖ / ‖(L(x) - L(x′)) / L(x)‖, L: a layer's output, x′ "
        "= x + σ(max x - min x) ε with the class of x"
    ),
    rules=_RULES
    | {"layer": optional(Rule("a layer's name", lambda value: isinstance(value, str)))},
    cost="1 forward, 10 explanations and 11 forwards by default",
)
def relative_representation_stability(
    subject: Subject,
    *,
    noise: float = 0.01,
    samples: int = 10,
    layer: str | None = None,
    seed: int = 0,
) -> Tensor:
    """How much more the map changes, value by value and in per cent, than what the network saw.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        noise: As for :func:`relative_input_stability`.
        samples: As for :func:`relative_input_stability`.
        layer: L is its output; None for what the network's last linear layer receives.
        seed: Of ε.

    Returns:
        (B,); NaN for a map of zeros, and where every x′ gets another class.

    Raises:
        MetricError: The network has no linear layer, and no other is named.
        LayerError: It has no layer of that name.

    References:
        Agarwal et al., Rethinking Stability for Attribution-based Explanations, 2022,
        relative representation stability
    """
    watched = _choose_layer(subject.network, layer)

    def run(pictures: Tensor) -> tuple[Tensor, Tensor]:
        return _run(subject, pictures, watched, receives=layer is None)

    inputs = subject.inputs
    parts = subject.passes.over(lambda part: run(inputs[part])[1], len(inputs))
    reference = torch.cat(parts)

    def change(_: Tensor, owner: Tensor, __: Tensor, representation: Tensor) -> Tensor:
        return _relative_change(reference[owner], representation)

    return _measure(subject, noise, samples, seed, run, change)


def _measure(
    subject: Subject,
    noise: float,
    samples: int,
    seed: int,
    run: Run,
    change: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Divide the map's relative change by another one, and take the largest, (B,)."""
    pictures = NoisyPictures(subject.inputs, samples, seed, noise)
    classes = subject.passes.pixels.logits.flatten(1).argmax(1)
    reference = scale_to_1(subject.importance)
    subject.refuse(subject.importance.flatten(1).abs().amax(1) == 0, "the map is zero everywhere")

    def measure(maps: Tensor, owner: Tensor, step: Tensor) -> Tensor:
        # Of maps in one unit, the reference's: what is 0 there is divided by a millionth of it.
        largest = subject.importance.flatten(1).abs().amax(1).double()[owner, None, None]
        again = maps.double() / torch.where(largest == 0, 1, largest)
        changed = pictures(owner, step)
        logits, representation = run(changed)
        below = change(changed, owner, logits, representation).clamp(min=_SMALLEST)
        ratio = _relative_change(reference[owner], again) / below
        return ratio.where(logits.argmax(1) == classes[owner], -1)

    ratios = subject.explain_steps(samples, pictures, measure)
    subject.refuse((ratios == -1).all(1), "every changed image gets another class")
    subject.refuse(ratios.isnan().any(1), "a map of a changed image is not finite")
    return ratios.amax(1)


def _relative_change(reference: Tensor, changed: Tensor) -> Tensor:
    """Compute the norm of changes divided by what was there, value by value, (n,) float64."""
    reference, changed = reference.double().flatten(1), changed.double().flatten(1)
    ratios = (reference - changed) / reference.where(reference != 0, _SMALLEST)
    length: Tensor = ratios.norm(dim=1)
    return length


def _run(
    subject: Subject, pictures: Tensor, layer: nn.Module | None = None, receives: bool = False
) -> tuple[Tensor, Tensor]:
    """Run pictures, and watch a layer: logits (n, K) and its values (n, D)."""
    seen_by_layer: list[Tensor] = []

    def take(value: object) -> None:
        if isinstance(value, Tensor):
            seen_by_layer.append(value.detach().flatten(1).clone())

    handles = []
    if layer is not None and receives:
        handles = [layer.register_forward_pre_hook(lambda _, inputs: take(inputs[0]))]
    elif layer is not None:
        handles = [layer.register_forward_hook(lambda _, __, output: take(output))]
    subject.passes.forwards += 1
    with attach(handles):
        logits = run_model(subject.network, pictures.clone()).flatten(1)
    if layer is not None and not (seen_by_layer and len(seen_by_layer[-1]) == len(pictures)):
        raise MetricError(
            f"{subject.passes.method}'s layer does not run, or gives no tensor with a row for each "
            "image; name another, such as layer='layer4'"
        )
    return logits, seen_by_layer[-1] if seen_by_layer else logits


def _choose_layer(network: nn.Module, name: str | None) -> nn.Module:
    if name is not None:
        ((_, layer),) = resolve_layers(network, name)
        return layer
    linear = [child for child in network.modules() if isinstance(child, nn.Linear)]
    if not linear:
        raise MetricError(
            "the network has no linear layer whose input could be its representation; name a "
            "layer, such as layer='layer4'"
        )
    return linear[-1]
