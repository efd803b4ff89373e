"""Calling a network, whatever it puts its logits in."""

import logging
from collections.abc import Mapping, Sequence
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import _len_torch_function_stack  # type: ignore[attr-defined]

from cam._engine.fast_ops.direct_operations import QuickPasses
from cam._engine.fast_ops.overwritable_tensor import Fresh
from cam._engine.precision import arranged, casting, widened
from cam.errors import ModelError

LOG = logging.getLogger("cam.models")
_DETECTION = {"boxes", "scores", "labels"}

# Networks that flatten with `view` what they take to lie plane by plane.
_needs_planes: WeakSet[nn.Module] = WeakSet()

# Networks that look at a convolution's output again behind its batch norm.
_not_quick: WeakSet[nn.Module] = WeakSet()


def run_model(module: nn.Module, pixels: Tensor, quick: bool = False) -> Tensor:
    """Run a model on a batch and give its logits.

    They are the output itself, the first tensor of a tuple or list, or what a mapping or an object
    such as Hugging Face's outputs calls "logits", or "out" (torchvision's segmentation models).
    Detections, a list with a mapping for each image, become (B, D, 6): x0, y0, x1, y1, score and
    label of each, as :class:`cam.targets.Box` reads them, and -1 all over where there are fewer.

    It computes in the precision and the layout of :func:`cam._engine.precision.computing`.

    Args:
        module: The network.
        pixels: (N, C, H, W).
        quick: Whether only the gradients by pixels and layers are wanted, and how they come about
            does not matter: no other mode watches the operations, nobody walks the graph.

    Raises:
        ModelError: It fails on the batch, or does not put out a tensor.
    """
    try:
        with casting(pixels.device):
            # Without gradients the short ways are ways around a processor's memory.
            here = pixels.device.type == "cpu" and not torch.is_grad_enabled()
            output = _run(module, pixels, quick or here)
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
            f"the model puts out a {type(output).__name__} without logits; wrap it in a module "
            "that returns them as a tensor"
        )
    return widened(logits)


class Probabilities(nn.Module):
    """A classifier whose logits pass a softmax."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, classes), each row adding up to 1; float32 where the logits are shorter."""
        logits = run_model(self.network, pixels)
        return logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _run(module: nn.Module, pixels: Tensor, quick: bool) -> object:
    # For one picture, seeing each operation costs what the shorter passes save.
    if not quick or len(pixels) == 1 or _len_torch_function_stack() or module in _not_quick:
        return _called(module, pixels)
    mode = QuickPasses(over=not _is_watched(module))
    try:
        with mode:
            output = _called(module, pixels)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # Whether it is the network's own fault shows without the mode.
        LOG.debug("the short way failed", exc_info=True)
    else:
        if not mode.leaked:
            return output
    output = _called(module, pixels)
    _not_quick.add(module)
    return output


def _is_watched(module: nn.Module) -> bool:
    """Whether somebody else's hooks see what the network's parts take and give.

    They would be called twice where they keep what is written over, and find other things than
    tensors. This library's own look at once, or not at all.
    """
    if hooks._global_forward_hooks or hooks._global_forward_pre_hooks:
        return True
    return any(
        not str(getattr(hook, "__module__", "")).startswith("cam.")
        for one in module.modules()
        for hook in (*one._forward_hooks.values(), *one._forward_pre_hooks.values())
    )


def _called(module: nn.Module, pixels: Tensor) -> object:
    if module in _needs_planes:
        return module(pixels)
    try:
        return module(arranged(pixels))
    except RuntimeError as error:
        if "view size is not compatible" not in str(error):
            raise
        found = module(pixels.contiguous())
        _needs_planes.add(module)
        return found


def _logits(output: object) -> Tensor | None:
    if isinstance(output, Fresh):
        return output.share()
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "out"):
        inside = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(inside, Tensor):
            return _logits(inside)
    if isinstance(output, tuple | list):
        if output and all(isinstance(one, Mapping) and one.keys() >= _DETECTION for one in output):
            return _detections(output)
        return next((_logits(one) for one in output if isinstance(one, Tensor)), None)
    return None


def _detections(output: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """(B, D, 6) of torchvision's detections; the scores and boxes stay part of the graph."""
    found = [
        torch.cat(
            [one["boxes"], one["scores"][:, None], one["labels"][:, None].to(one["scores"])], 1
        )
        for one in output
    ]
    return nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=-1)
