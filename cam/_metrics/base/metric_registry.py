"""The list of metrics: each a function of a subject, with what it means and what it needs."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from cam._engine.layers import Layers
from cam._engine.passes import Report
from cam._methods.base.method_registry import Method
from cam._metrics.base.parameter_rules import Rule
from cam._metrics.base.subject import subject
from cam._models.model import Model
from cam.errors import MetricError, nearest
from cam.targets import Targets

MetricFunction = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Scores:
    """A metric's answer for one batch.

    Attributes:
        values: (B,) float32, NaN where the metric is not defined.
        reasons: One an image: why its value is NaN, and None where it is not.
    """

    values: Tensor
    reasons: tuple[str | None, ...]


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is.

    Attributes:
        name: As :func:`cam.metric` takes it.
        title: The name that its paper gives it.
        description: One sentence on what it measures.
        family: ``faithfulness``, ``localisation``, ``robustness``, ``complexity``,
            ``randomisation`` or ``information``.
        definition: The formula. p is the softmax probability of the target's class for the
            picture x (for a target that is a callable, and for a model with one output: the score
            as it is), A the heatmap, S the mask.
        direction: +1 where higher is better, -1 where lower is.
        range: The smallest and the largest value there can be.
        baseline: What takes the place of hidden pixels, or what a map of chance scores.
        citation: Paper and equation.
        parameters: Parameter → default.
        cost: Passes through the network for an image, in words.
        needs_model: Whether it runs the model.
        needs_masks: Whether it needs to know where the object is.
        needs_method: Whether it explains again, and must know how.
        function: From a subject to (B,).
    """

    name: str
    title: str
    description: str
    family: str
    definition: str
    direction: int
    range: tuple[float, float]
    baseline: str
    citation: str
    parameters: Mapping[str, Any]
    cost: str
    needs_model: bool
    needs_masks: bool
    needs_method: bool
    function: MetricFunction = field(repr=False)
    rules: Mapping[str, Rule] = field(repr=False)


