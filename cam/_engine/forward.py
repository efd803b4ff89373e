"""Run a network and find the logits in its output."""

from collections.abc import Mapping
from weakref import WeakSet

import torch
from torch import Tensor, nn

from cam._detection.final_detections import are_detections
from cam._detection.outputs import Detected, read_candidates
from cam._engine.clips.axis_order import in_model_order
from cam._engine.fast_ops.fast_forward import run_fast, unwrap
from cam._engine.fast_ops.replacement import find_replacement
from cam._engine.precision import arrange, autocast_forward, widen
from cam._segmentation.pixel_scores import PixelScores, find_pixel_scores, read_query_masks
from cam.errors import ModelError

# What records call the scores: torchvision's segmenters, and Hugging Face's classes for images and
# prompts, for depth, and for segments that are queries.
_OUTPUTS = ("logits", "out", "logits_per_image", "predicted_depth", "class_queries_logits")

# Networks that flatten with `view`, which takes contiguous pixels.
_needs_contiguous: WeakSet[nn.Module] = WeakSet()


def run_model(
    module: nn.Module, pixels: Tensor, quick: bool = False, candidates: bool = True
) -> Tensor:
    """Run a model on a batch and return its logits.

    They are the output itself, the first tensor of a tuple or list, or what a mapping or an object
    such as Hugging Face's outputs calls "logits", "logits_per_image", "predicted_depth" or
    "class_queries_logits", or "out" (torchvision's segmentation models).
    What a detector returns becomes (B, N, 6) or (B, N, 7 + C): box, score and label of each
    candidate, as :class:`cam.targets.Box` reads them, those that are missing rows of -1. What a
    segmenter of queries returns becomes a map for each class, (B, K, h, w).

    It computes in the precision and the layout of :func:`cam._engine.precision.use_precision`;
    without gradients by a faster copy where there is one, as
    :mod:`cam._engine.fast_ops.replacement` keeps them.

    Args:
        module: The network.
        pixels: (N, C, H, W), or (N, C, D, H, W) of volumes and clips.
        quick: Whether only gradients by pixels and layers are needed, so that faster operations
            may replace others: no other mode watches them, no code walks the graph.
        candidates: Whether queries and cells are read; else their logits are returned.

    Raises:
        ModelError: It fails on the batch, or does not return a tensor.
    """
    replaced = find_replacement(module, pixels)
    if replaced is not None:
        return replaced(pixels)
    output = _run(module, pixels, quick)
    # Lists of detections have no logits.
    if pixels.ndim == 4 and (candidates or are_detections(output)):
        detected = _read_candidates(module, output, pixels)
        if detected is not None:
            return widen(detected.values)
    if candidates and (joined := read_query_masks(_unwrap_parts(output))) is not None:
        return widen(joined)
    logits = find_logits(output)
    if logits is None:
        raise ModelError(
            f"the model returned a {type(output).__name__} without logits; wrap it in a module "
            "that returns them as a tensor"
        )
    return widen(logits)


def find_detected(module: nn.Module, pixels: Tensor) -> Detected | None:
    """Run a network on a batch; return what it detects, None where it is no detector.

    Raises:
        ModelError: It fails on the batch.
    """
    return _read_candidates(module, _run(module, pixels, quick=False), pixels)


def find_segments(module: nn.Module, pixels: Tensor) -> PixelScores | None:
    """Run a network on a batch; return its map for each class, None where it has none.

    Raises:
        ModelError: It fails on the batch.
    """
    return find_pixel_scores(_unwrap_parts(_run(module, pixels, quick=False)))


def run_detector(module: nn.Module, pixels: Tensor) -> Detected:
    """Run a detector on a batch.

    Args:
        module: The network.
        pixels: (N, C, H, W).

    Raises:
        ModelError: It fails on the batch, or nothing shows that it is a detector.
    """
    output = _run(module, pixels, quick=False)
    detected = _read_candidates(module, output, pixels)
    if detected is None:
        raise ModelError(
            f"{type(module).__name__} is not shown to be a detector by what it returns, a "
            f"{_describe(output)}; say so with cam.Model(module, task='detection'), or give "
            "labels=…, one name a class"
        )
    return detected


def _read_candidates(module: nn.Module, output: object, pixels: Tensor) -> Detected | None:
    return read_candidates(module, _unwrap_parts(output), (pixels.shape[-2], pixels.shape[-1]))


def _unwrap_parts(output: object) -> object:
    """Unwrap the tensors of dicts and lists; other records hold plain ones."""
    if isinstance(output, Mapping):
        return {name: _unwrap_parts(part) for name, part in output.items()}
    if isinstance(output, list | tuple):
        return [_unwrap_parts(part) for part in output]
    return unwrap(output)


def _describe(output: object) -> str:
    shape = f" of shape {tuple(output.shape)}" if isinstance(output, Tensor) else ""
    return f"{type(output).__name__}{shape}"


def _run(module: nn.Module, pixels: Tensor, quick: bool) -> object:
    """Run a model, and name what it fails on."""
    try:
        with autocast_forward(pixels.device):
            # Without gradients the faster operations only save a CPU's memory traffic.
            if quick or (pixels.device.type == "cpu" and not torch.is_grad_enabled()):
                return unwrap(run_fast(module, pixels, _call))
            return unwrap(_call(module, pixels))
    except torch.OutOfMemoryError:
        raise
    except (
        RuntimeError,
        AssertionError,
        AttributeError,
        TypeError,
        ValueError,
        LookupError,
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"the model failed on a {pixels.dtype} batch of shape "
            f"{tuple(in_model_order(module, pixels).shape)}: {reason}"
        ) from error


class Probabilities(nn.Module):
    """A classifier whose logits pass a softmax."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (N, classes), each row adding up to 1; at least float32."""
        logits = run_model(self.network, pixels)
        return logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _call(module: nn.Module, pixels: Tensor) -> object:
    pixels = in_model_order(module, pixels)
    if module in _needs_contiguous:
        return module(pixels)
    try:
        return module(arrange(pixels))
    except RuntimeError as error:
        if "view size is not compatible" not in str(error):
            raise
        output = module(pixels.contiguous())
        _needs_contiguous.add(module)
        return output


def find_logits(output: object) -> Tensor | None:
    output = unwrap(output)
    if isinstance(output, Tensor):
        return output
    for name in _OUTPUTS:
        inside = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(inside, Tensor):
            return find_logits(inside)
    # PP-LCNet's classes have no other name; of others this is a token or a place each.
    hidden = getattr(output, "last_hidden_state", None)
    if isinstance(hidden, Tensor) and hidden.ndim == 2:
        return find_logits(hidden)
    if isinstance(output, tuple | list):
        return next((find_logits(part) for part in output if isinstance(part, Tensor)), None)
    return None
