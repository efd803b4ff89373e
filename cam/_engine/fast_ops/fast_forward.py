"""Run a forward pass with faster operations where they are safe.

This is the only switch: ``CAM_FAST_OPS=0`` in the environment runs every pass plainly.
"""

import logging
import os
from collections.abc import Callable
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import _len_torch_function_stack  # type: ignore[attr-defined]

from cam._engine.fast_ops.direct_operations import DirectOperations
from cam._engine.fast_ops.overwritable_tensor import OverwritableTensor

LOG = logging.getLogger("cam.models")
ENABLED = os.environ.get("CAM_FAST_OPS", "1") != "0"

# Networks that read a convolution's output again after its batch norm.
_plain_only: WeakSet[nn.Module] = WeakSet()


def run_fast(
    module: nn.Module, pixels: Tensor, call: Callable[[nn.Module, Tensor], object]
) -> object:
    """Run a network whose parameters' gradients are not needed.

    Args:
        module: The network.
        pixels: (N, C, H, W).
        call: Runs it plainly.

    Returns:
        What the network returns, the same but for the last bit of gradients.
    """
    # For one picture, seeing each operation costs what the faster ones save.
    if not ENABLED or len(pixels) == 1 or _len_torch_function_stack() or module in _plain_only:
        return call(module, pixels)
    mode = DirectOperations(overwrite=not _is_watched(module))
    try:
        with mode:
            output = call(module, pixels)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # Whether it is the network's own fault shows without the mode.
        LOG.debug("the faster operations failed", exc_info=True)
    else:
        if not mode.leaked:
            return output
    output = call(module, pixels)
    _plain_only.add(module)
    return output


def unwrap(output: object) -> object:
    """Return the tensor behind a network's output."""
    return output.share() if isinstance(output, OverwritableTensor) else output


def _is_watched(module: nn.Module) -> bool:
    """Test whether hooks of other programs see the modules' inputs and outputs.

    They would be called twice where they keep what is overwritten, and get other things than
    tensors. This library's hooks read them at once, or not at all.
    """
    if hooks._global_forward_hooks or hooks._global_forward_pre_hooks:
        return True
    return any(
        not str(getattr(hook, "__module__", "")).startswith("cam.")
        for child in module.modules()
        for hook in (*child._forward_hooks.values(), *child._forward_pre_hooks.values())
    )
