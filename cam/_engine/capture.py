"""One forward and one backward pass: logits, activations, gradients, and no trace on the model.

Nothing before the earliest tensor that is needed is recorded: the forward runs without gradients
until a wanted layer has put out its feature maps; there they become a leaf of a new graph. So a
frozen model works, parameters get no gradients, and the backward ends where it should.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cam import kernels
from cam._engine.attention_capture import AttentionCapture, reading
from cam._engine.evaluation_mode import device_of, evaluation_mode
from cam._engine.forward import run_model
from cam._engine.token_layout import Layout, extra_tokens, find_layout
from cam.errors import InputError, LayerError, ModelError, TargetError
from cam.targets import Targets, select_scores
from cam.types import Maps, Needs, TargetFunction


@dataclass(frozen=True, eq=False)
class LayerCapture:
    """What one layer put out, and how the score changes with it.

    Attributes:
        name: Dotted name of the layer.
        activations: (B, C, h, w), detached.
        gradients: (B, C, h, w) of the scores by the activations; None if no method needs them.
        layout: How the layer itself puts them out: tokens and (B, h, w, C) are read as maps here.
        rules: Rules of :func:`kernels.fused_cam` that the methods of this call ask for.
    """

    name: str
    activations: Tensor
    gradients: Tensor | None
    layout: Layout
    rules: tuple[str, ...] = ()

    def rule(self, name: str) -> Maps:
        """The map of one rule; the first that is asked for computes them all, in one kernel."""
        return self._fused[name]

    @cached_property
    def _fused(self) -> dict[str, Maps]:
        assert self.gradients is not None
        normalised, signed = kernels.fused_cam(
            self.activations, self.gradients, self.rules, return_signed=True
        )
        return {
            rule: Maps(raw=signed[:, k], normalised=normalised[:, k])
            for k, rule in enumerate(self.rules)
        }


@dataclass(frozen=True, eq=False)
class Capture:
    """Everything that one forward and one backward pass gave.

    Attributes:
        inputs: (B, 3, H, W) the batch.
        logits: (B, classes), detached.
        scores: (B,) the raw scores that were explained, detached.
        targets: (B,) int64 classes, or the callables.
        layers: In the order asked for.
        input_gradient: (B, 3, H, W) of the scores by the pixels; None if no method needs it.
        was_training: Whether any part of the model was in training mode.
        attention: The self-attention; None if no method needs it.
    """

    inputs: Tensor
    logits: Tensor
    scores: Tensor
    targets: Tensor | tuple[TargetFunction, ...]
    layers: tuple[LayerCapture, ...]
    input_gradient: Tensor | None
    was_training: bool
    attention: AttentionCapture | None = None

    @cached_property
    def unsound(self) -> Tensor:
        """(B,) bool: images whose maps must be NaN, because their pixels or scores are not finite.

        ReLU6 and its like answer a NaN with a gradient of zero, and a map of zeros would look like
        an answer.
        """
        return ~(self.scores.isfinite() & self.inputs.flatten(1).isfinite().all(1))


class _Recorder:
    """Keeps the output of each wanted layer, and starts the graph at the first of them.

    A layer that runs several times (a shared ReLU) is recorded at its last run.
    """

    def __init__(self, module: nn.Module, picture: Tensor) -> None:
        self._picture = picture
        self._before = extra_tokens(module)
        self.outputs: dict[str, Tensor] = {}
        self.layouts: dict[str, Layout] = {}
        self._versions: dict[str, int] = {}

    def hook(self, name: str) -> Callable[[nn.Module, object, object], object]:
        def record(_module: nn.Module, _inputs: object, whole: object) -> object:
            # A block may hand on its attention beside its tokens, as Hugging Face's do.
            output = whole[0] if isinstance(whole, tuple) and whole else whole
            if not isinstance(output, Tensor) or output.ndim not in (3, 4):
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise LayerError(
                    f"layer {name!r} puts out {shape}, neither feature maps (B, C, h, w) nor "
                    "tokens (B, N, C); choose another layer"
                )
            layout = find_layout(output, self._picture, self._before)
            if layout is None:
                raise LayerError(
                    f"layer {name!r} puts out {tuple(output.shape)}, which is no map of a batch of "
                    f"shape {tuple(self._picture.shape)}; choose another layer"
                )
            self.layouts[name] = layout
            if not output.requires_grad:
                output = output.detach().requires_grad_()
                torch.set_grad_enabled(True)
            self.outputs[name] = output
            self._versions[name] = output._version
            # The network goes on with a copy: an in-place ReLU behind the layer would change the
            # recorded maps, and cannot work on a leaf.
            copy = output.clone()
            return (copy, *whole[1:]) if isinstance(whole, tuple) else copy

        return record

    def take(self, name: str) -> Tensor:
        if name not in self.outputs:
            raise LayerError(
                f"layer {name!r} did not run in the forward pass; choose one that does"
            )
        if self.outputs[name]._version != self._versions[name]:
            raise LayerError(
                f"the output of layer {name!r} is changed in place after it ran; choose the layer "
                "that comes next"
            )
        return self.outputs[name]


@contextmanager
def _hooks(layers: Sequence[tuple[str, nn.Module]], recorder: _Recorder) -> Iterator[None]:
    handles: list[RemovableHandle] = []
    try:
        for name, module in layers:
            handles.append(module.register_forward_hook(recorder.hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def capture(
    module: nn.Module,
    batch: Tensor,
    targets: Targets,
    layers: Sequence[tuple[str, nn.Module]],
    needs: Needs,
    class_index: Callable[[str], int],
) -> Capture:
    """Run the passes that ``needs`` asks for.

    Args:
        module: The network; it comes back as it was, also after an exception.
        batch: (B, 3, H, W) floats on the module's device.
        targets: As for :func:`cam.targets.select_scores`.
        layers: (dotted name, module) of each wanted layer.
        needs: The union of what the methods need.
        class_index: From a label to its index.

    Raises:
        LayerError: A layer did not run, has no feature maps, or the score does not depend on it.
        ModelError: The output is no tensor, or the score does not depend on the input.
        TargetError: The target does not fit the output.
    """
    recorder = _Recorder(module, batch)
    with ExitStack() as stack:
        was_training = stack.enter_context(evaluation_mode(module))
        # Tensors made in inference mode can never be part of a graph.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(needs.input_gradient))
        stack.enter_context(_hooks(layers, recorder))
        inputs = batch.detach().clone() if batch.is_inference() else batch.detach()
        # A copy: a model may change its input in place, and the batch is the caller's.
        pixels = batch.detach().clone()
        if needs.input_gradient:
            pixels.requires_grad_()
        with reading(module, batch, needs.blocks) if needs.attention else nullcontext() as reader:
            start = pixels.clone() if needs.input_gradient else pixels
            output = run_model(module, start, quick=not needs.blocks)
        if not output.numel():
            raise TargetError(
                "the model detects nothing in these pictures, so there is nothing to explain; "
                "lower the score that it asks of a detection"
            )
        outputs = [recorder.take(name) for name, _ in layers]
        wanted = [*outputs] if needs.gradients else []
        if needs.input_gradient:
            wanted.append(pixels)
        scores, explained = select_scores(output, targets, class_index)
        attention = reader.captured(type(module).__name__) if reader else None
        weights = attention.weights[0 if needs.attention_gradients else -1 :] if attention else ()
        gradients = _backward(scores, [*weights, *wanted], needs.blocks)
        by_weights, gradients = gradients[: len(weights)], gradients[len(weights) :]
        input_gradient = gradients.pop() if needs.input_gradient else None
        layer_gradients = gradients or [None] * len(outputs)
    for name, gradient in zip([name for name, _ in layers], layer_gradients, strict=True):
        if needs.gradients and gradient is None:
            raise LayerError(
                f"the target's score does not depend on layer {name!r}; choose one on the way to it"
            )
    if needs.input_gradient and input_gradient is None:
        raise ModelError("the target's score does not depend on the pixels")
    return Capture(
        inputs=inputs,
        logits=output.detach(),
        scores=scores.detach(),
        targets=explained,
        layers=tuple(
            _layer(name, recorder.layouts[name], values, gradient, tuple(sorted(needs.rules)))
            for (name, _), values, gradient in zip(layers, outputs, layer_gradients, strict=True)
        ),
        input_gradient=input_gradient,
        was_training=was_training,
        attention=attention.with_gradients(by_weights) if attention else None,
    )


def _layer(
    name: str, layout: Layout, values: Tensor, gradient: Tensor | None, rules: tuple[str, ...]
) -> LayerCapture:
    maps = None if gradient is None else layout.maps(gradient)
    return LayerCapture(name, layout.maps(values.detach()), maps, layout, rules)


def _backward(scores: Tensor, wanted: list[Tensor], keep: bool) -> list[Tensor | None]:
    """Gradients of the scores; an image's score depends on its own pixels alone, so they add up."""
    if not wanted:
        return []
    if not scores.requires_grad:
        return [None] * len(wanted)
    return list(torch.autograd.grad(scores.sum(), wanted, allow_unused=True, retain_graph=keep))


def check_batch(module: nn.Module, batch: object) -> None:
    """Refuse what cannot be a batch for this module.

    Raises:
        InputError: It has the wrong kind, shape or device.
    """
    if not isinstance(batch, Tensor):
        raise InputError(
            f"the batch is a {type(batch).__name__}, not a tensor; model.prepare(pictures) makes "
            "one"
        )
    if batch.ndim != 4 or not batch.is_floating_point():
        raise InputError(
            f"the batch is {batch.dtype} of shape {tuple(batch.shape)}; it must be floats "
            "(B, C, H, W)"
        )
    if not batch.numel():
        raise InputError(f"the batch is empty: its shape is {tuple(batch.shape)}")
    device = device_of(module)
    if batch.device != device:
        raise InputError(
            f"the batch is on {batch.device} and the model on {device}; move one of them"
        )
