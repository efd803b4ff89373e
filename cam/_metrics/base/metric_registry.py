"""List the metrics: each a function of a subject, with its definition."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from types import MappingProxyType
from typing import Any, ClassVar, ParamSpec

import torch
from torch import Tensor, nn

from cam._engine.layers import Layers
from cam._engine.passes import Report
from cam._methods.base.method_registry import Method
from cam._methods.base.method_registry import method as named
from cam._metrics.base.subject import open_subject
from cam._models.model import Model
from cam._registry.registry import (
    Agreement,
    Configured,
    Registry,
    description_of,
    parameters_of,
    references_of,
)
from cam._targets.places import draw_places
from cam._targets.questions import list_questions
from cam.errors import MetricError
from cam.parameters import Rule
from cam.polarity import POLARITY
from cam.targets import Targets
from cam.types import Attribution

MetricFunction = Callable[..., Tensor]
P = ParamSpec("P")


@dataclass(frozen=True, eq=False)
class Scores:
    """A metric's answer for one batch.

    Attributes:
        values: (B,) float32, NaN where the metric is not defined.
        reasons: One an image: why its value is NaN, and None where it is not.
        remarks: One an image: what to know of its value, such as maps that were left out; None
            where there is nothing.
    """

    values: Tensor
    reasons: tuple[str | None, ...]
    remarks: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is.

    Attributes:
        name: As :func:`cam.metric` takes it.
        title: The name that its paper gives it.
        description: One sentence on what it measures.
        family: ``faithfulness``, ``localisation``, ``robustness``, ``complexity``,
            ``randomisation``, ``information`` or ``truth``.
        definition: The formula. p is the softmax probability of the target's class for the
            picture x (for a target that is a callable, and for a model with one output: the score
            as it is), a the map as the polarity reads it, A its positive part scaled to [0, 1],
            S the mask.
        direction: +1 where higher is better, -1 where lower is.
        range: The smallest and the largest value there can be.
        baseline: What takes the place of hidden pixels, or what a map of chance scores.
        citation: Paper and equation.
        parameters: Parameter → default.
        rules: Parameter → what it must be.
        agreement: What the parameters must be to each other.
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
    agreement: Agreement | None = field(repr=False)


def _values_of(measure: Callable[P, Scores]) -> Callable[P, Tensor]:
    @wraps(measure)
    def call(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        return measure(*args, **kwargs).values

    call.__doc__ = "Return the values of :meth:`measure`, (B,) float32 with NaN where undefined."
    signature = inspect.signature(measure).replace(return_annotation=Tensor)
    call.__signature__ = signature  # type: ignore[attr-defined]  # what `help` prints
    return call


METRICS: Registry[MetricInfo] = Registry("metric", "cam.metrics", MetricError)


@dataclass(frozen=True)
class Metric(Configured[MetricInfo]):
    """A metric with its parameters, checked when it is made.

    Raises:
        MetricError: There is no such metric, it has no such parameter, or a value is out of range.
    """

    registry: ClassVar[Registry[Any]] = METRICS

    def measure(
        self,
        model: Model | nn.Module,
        batch: Tensor,
        attribution: Attribution | Tensor,
        targets: Targets = None,
        masks: Tensor | None = None,
        *,
        method: Method | str | None = None,
        layers: Layers = None,
        batch_size: int = 32,
        progress: Report | None = None,
    ) -> Scores:
        """Measure how good a map is, for each image of a batch.

        Args:
            model: A :class:`cam.Model` or any classifier; it comes back as it was.
            batch: (B, 3, H, W) floats on the model's device.
            attribution: What :func:`cam.attribute` returned, of which the signed map is measured,
                or maps (B, H, W), floats on the same device.
            targets: What was explained, as :func:`cam.attribute` takes it, with a list for each
                image too: then there is a value for each target.
            masks: (B, H, W) bool, where the object is; for metrics that need it. None: the boxes
                of targets that have any.
            method: How the map was made; for metrics that explain again, and for those that ask
                what the numbers of a tensor are.
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
        if isinstance(batch, Tensor):
            targets, owners = list_questions(targets, len(batch))
            batch = batch if owners is None else batch[owners]
        if info.needs_masks and masks is None and isinstance(batch, Tensor) and batch.ndim == 4:
            masks = draw_places(targets, len(batch), (batch.shape[2], batch.shape[3]))
            masks = None if masks is None else masks.to(batch.device)
        if info.needs_masks and masks is None:
            raise MetricError(
                f"{self.name} compares the map with the truth; give masks (B, H, W) of bool"
            )
        if info.needs_method and method is None:
            raise MetricError(
                f"{self.name} explains again; give the method that made the map, such as "
                "method='gradcam'"
            )
        if info.needs_method and isinstance(attribution, Tensor):
            raise MetricError(
                f"{self.name} compares the map with those of later explanations, which are signed; "
                "give cam.attribute's result itself instead of a tensor"
            )
        parameters = dict(self.parameters)
        polarity = parameters.pop("polarity", info.parameters["polarity"])
        explainer = named(method) if isinstance(method, str) else method
        kind = explainer.info.kind if isinstance(explainer, Method) else None
        with (
            open_subject(
                self.name, model, batch, attribution, targets, masks,
                polarity=polarity, kind=kind, method=method if info.needs_method else None,
                layers=layers, batch_size=batch_size, progress=progress, runs=info.needs_model,
            ) as view,
            torch.no_grad(),
        ):  # fmt: skip
            values = info.function(view, **parameters).float()
            return Scores(*view.answer(values))

    __call__ = _values_of(measure)


