"""Run a network and find the logits in its output."""

from collections.abc import Mapping, Sequence
from weakref import WeakSet

import torch
from torch import Tensor, nn

from cam._engine.fast_ops.fast_forward import run_fast, unwrap
from cam._engine.precision import arrange, autocast_forward, widen
from cam.errors import ModelError

_DETECTION = {"boxes", "scores", "labels"}

# Networks that flatten with `view`, which takes contiguous pixels.
_needs_contiguous: WeakSet[nn.Module] = WeakSet()


def run_model(module: nn.Module, pixels: Tensor, quick: bool = False) -> Tensor:
    """Run a model on a batch and return its logits.

    They are the output itself, the first tensor of a tuple or list, or what a mapping or an object
    such as Hugging Face's outputs calls "logits", or "out" (torchvision's segmentation models).
    Detections, a list with a mapping for each image, become (B, D, 6): x0, y0, x1, y1, score and
    label of each, as :class:`cam.targets.Box` reads them, padded with rows of -1.

    It computes in the precision and the layout of :func:`cam._engine.precision.computing`.

    Args:
        module: The network.
        pixels: (N, C, H, W).
        quick: Whether only gradients by pixels and layers are needed, so that faster operations
            may replace others: no other mode watches them, no code walks the graph.

    Raises:
        ModelError: It fails on the batch, or does not return a tensor.
    """
    try:
        with autocast_forward(pixels.device):
            # Without gradients the faster operations only save a CPU's memory traffic.
            if quick or (pixels.device.type == "cpu" and not torch.is_grad_enabled()):
                output = run_fast(module, pixels, _call)
            else:
                output = _call(module, pixels)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, TypeError, ValueError, LookupError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"the model failed on a {pixels.dtype} batch of shape {tuple(pixels.shape)}: {reason}"
        ) from error
    logits = _logits(output)
    if logits is None:
        raise ModelError(
            f"the model returned a {type(output).__name__} without logits; wrap it in a module "
            "that returns them as a tensor"
        )
    return widen(logits)


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


def _logits(output: object) -> Tensor | None:
    output = unwrap(output)
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "out"):
        inside = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(inside, Tensor):
            return _logits(inside)
    if isinstance(output, tuple | list):
        if output and all(
            isinstance(part, Mapping) and part.keys() >= _DETECTION for part in output
        ):
            return _detections(output)
        return next((_logits(part) for part in output if isinstance(part, Tensor)), None)
    return None


def _detections(output: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return torchvision's detections as (B, D, 6), still in the graph."""
    images = []
    for image in output:
        scores = image["scores"][:, None]
        images.append(torch.cat([image["boxes"], scores, image["labels"][:, None].to(scores)], 1))
    return nn.utils.rnn.pad_sequence(images, batch_first=True, padding_value=-1)
