"""Replace a network's passes without gradients by a faster copy's.

A copy knows the weights of the moment it was made. So it runs only while nothing shows that the
network is another one: the same modules and tensors, no change in place, no hooks but this
library's, evaluation mode, no reduced precision.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from cam._engine.fast_ops.direct_operations import DirectOperations
from cam._engine.fast_ops.fast_forward import ENABLED
from cam._engine.precision import autocast_dtype

# Values of each tensor that are compared with those of the copy, whatever changed them.
COMPARED = 64

# What computes passes that no copy does.
TORCH = "torch"

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Replacement:
    """A copy of a network that computes its logits, without gradients.

    Attributes:
        run: From (N, C, H, W) float32 on the CPU to logits of N images.
        shape: (C, H, W) of the images that it was compared with the network on.
        engine: What computes it, with its version.
        deviation: The largest difference between its logits and the network's, relative to the
            largest logit.
    """

    run: Run
    shape: tuple[int, ...]
    engine: str
    deviation: float


_replacements: "WeakKeyDictionary[nn.Module, tuple[Replacement, _Snapshot]]" = WeakKeyDictionary()


def replace_passes(module: nn.Module, replacement: Replacement | None) -> None:
    """Send a network's passes without gradients through a copy; None ends it.

    Args:
        module: The network, whose weights are those of the copy.
        replacement: The copy.
    """
    if replacement is None:
        _replacements.pop(module, None)
    else:
        _replacements[module] = replacement, _Snapshot(module)


def get_replacement(module: nn.Module) -> Replacement | None:
    """Return the copy that a network's passes go through; None if there is none."""
    entry = _replacements.get(module)
    return entry[0] if entry is not None and entry[1].holds(module) else None


def share_replacement(module: nn.Module, twin: nn.Module) -> None:
    """Send the passes of a twin over the same tensors through the network's copy."""
    replacement = get_replacement(module)
    if replacement is not None:
        replace_passes(twin, replacement)


def find_replacement(module: nn.Module, pixels: Tensor) -> Run | None:
    """Return what computes a batch's logits in the network's stead; None: itself.

    Args:
        module: The network.
        pixels: A batch.
    """
    if not ENABLED or torch.is_grad_enabled() or module not in _replacements:
        return None
    replacement, snapshot = _replacements[module]
    plain = (
        type(pixels) is Tensor
        and pixels.dtype == torch.float32
        and pixels.device.type == "cpu"
        and tuple(pixels.shape[1:]) == replacement.shape
        and autocast_dtype() is None
        and not torch.is_autocast_enabled("cpu")
        and not _is_observed()
    )
    if not plain or not snapshot.holds(module):
        return None

    def run(batch: Tensor) -> Tensor:
        logits = replacement.run(batch)
        # This library counts passes by a hook on the network.
        for hook in module._forward_hooks.values():
            hook(module, (batch,), logits)
        return logits

    return run


class _Snapshot:
    """What a network consisted of at a moment.

    It holds no reference to the network itself, which would never be freed.
    """

    def __init__(self, module: nn.Module) -> None:
        self.forward = module.__dict__.get("forward")
        self.inner = [(child, child.__dict__.get("forward")) for child in _list_inner(module)]
        self.tensors = _list_tensors(module)
        self.versions = [tensor._version for tensor in self.tensors]
        self.values = _sample(self.tensors)

    def holds(self, module: nn.Module) -> bool:
        """Test whether a network is still what it was, and nobody watches its parts."""
        return (
            not (hooks._global_forward_hooks or hooks._global_forward_pre_hooks)
            and not (module.training or module._forward_pre_hooks)
            and all(map(_is_ours, module._forward_hooks.values()))
            and module.__dict__.get("forward") is self.forward
            and self._has_same_parts(_list_inner(module))
            and self._has_same_values(_list_tensors(module))
        )

    def _has_same_parts(self, inner: Sequence[nn.Module]) -> bool:
        return len(inner) == len(self.inner) and all(
            child is earlier
            and not (child.training or child._forward_hooks or child._forward_pre_hooks)
            and child.__dict__.get("forward") is forward
            for child, (earlier, forward) in zip(inner, self.inner, strict=True)
        )

    def _has_same_values(self, tensors: Sequence[Tensor]) -> bool:
        same = len(tensors) == len(self.tensors) and all(
            tensor is earlier and tensor._version == version
            for tensor, earlier, version in zip(tensors, self.tensors, self.versions, strict=True)
        )
        # What is written through `.data` changes no version.
        return same and torch.equal(_sample(tensors), self.values)


def _list_inner(module: nn.Module) -> list[nn.Module]:
    return [child for child in module.modules() if child is not module]


def _is_observed() -> bool:
    """Test whether a mode of somebody else wants to see each operation."""
    functions = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return bool(_get_current_dispatch_mode_stack()) or not all(
        isinstance(mode, DirectOperations) for mode in functions
    )


def _is_ours(hook: object) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("cam.")


def _list_tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _sample(tensors: Sequence[Tensor]) -> Tensor:
    """Take values spread over each tensor, as one vector."""
    parts = []
    with torch.no_grad():
        for tensor in tensors:
            flat = tensor.reshape(-1)
            parts.append(flat[:: max(1, len(flat) // COMPARED)].double())
        return torch.cat(parts) if parts else torch.empty(0)
