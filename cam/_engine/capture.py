"""Run a forward and a backward pass; keep what methods read.

Nothing before the earliest tensor that is needed is recorded: the forward runs without gradients
until a wanted layer has returned its feature maps; there they become a leaf of a new graph. So a
frozen model works, parameters get no gradients, and the backward ends where it should.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from cam._engine.attention.attention_capture import record_attention
from cam._engine.default_layer import suggest_layers
from cam._engine.evaluation_mode import device_of, evaluation_mode
from cam._engine.fast_ops.sparse_backward import SparseBackward
from cam._engine.forward import run_model
from cam._engine.heatmaps import rule_maps
from cam._engine.layer_choice.layer_memory import find_certain_layout, probed_layouts
from cam._engine.method_sources import (
    Attention,
    AttentionGradients,
    Capture,
    LayerActivations,
    LayerGradients,
    PixelGradients,
    Pixels,
    Source,
    TransformerBlocks,
)
from cam._engine.several_targets import gradients_of_each, repeat_for
from cam._engine.token_layout import Layout, main_output, name_maps, replace_main_output
from cam._targets.class_target import refuse_label
from cam._targets.detection_targets import ask_boxes
from cam.errors import InputError, LayerError, NoGradientError, TargetError
from cam.targets import Targets, select_scores


class _NotRecorded(LayerError):
    """A layer that gives no feature maps; who catches it names those that do."""


class _Recorder:
    """Keep the output of each layer, and start the graph at the first of them.

    A layer that runs several times (a shared ReLU) is recorded at its last run.
    """

    def __init__(self, batch: Tensor) -> None:
        self._batch = batch
        self.outputs: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}

    def hook(self, name: str) -> Callable[[nn.Module, object, object], object]:
        def record(_module: nn.Module, _inputs: object, whole: object) -> object:
            output = main_output(whole)
            if not isinstance(output, Tensor) or output.ndim not in (3, self._batch.ndim):
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise _NotRecorded(
                    f"layer {name!r} returns {shape}, neither feature maps "
                    f"{name_maps(self._batch)} nor tokens (B, N, C)"
                )
            if not output.requires_grad:
                output = output.detach().requires_grad_()
                torch.set_grad_enabled(True)
            self.outputs[name] = output
            self._versions[name] = output._version
            # The network goes on with a copy: an in-place ReLU behind the layer would change the
            # recorded maps, and cannot work on a leaf.
            return replace_main_output(whole, output.clone())

        return record

    def take(self, name: str) -> Tensor:
        if name not in self.outputs:
            raise _NotRecorded(f"layer {name!r} did not run in the forward pass")
        if self.outputs[name]._version != self._versions[name]:
            raise LayerError(
                f"the output of layer {name!r} is changed in place after it ran; choose the layer "
                "that comes next"
            )
        return self.outputs[name]


def capture(
    module: nn.Module,
    batch: Tensor,
    targets: Targets,
    class_index: Callable[[str], int] = refuse_label,
    reads: Collection[type[Source]] = (),
    layers: Sequence[tuple[str, nn.Module]] = (),
    rules: Collection[str] = (),
    owner: Tensor | None = None,
) -> Capture:
    """Run the passes whose results methods read.

    Args:
        module: The network; it comes back as it was, also after an exception.
        batch: (B, C, H, W), or (B, C, D, H, W) of volumes and clips, floats on the module's device.
        targets: As for :func:`cam.targets.select_scores`; N of them with ``owner``.
        class_index: From a label to its index; by default there are no labels.
        reads: The sources that the methods read.
        layers: (dotted name, module) of each layer to capture.
        rules: Rules of :func:`kernels.fused_cam`, all in one kernel for each layer.
        owner: (N,) int64, which image each target is of: what is captured is as of N images, and
            the forward pass is of B. None: each image has one target.

    Raises:
        LayerError: A layer did not run, is not shown to lie on the picture, or the score does not
            depend on it.
        ModelError: The output is no tensor, or the score does not depend on the input.
        TargetError: The target does not fit the output.
    """

    def is_read(*sources: type[Source]) -> bool:
        return any(issubclass(kind, sources) for kind in reads)

    by_pixels, by_layers = is_read(PixelGradients), is_read(LayerGradients)
    by_attention, with_blocks = is_read(AttentionGradients), is_read(TransformerBlocks)
    if owner is not None and is_read(Attention, TransformerBlocks):
        # Attention is recorded as it runs, a head an image.
        batch, owner = batch[owner], None
    recorder = _Recorder(batch)
    with _naming_candidates(module, batch), ExitStack() as stack:
        stack.enter_context(evaluation_mode(module))
        # Tensors made in inference mode can never be part of a graph.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(by_pixels))
        for name, layer in layers:
            stack.enter_context(layer.register_forward_hook(recorder.hook(name)))
        inputs = batch.detach().clone() if batch.is_inference() else batch.detach()
        # A copy: a model may change its input in place, and the batch is the caller's.
        pixels = batch.detach().clone()
        if by_pixels:
            pixels.requires_grad_()
        recording = record_attention(module, batch, with_blocks)
        with recording if is_read(Attention) or with_blocks else nullcontext() as reader:
            start = pixels.clone() if by_pixels else pixels
            with SparseBackward() if ask_boxes(targets) and not with_blocks else nullcontext():
                output = run_model(module, start, quick=not with_blocks)
        if not output.numel():
            raise TargetError(
                "the model detects nothing in these images, so there is nothing to explain; "
                "lower the score that it asks of a detection"
            )
        outputs = [recorder.take(name) for name, _ in layers]
        size = (batch.shape[-2], batch.shape[-1])
        scores, classes = select_scores(output, targets, class_index, owner, size)
        attention = reader.finish(type(module).__name__) if reader else None
        weights = attention.weights[0 if by_attention else -1 :] if attention else ()
        # In the order in which they are taken apart below.
        leaves = [*weights, *(outputs if by_layers else ()), *([pixels] if by_pixels else ())]
        gradients = _backward(scores, leaves, with_blocks, owner)
    with _naming_candidates(module, batch):
        layouts = [
            _lay_out(module, name, values.detach(), inputs)
            for (name, _), values in zip(layers, outputs, strict=True)
        ]
    pixel_gradient = gradients.pop() if by_pixels else None
    others = list(attention.sources(gradients[: len(weights)], with_blocks)) if attention else []
    inputs = repeat_for(inputs, owner)
    slopes = gradients[len(weights) :] if by_layers else [None] * len(outputs)
    for (name, _), values, layout, slope in zip(layers, outputs, layouts, slopes, strict=True):
        activations = repeat_for(layout.maps(values.detach()), owner)
        if not by_layers:
            others.append(LayerActivations(name, activations, layout, inputs=inputs))
        elif slope is None:
            raise LayerError(
                f"the target's score does not depend on layer {name!r}; choose one on the way to it"
            )
        else:
            gradient = layout.maps(slope)
            maps = rule_maps(activations, gradient, rules)
            others.append(LayerGradients(name, activations, layout, gradient, maps, inputs=inputs))
    logits = repeat_for(output.detach(), owner)
    explained = Pixels(inputs, logits, scores.detach(), classes)
    if by_pixels:
        if pixel_gradient is None:
            raise NoGradientError("the target's score does not depend on the pixels")
        explained = PixelGradients(**vars(explained), gradients=pixel_gradient)
    return Capture(explained, tuple(others))


@contextmanager
def _naming_candidates(module: nn.Module, batch: Tensor) -> Iterator[None]:
    """Add to an error about a layer which others lie on the picture."""
    try:
        yield
    except _NotRecorded as error:
        raise LayerError(f"{error}; {suggest_layers(module, batch.detach())}") from None


def _lay_out(module: nn.Module, name: str, output: Tensor, picture: Tensor) -> Layout:
    """Return how a layer lies on the picture; refuse one that is not shown to."""
    layout = find_certain_layout(module, output, picture)
    if layout is None and output.is_floating_point() and len(output) == len(picture):
        layout = probed_layouts(module, picture).get(name)
    if layout is None:
        raise _NotRecorded(
            f"layer {name!r} returns {tuple(output.shape)}, which is not shown to be a map of a "
            f"batch of shape {tuple(picture.shape)}"
        )
    return layout


def _backward(
    scores: Tensor, leaves: list[Tensor], keep: bool, owner: Tensor | None
) -> list[Tensor | None]:
    """Return gradients of the scores' sum, in which no image affects another."""
    if not leaves:
        return []
    if not scores.requires_grad:
        return [None] * len(leaves)
    if owner is not None:
        return gradients_of_each(scores, leaves, owner)
    return list(torch.autograd.grad(scores.sum(), leaves, allow_unused=True, retain_graph=keep))


def check_batch(module: nn.Module, batch: object, volumes: bool = False) -> None:
    """Refuse anything but a batch of floats on the module's device.

    Args:
        module: The network.
        batch: (B, C, H, W).
        volumes: Whether it may be of volumes or clips, of five axes.

    Raises:
        InputError: It has the wrong kind, shape or device.
    """
    if not isinstance(batch, Tensor):
        raise InputError(
            f"the batch is a {type(batch).__name__}, not a tensor; model.prepare(images) makes one"
        )
    if batch.ndim not in ((4, 5) if volumes else (4,)) or not batch.is_floating_point():
        further = ", or (B, C, D, H, W) or (B, T, C, H, W), as a model of volumes or clips takes it"
        only = "; volumes and clips are explained by cam.attribute alone" if batch.ndim == 5 else ""
        raise InputError(
            f"the batch is {batch.dtype} of shape {tuple(batch.shape)}; it must be floats "
            f"(B, C, H, W){further if volumes else only}"
        )
    if not batch.numel():
        raise InputError(f"the batch is empty: its shape is {tuple(batch.shape)}")
    device = device_of(module)
    if batch.device != device:
        raise InputError(
            f"the batch is on {batch.device} and the model on {device}; move one of them"
        )