def register_metric(
    name: str,
    *,
    title: str,
    family: str,
    definition: str,
    direction: int,
    range: tuple[float, float],
    baseline: str,
    cost: str = "none",
    rules: Mapping[str, Rule] | None = None,
    agreement: Agreement | None = None,
    needs_masks: bool = False,
    needs_method: bool = False,
) -> Callable[[MetricFunction], MetricFunction]:
    """Add a function to the list of metrics.

    The function takes a :class:`cam.Subject` and returns (B,) floats, NaN where the metric is not
    defined. Its keyword-only arguments are the metric's parameters; every metric has ``polarity``
    too, by which the signed map is read. The first paragraph of its docstring describes it, the
    section "References:" names paper and equation. Other packages name the module that calls this
    in their entry points of the group "cam.metrics".

    Args:
        name: As :func:`cam.metric` takes it.
        title: The name that its paper gives it.
        family: Of :class:`cam.MetricInfo`.
        definition: The formula.
        direction: +1 where higher is better, -1 where lower is.
        range: The smallest and the largest value there can be.
        baseline: What takes the place of hidden pixels, or what a map of chance scores.
        cost: Passes through the network for an image, in words; "none" where it runs no model.
        rules: Parameter → what it must be, of :mod:`cam.parameters`; one for each parameter.
        agreement: From all parameters to the sentence on what is wrong with them together, or None.
        needs_masks: Whether it needs to know where the object is.
        needs_method: Whether it explains again, and must know how.

    Returns:
        A decorator, which returns the function as it is.

    Raises:
        ValueError: The name is taken, or the rules are not those of the parameters.
    """

    def add(function: MetricFunction) -> MetricFunction:
        parameters = {**parameters_of(function), "polarity": "signed"}
        METRICS.add(
            MetricInfo(
                name=name,
                title=title,
                description=description_of(function),
                family=family,
                definition=definition,
                direction=direction,
                range=range,
                baseline=baseline,
                citation=references_of(function),
                parameters=MappingProxyType(parameters),
                cost=cost,
                needs_model=cost != "none",
                needs_masks=needs_masks,
                needs_method=needs_method,
                function=function,
                rules=MappingProxyType({**(rules or {}), "polarity": POLARITY}),
                agreement=agreement,
            )
        )
        return function

    return add


def metrics() -> dict[str, MetricInfo]:
    """Return every metric by its name, with definition, range and parameters."""
    return METRICS.all()


def metric(name: str, **parameters: Any) -> Metric:
    """Set a metric's parameters; call it on a model, batch and heatmaps.

    Raises:
        MetricError: There is no such metric, it has no such parameter, or a value is out of range.
    """
    return Metric(name, parameters)