@dataclass(frozen=True)
class Metric:
    """A metric with its parameters, checked when it is made.

    Raises:
        MetricError: There is no such metric, it has no such parameter, or a value makes no sense.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        # A run's folder holds JSON, which knows no tuples: what comes back is the same again.
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in self.parameters.items()}
        object.__setattr__(self, "parameters", plain)
        if self.name not in _METRICS:
            raise MetricError(f"there is no metric {self.name!r}; {nearest(self.name, _METRICS)}")
        known = self.info.parameters
        for parameter, value in self.parameters.items():
            if not known:
                raise MetricError(f"{self.name} has no parameters, so {parameter!r} cannot be set")
            if parameter not in known:
                raise MetricError(
                    f"{self.name} has no parameter {parameter!r}; {nearest(parameter, known)}"
                )
            rule = self.info.rules[parameter]
            if not rule.holds(value):
                raise MetricError(
                    f"{self.name}'s {parameter} must be {rule.words}, but is {value!r}"
                )

    @property
    def info(self) -> MetricInfo:
        """The registered metric."""
        return _METRICS[self.name]

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        told = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"{self.name}({told})"

    def __call__(
        self,
        model: Model | nn.Module,
        batch: Tensor,
        heatmap: Tensor,
        targets: Targets = None,
        masks: Tensor | None = None,
        *,
        method: Method | str | None = None,
        layers: Layers = None,
        batch_size: int = 32,
        progress: Report | None = None,
    ) -> Tensor:
        """The values of :meth:`measure`, (B,) float32 with NaN where undefined."""
        return self.measure(
            model, batch, heatmap, targets, masks,
            method=method, layers=layers, batch_size=batch_size, progress=progress,
        ).values  # fmt: skip

    def measure(
        self,
        model: Model | nn.Module,
        batch: Tensor,
        heatmap: Tensor,
        targets: Targets = None,
        masks: Tensor | None = None,
        *,
        method: Method | str | None = None,
        layers: Layers = None,
        batch_size: int = 32,
        progress: Report | None = None,
    ) -> Scores:
        """Measure how good a heatmap is, for each image of a batch.

        Args:
            model: A :class:`cam.Model` or any classifier; it comes back as it was.
            batch: (B, 3, H, W) floats on the model's device.
            heatmap: (B, H, W) floats on the same device, in [0, 1] as :func:`cam.attribute` gives.
            targets: What was explained, as :func:`cam.attribute` takes it.
            masks: (B, H, W) bool, where the object is; for metrics that need it.
            method: How the heatmap was made; for metrics that explain again.
            layers: The layers at which it was made; None: the model's preset.
            batch_size: How many inputs go through the model at once.
            progress: Called with a :class:`cam.Progress` after each of those batches; an answer of
                False cancels.

        Returns:
            Values, and the reason for each that is NaN.

        Raises:
            CamError: One of its subclasses, with one sentence on what was wrong. The model and
                the batch are as they were.
        """
        info = self.info
        if info.needs_masks and masks is None:
            raise MetricError(
                f"{self.name} compares the heatmap with the truth; give masks (B, H, W) of bool"
            )
        if info.needs_method and method is None:
            raise MetricError(
                f"{self.name} explains again; give the method that made the heatmap, such as "
                "method='gradcam'"
            )
        with (
            model.lock if isinstance(model, Model) else nullcontext(),
            subject(
                self.name, model, batch, heatmap, targets, masks,
                method=method if info.needs_method else None, layers=layers,
                batch_size=batch_size, progress=progress, runs=info.needs_model,
            ) as found,
        ):  # fmt: skip
            with torch.no_grad():
                values = info.function(found, **self.parameters).float()
            return Scores(*found.answer(values))


_METRICS: dict[str, MetricInfo] = {}


def register(
    name: str,
    *,
    title: str,
    family: str,
    definition: str,
    direction: int,
    range: tuple[float, float],
    baseline: str,
    citation: str,
    cost: str = "none",
    rules: Mapping[str, Rule] | None = None,
    needs_masks: bool = False,
    needs_method: bool = False,
) -> Callable[[MetricFunction], MetricFunction]:
    """Add a function to the list of metrics; its docstring's first line describes it.

    A metric whose cost is not "none" runs the model.
    """

    def add(function: MetricFunction) -> MetricFunction:
        if name in _METRICS:
            raise ValueError(f"a metric {name!r} is registered already")
        parameters = {
            key: parameter.default
            for key, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        if set(parameters) != set(rules or {}):
            raise ValueError(f"the rules of {name!r} are not those of its parameters")
        description = (inspect.getdoc(function) or "").split("\n\n", 1)[0].replace("\n", " ")
        _METRICS[name] = MetricInfo(
            name=name,
            title=title,
            description=description,
            family=family,
            definition=definition,
            direction=direction,
            range=range,
            baseline=baseline,
            citation=citation,
            parameters=MappingProxyType(parameters),
            cost=cost,
            needs_model=cost != "none",
            needs_masks=needs_masks,
            needs_method=needs_method,
            function=function,
            rules=MappingProxyType(dict(rules or {})),
        )
        return function

    return add


def adopt(known: Mapping[str, MetricInfo]) -> None:
    """Know another process's metrics too; those that are here already stay as they are."""
    for name, info in known.items():
        _METRICS.setdefault(name, info)


def metrics() -> dict[str, MetricInfo]:
    """Every metric: name → definition, direction, range, baseline, citation, parameters, needs."""
    return dict(_METRICS)


def metric(name: str, **parameters: Any) -> Metric:
    """A metric with parameters of its own, to be called on a model, a batch and its heatmaps.

    Raises:
        MetricError: There is no such metric, it has no such parameter, or a value makes no sense.
    """
    return Metric(name, parameters)
