"""Hand metrics a batch with its maps, and the model for trials."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from cam._attribution.attribution import attribute
from cam._detection.candidates import join_batches
from cam._detection.final_detections import keep_all_candidates
from cam._engine.capture import check_batch
from cam._engine.forward import Probabilities, run_model
from cam._engine.layers import Layers, resolve_layers
from cam._engine.method_sources import Capture, Pixels
from cam._engine.passes import Passes, Report
from cam._engine.precision import use_precision
from cam._methods.base.method_registry import Method
from cam._methods.base.method_registry import method as named
from cam._models.model import Model
from cam._models.network import Network
from cam._models.preprocessing import mean_and_std
from cam._targets.detection_targets import read_everything
from cam.errors import CamWarning, InputError, MetricError
from cam.polarity import as_heatmap, polarise
from cam.targets import Targets, select_scores
from cam.types import Attribution

_NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16"}


@dataclass(eq=False)
class Subject:
    """A batch, its maps, and the model as a metric may use it.

    Attributes:
        inputs: (B, C, H, W).
        importance: (B, H, W) float32, the signed maps as the metric's polarity reads them: pixels
            are ordered by it.
        heatmap: (B, H, W) float32 in [0, 1], its positive part, scaled.
        polarity: One of :data:`cam.polarity.POLARITIES`.
        kind: What the maps' numbers are, of :data:`cam.polarity.KINDS`; None if unknown.
        masks: (B, H, W) bool; given for every metric that needs them.
        p: (B,) float32, the target's probability for the whole picture. For a target that is a
            callable, and for a model with one output: its score as it is.
        is_probability: Whether p is a probability.
        passes: Where changed pictures go; its progress is the metric's.
        method: How the heatmap was made; given for every metric that explains again.
        layers: Dotted names of the method's layers; None for a method of the pixels.
        colours: (mean, std) that the model's transform takes off and divides by; None if unknown.
        precision: Of the caller's autocast.
    """

    inputs: Tensor
    importance: Tensor
    polarity: str
    kind: str | None
    masks: Tensor
    passes: Passes
    method: Method
    layers: tuple[str, ...] | None
    colours: tuple[tuple[float, ...], tuple[float, ...]] | None
    precision: str | None
    p: Tensor = field(init=False)
    is_probability: bool = field(init=False)
    _reasons: list[str | None] = field(init=False)
    _remarks: list[str | None] = field(init=False)

    def __post_init__(self) -> None:
        self._reasons = [None] * len(self.inputs)
        self._remarks = [None] * len(self.inputs)

    @property
    def pixels(self) -> int:
        """H·W."""
        return self.importance[0].numel()

    @cached_property
    def heatmap(self) -> Tensor:
        """Scale the positive part of the importance, once it is needed."""
        return as_heatmap(self.importance, self.kind)

    def refuse(self, images: Tensor, reason: str) -> None:
        """Mark images as undefined; the first reason is kept.

        Args:
            images: (B,) bool.
            reason: A clause for a person.
        """
        for image in images.nonzero()[:, 0].tolist():
            self._reasons[image] = self._reasons[image] or reason

    def remark(self, images: Tensor, sentence: str) -> None:
        """Say what a person should know of images' values; the first remark is kept.

        Args:
            images: (B,) bool.
            sentence: A clause for a person.
        """
        for image in images.nonzero()[:, 0].tolist():
            self._remarks[image] = self._remarks[image] or sentence

    def answer(
        self, values: Tensor
    ) -> tuple[Tensor, tuple[str | None, ...], tuple[str | None, ...]]:
        """Return values (B,), NaN where an image was refused, reasons and remarks."""
        self.refuse(~values.isfinite(), "the value is not finite")
        refused = torch.tensor([bool(reason) for reason in self._reasons], device=values.device)
        return values.masked_fill(refused, torch.nan), tuple(self._reasons), tuple(self._remarks)

    def scores(self, inputs: Tensor, owner: Tensor) -> Tensor:
        """Score inputs made from the pictures, as :attr:`p` scores these.

        Args:
            inputs: (N, C, H, W).
            owner: (N,) int64, from which image of the batch each was made.

        Returns:
            (N,) float32.
        """
        return self.passes.scores(inputs, owner).float()

    def try_steps(self, steps: int, write: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Score every image at every step, in full batches.

        Args:
            steps: How many inputs are made from an image.
            write: From owners (n,) and steps (n,) to those inputs (n, C, H, W).

        Returns:
            (B, steps) float32.
        """
        return self._measure(steps, lambda owner, step: self.scores(write(owner, step), owner))

    def _measure(self, steps: int, measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Measure every image at every step, (B, steps)."""
        total = len(self.inputs) * steps
        self.passes.expect(total)
        values = []
        for part in self.passes.chunks(total):
            number = torch.arange(part.start, part.stop, device=self.inputs.device)
            values.append(measure(number // steps, number % steps))
        return torch.cat(values).view(-1, steps)

    def explain(
        self,
        inputs: Tensor,
        owner: Tensor,
        module: nn.Module | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """Explain other pictures, as the maps at hand were made.

        Args:
            inputs: (N, C, H, W).
            owner: (N,) int64; the target of that image of the batch is explained.
            module: Another network of the same structure.
            classes: (N,) int64, other targets.

        Returns:
            (N, H, W) float32, their importance.
        """

        def run(part: slice) -> Tensor:
            targets = self.passes.targets_of(inputs[part], owner[part])
            with warnings.catch_warnings():
                # A map of NaN becomes a value of NaN with a reason.
                warnings.simplefilter("ignore", CamWarning)
                (attribution,) = attribute(
                    self.network if module is None else module,
                    inputs[part],
                    self.method,
                    targets if classes is None else classes[part],
                    self.layers,
                    batch_size=self.passes.batch_size,
                    # One explanation may take minutes: it can be cancelled while it runs.
                    progress=lambda _: self.passes.tell(),
                    precision=self.precision,
                ).values()
            self.passes.forwards += attribution.cost.forwards
            self.passes.backwards += attribution.cost.backwards
            return polarise(attribution.signed, self.polarity, attribution.kind)

        return torch.cat(self.passes.over(run, len(inputs)))

    def explain_steps(
        self,
        steps: int,
        write: Callable[[Tensor, Tensor], Tensor],
        measure: Callable[[Tensor, Tensor, Tensor], Tensor],
        module: nn.Module | None = None,
    ) -> Tensor:
        """Explain every image at every step, and measure the maps.

        Args:
            steps: How many inputs are made from an image.
            write: From owners (n,) and steps (n,) to those inputs (n, C, H, W).
            measure: From their importance (n, H, W), owners and steps to (n,).
            module: As for :meth:`explain`.

        Returns:
            (B, steps).
        """
        return self._measure(
            steps,
            lambda owner, step: measure(
                self.explain(write(owner, step), owner, module), owner, step
            ),
        )

    @property
    def network(self) -> nn.Module:
        """The caller's module."""
        module = self.passes.module
        return module.network if isinstance(module, Probabilities) else module


@contextmanager
def open_subject(
    name: str,
    model: Model | nn.Module,
    batch: Tensor,
    attribution: Attribution | Tensor,
    targets: Targets = None,
    masks: Tensor | None = None,
    *,
    polarity: str = "signed",
    kind: str | None = None,
    method: Method | str | None = None,
    layers: Layers = None,
    batch_size: int = 32,
    progress: Report | None = None,
    runs: bool = True,
) -> Iterator[Subject]:
    """Check a metric's arguments, and run the pictures if needed.

    Raises:
        CamError: What does not fit, in one sentence.
    """
    network = Network.of(model)
    module = network.module
    check_batch(module, batch)
    signed = attribution.signed if isinstance(attribution, Attribution) else attribution
    _check_maps(batch, signed, masks)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of at least 1, but is {batch_size!r}")
    configured, names = _resolve_method(network, batch, method, layers)
    kind = attribution.kind if isinstance(attribution, Attribution) else kind
    inputs = batch.detach()
    none = inputs.new_empty(0)
    passes = Passes(module, Capture(Pixels(inputs, none, none, ())), batch_size, progress)
    ambient = torch.get_autocast_dtype(batch.device.type)
    precision = _NAMES.get(ambient) if torch.is_autocast_enabled(batch.device.type) else None
    view = Subject(
        inputs=inputs,
        importance=polarise(signed.detach().float(), polarity, kind),
        polarity=polarity,
        kind=kind,
        masks=masks if masks is not None else inputs.new_empty(0, dtype=torch.bool),
        passes=passes,
        method=configured,
        layers=names,
        colours=mean_and_std(model.transform) if isinstance(model, Model) else None,
        precision=precision,
    )
    view.refuse(~view.importance.flatten(1).isfinite().all(1), "the map is not finite")
    with ExitStack() as stack:
        stack.enter_context(network.lock)
        stack.enter_context(keep_all_candidates(module, read_everything(targets)))
        stack.enter_context(use_precision(precision, batch.device))
        stack.enter_context(passes.of(name))
        if runs:
            view.refuse(~inputs.flatten(1).isfinite().all(1), "the image is not finite")
            pixels = _run_whole_pictures(passes, targets, network)
            passes.captured = Capture(pixels)
            logits, classes = pixels.logits, pixels.targets
            view.p = pixels.scores.float()
            view.is_probability = isinstance(classes, Tensor) and logits.shape[1] > 1
            if isinstance(classes, Tensor) and logits.shape[1] > 1:
                view.p = logits.float().softmax(1).gather(1, classes[:, None])[:, 0]
                stack.enter_context(passes.through(Probabilities(module)))
            view.refuse(~view.p.isfinite(), "the model's score of the image is not finite")
        yield view


def _run_whole_pictures(passes: Passes, targets: Targets, network: Network) -> Pixels:
    inputs = passes.pixels.inputs

    def run(part: slice) -> Tensor:
        passes.forwards += 1
        # A copy: a model may change its input in place, and the batch is the caller's.
        return run_model(passes.module, inputs[part].clone())

    passes.expect(len(inputs))
    with torch.no_grad():
        logits = join_batches(passes.over(run, len(inputs)))
        size = (inputs.shape[-2], inputs.shape[-1])
        scores, classes = select_scores(logits, targets, network.class_index, size=size)
    return Pixels(inputs, logits, scores, classes)


def _resolve_method(
    network: Network, batch: Tensor, method: Method | str | None, layers: Layers
) -> tuple[Method, tuple[str, ...] | None]:
    """Return the method, and its layers' names, which other networks have too."""
    if method is None:
        return Method("gradcam"), None
    configured = named(method) if isinstance(method, str) else method
    if not isinstance(configured, Method):
        raise MetricError(f"a method is a name or a cam.method(…), not {type(method).__name__}")
    if not configured.info.layer:
        return configured, None
    named_layers = network.default_layers(batch) if layers is None else layers
    return configured, tuple(name for name, _ in resolve_layers(network.module, named_layers))


def _check_maps(batch: Tensor, attribution: object, masks: object) -> None:
    expected = (len(batch), *batch.shape[2:])
    for name, value in (("attribution", attribution), ("masks", masks)):
        if value is None and name == "masks":
            continue
        if not isinstance(value, Tensor):
            result = "cam.attribute's result or " if name == "attribution" else ""
            raise InputError(
                f"{name} must be {result}a tensor (B, H, W), not a {type(value).__name__}"
            )
        if tuple(value.shape) != expected:
            raise InputError(
                f"{name} must have the batch's images and size, {expected}, but the shape is "
                f"{tuple(value.shape)}"
            )
        if value.device != batch.device:
            raise InputError(
                f"{name} is on {value.device} and the batch on {batch.device}; move one of them"
            )
        if name == "attribution" and not value.is_floating_point():
            raise InputError(f"attribution must be floats, but is {value.dtype}")
        if name == "masks" and value.dtype != torch.bool:
            raise InputError(f"masks must be bool, but are {value.dtype}")
