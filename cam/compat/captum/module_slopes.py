"""Give DeepLIFT's slopes to those modules that Captum changes.

The rule and its limits are those of captum 0.9, ``captum/attr/_core/deep_lift.py``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from cam._engine.evaluation_mode import attach
from cam._methods.base.gradient_override import COMPOSED, ELEMENTWISE, MATRIX_PRODUCTS, PRODUCTS
from cam._methods.gradients.deeplift import RescaleRule
from cam.errors import MethodError

_INSTEAD = "call cam.attribute(model, inputs, 'deeplift')"
_ACTIVATIONS = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
_HOOKED = (*_ACTIVATIONS, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.Softmax)
_SLOPED = (
    ELEMENTWISE
    | COMPOSED
    | {"softmax", "log_softmax", "layer_norm", "group_norm", "scaled_dot_product_attention"}
    | {"max_pool2d", "_max_pool2d", "max_pool2d_with_indices", "adaptive_max_pool2d"}
)


class SlopedModules:
    """What runs of the modules that Captum changes.

    Attributes:
        plain: Names of what keeps its ordinary gradient, and has slopes in this library.
    """

    def __init__(self) -> None:
        self.plain: set[str] = set()
        self._inside: nn.Module | None = None
        self.sloped = False
        # Whether a pooling with slopes has run.
        self._pooled = False
        # What modules with slopes returned; kept, so that none can be taken for another.
        self._returned: list[Tensor] = []
        self._ran: set[nn.Module] = set()

    def rule(self, batch: int) -> RescaleRule:
        """Return the slopes of a forward pass of pictures and baselines."""
        self._returned.clear()
        self._ran.clear()
        self._pooled = False
        return _ModuleRule(batch, self)

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        """Follow which module runs."""
        modules = [module for module in network.modules() if type(module) in _HOOKED]
        with (
            attach(module.register_forward_pre_hook(self._before) for module in modules),
            attach(module.register_forward_hook(self._after) for module in modules),
        ):
            yield
        self._returned.clear()

    def leave_plain(self, name: str) -> None:
        """Note an operation that keeps its gradient."""
        name = type(self._inside).__name__ if self._inside else name
        if self._pooled:
            raise MethodError(
                "Captum's DeepLift takes a part of a MaxPool2d's slopes from the baselines' "
                f"ordinary gradient of {name} behind it, and this library none; {_INSTEAD}"
            )
        self.plain.add(name)

    def _before(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        name = type(module).__name__
        if module in self._ran:
            raise MethodError(
                f"Captum's DeepLift fails where a network runs a {name} twice, since its modules "
                f"remember what they saw, which this library does not need; {_INSTEAD}"
            )
        self._ran.add(module)
        self._inside = module
        # Captum takes the gradient that arrives at a module before the next has changed it.
        self.sloped = not any(inputs[0] is tensor for tensor in self._returned)
        if not self.sloped or isinstance(module, _ACTIVATIONS):
            return
        if not isinstance(module, nn.MaxPool2d):
            raise MethodError(
                f"Captum's DeepLift has another rule for {name} than this library; {_INSTEAD}"
            )
        if _overlaps(module):
            raise MethodError(
                "Captum's DeepLift counts only one of the windows of a MaxPool2d that overlap and "
                f"share their maximum, and this library all; {_INSTEAD}"
            )
        self._pooled = True

    def _after(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        if self.sloped:
            self._returned.append(output)
        self._inside, self.sloped = None, False


class _ModuleRule(RescaleRule):
    """Slopes inside of the modules that Captum changes."""

    def __init__(self, batch: int, modules: SlopedModules) -> None:
        super().__init__(batch)
        self._modules = modules

    def run(self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, with another slope where Captum has one."""
        if self._modules.sloped:
            return super().run(function, name, args, kwargs)
        factors = 2 if name in PRODUCTS | MATRIX_PRODUCTS else 1
        if (name in _SLOPED or factors == 2) and self.takes_batch(args, factors):
            self._modules.leave_plain(name)
        return function(*args, **kwargs)


def _overlaps(pool: nn.MaxPool2d) -> bool:
    """Test whether two windows of a pooling share a place."""
    sides = [
        value if isinstance(value, tuple) else (value, value)
        for value in (pool.kernel_size, pool.stride)
    ]
    dilated = pool.dilation not in (1, (1, 1))
    return dilated or any(step < side for side, step in zip(*sides, strict=True))
