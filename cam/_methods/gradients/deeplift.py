"""DeepLIFT: slopes between a picture and a blank one instead of gradients.

Written here and not taken from captum, which hooks modules only: it misses functions, ReLU6, SiLU
and GELU, refuses a module that is used twice, and is wrong where the windows of a max pooling
overlap, or where an activation and a pooling follow each other at once. Here the operations
themselves are overridden, in whichever form the network calls them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cam._engine.attention.explicit_attention import attend
from cam._engine.forward import run_model
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.gradient_override import (
    COMPOSED,
    ELEMENTWISE,
    MATRIX_PRODUCTS,
    PRODUCTS,
    QUOTIENTS,
    GradientOverrides,
    freeze_parameters,
    is_in_place,
    override_gradient,
    run_body,
)
from cam._methods.base.maps import reduce_gradient
from cam._methods.base.method_registry import register_method
from cam._methods.gradients.integrated_gradients import check_completeness
from cam.parameters import number
from cam.types import Maps

_POOLS = {
    name: pool
    for axes, pool in (("2d", functional.max_pool2d), ("3d", functional.max_pool3d))
    for name in (f"max_pool{axes}", f"_max_pool{axes}", f"max_pool{axes}_with_indices")
}
_ADAPTIVE_POOLS = {
    f"{start}adaptive_max_pool{axes}{end}": pool
    for axes, pool in (
        ("2d", functional.adaptive_max_pool2d),
        ("3d", functional.adaptive_max_pool3d),
    )
    for start, end in (("", ""), ("_", ""), ("", "_with_indices"))
}


@register_method(
    "deeplift",
    rules={"baseline": number()},
    title="DeepLIFT",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    volumes=True,
    cost="2 forwards, and a forward and a backward of twice the images",
)
def deeplift(pixels: Pixels, passes: Passes, *, baseline: float = 0.0) -> Maps:
    """How much each pixel adds to the score compared with a blank image, in one backward pass.

    With x' the blank image and Δ what is different between the two: a = (x - x') ⊙ m, where m is
    the gradient of the score in which the slope of each activation f is Δf / Δ of its input;
    map = Σ_c a_c. A product of two parts of the network shares its Δ evenly, and a maximum gives it
    to the places of the two maxima. Quotients, softmax, layer norm and attention are made of these.
    The raw map adds up to y(x) - y(x') as far as the network consists of them and of linear
    operations; the rest (a variance, say) keeps its ordinary gradient, and the
    attribution's notes say where more than 1 % is missed. The other map shows |Σ_c a_c|, min-max
    normalised for each image.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images and blank ones go together.
        baseline: What every pixel of the blank image shows, after normalisation.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Shrikumar, Greenside and Kundaje, Learning Important Features Through Propagating Activation
        Differences, ICML 2017, section 3.5.2 (rescale rule); products as in Lundberg and Lee, A
        Unified Approach to Interpreting Model Predictions, NeurIPS 2017
    """
    inputs = pixels.inputs
    passes.expect(2 * len(inputs))
    pairs = torch.stack([inputs, torch.full_like(inputs, baseline)], 1)
    with passes.through(PicturePairs(passes.module)):
        _, multipliers = passes.gradients(pairs)
    maps = reduce_gradient(multipliers[:, 0], inputs - baseline)
    blank = torch.full_like(inputs, baseline)
    return check_completeness(passes, maps, blank, "a blank image", advice="")


class PicturePairs(nn.Module):
    """A network that runs on pictures and their baselines, and returns the pictures' output.

    Args:
        network: What computes the output.
        rule: Makes the slopes of its operations, from the number of pictures and baselines.
    """

    def __init__(
        self, network: nn.Module, rule: "Callable[[int], RescaleRule] | None" = None
    ) -> None:
        super().__init__()
        self.network = network
        self.rule = rule or RescaleRule

    def forward(self, pairs: Tensor) -> Tensor:
        """Return (N, classes) of pictures, from (N, 2, C, H, W), with DeepLIFT's slopes."""
        both = pairs.transpose(0, 1).flatten(0, 1)
        with freeze_parameters(self.network), self.rule(len(both)):
            output = run_model(self.network, both)
        return output[: len(pairs)]


class RescaleRule(GradientOverrides):
    """Gives operations DeepLIFT's slopes.

    The first half of a batch are pictures, the second their baselines. Only the first is explained,
    so the gradients of the second do not matter. What is made of operations with slopes has them by
    the chain rule.
    """

    def run(self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, with another slope where DeepLIFT has one."""
        if name == "scaled_dot_product_attention":
            with self:
                return attend(lambda weights: weights, *args, **kwargs)
        if name in COMPOSED:
            with self:
                return run_body(function, *args, **kwargs)
        if not self.takes_batch(args):
            return self._run_on_constant(function, name, args, kwargs)
        if name in ELEMENTWISE and not self.takes_batch(args[1:]):
            return _rescale_activation(function, *args, **kwargs)
        if name in PRODUCTS and len(args) == 2 and self.takes_batch(args, 2):
            return _rescale_product(function, *args)
        if name in MATRIX_PRODUCTS and len(args) == 2 and self.takes_batch(args, 2):
            mean_a, mean_b = (_average_halves(factor) for factor in args)
            value = function(*args, **kwargs)
            return override_gradient(value, function(args[0], mean_b) + function(mean_a, args[1]))
        if name in QUOTIENTS and len(args) == 2 and self.takes_batch(args, 2) and not kwargs:
            with self:
                quotient = args[0] * args[1].reciprocal()
            return args[0].copy_(quotient) if is_in_place(function) else quotient
        if name in _POOLS:
            return _rescale_max_pool(_POOLS[name], name, args[:6], kwargs)
        if name in _ADAPTIVE_POOLS:
            return _rescale_max_pool(_ADAPTIVE_POOLS[name], name, args[:2], kwargs)
        if name in ("amax", "max", "maximum"):
            return self._maximum(function, name, args, kwargs)
        if name in _COMPOSITIONS:
            with self:
                return _COMPOSITIONS[name](*args, **kwargs)
        return function(*args, **kwargs)

    def _run_on_constant(
        self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run an operation whose first argument is a constant."""
        if name in QUOTIENTS and len(args) == 2 and self.takes_batch(args[1:]) and not kwargs:
            with self:
                return args[0] * args[1].reciprocal()
        if name == "einsum" and len(args) == 3 and self.takes_batch(args[1:], 2):
            return _bilinear(args[0], args[1], args[2])
        return function(*args, **kwargs)

    def _maximum(
        self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Give the maximum over axes, or of two tensors, the slopes of a pooling."""
        x, axis = args[0], kwargs.get("dim", args[1] if len(args) > 1 else None)
        other = kwargs.get("other", axis)
        if isinstance(other, Tensor):
            value = function(*args, **kwargs)
            both = torch.stack([part.expand(value.shape) for part in (x, other)], -1)
            return _rescale_maximum(both, value)
        axes = [axis] if isinstance(axis, int) else list(axis or ())
        axes = [entry % x.ndim for entry in axes]
        if not axes or 0 in axes:
            return function(*args, **kwargs)
        result = function(*args, **kwargs)
        rest = [entry for entry in range(x.ndim) if entry not in axes]
        rows = x.permute(*rest, *axes).flatten(len(rest))
        value = result if isinstance(result, Tensor) else result[0]
        sloped = _rescale_maximum(rows, rows.detach().amax(-1)).reshape(value.shape)
        return sloped if isinstance(result, Tensor) else type(result)((sloped, result[1]))


def _softmax(
    x: Tensor, dim: int | None = None, *_others: Any, dtype: Any = None, **_named: Any
) -> Tensor:
    """Compute a softmax in steps that have slopes."""
    # As torch chooses where a network does not.
    dim = (0 if x.ndim in (0, 1, 3) else 1) if dim is None else dim
    x = x if dtype is None else x.to(dtype)
    exponentials = _shifted(x, dim).exp()
    return exponentials / exponentials.sum(dim, keepdim=True)


def _log_softmax(x: Tensor, dim: int, *_others: Any, dtype: Any = None, **_named: Any) -> Tensor:
    """Compute its logarithm so."""
    x = _shifted(x if dtype is None else x.to(dtype), dim)
    return x - x.exp().sum(dim, keepdim=True).log()


def _shifted(x: Tensor, dim: int) -> Tensor:
    """Subtract the largest logit of picture and baseline, so that both are shifted alike."""
    highest = x.detach().amax(dim, keepdim=True)
    return x - torch.maximum(highest, _swap_halves(highest))


def _layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Compute a layer norm in steps that have slopes."""
    return _scale(_standardise(x, tuple(range(-len(normalized_shape), 0)), eps), weight, bias)


def _group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Compute a group norm so."""
    shape = [-1] + [1] * (x.ndim - 2)
    normed = _standardise(x.reshape(len(x), num_groups, -1), (-1,), eps).reshape(x.shape)
    weight, bias = (part if part is None else part.reshape(shape) for part in (weight, bias))
    return _scale(normed, weight, bias)


def _standardise(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()


def _scale(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


_COMPOSITIONS: Mapping[str, Callable[..., Tensor]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
}


def _rescale_activation(
    function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Compute f(x) with the slope Δf / Δx, unless Δx is rounding."""
    before = x.clone()
    changes = is_in_place(function, args, kwargs)
    value = function(before.clone() if changes else before, *args, **kwargs)
    with torch.no_grad():
        change = before - _swap_halves(before)
        size = before.abs() + _swap_halves(before).abs()
        near = change.abs() <= 4 * torch.finfo(x.dtype).eps * size
        slope = (value - _swap_halves(value)) / change.masked_fill(near, 1)
    result = override_gradient(value, torch.where(near, value, before * slope))
    return x.copy_(result) if changes else result


def _rescale_product(function: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Multiply, with the factors' means over picture and baseline as slopes."""
    first, second = a.clone(), b.clone()
    sloped = first * _average_halves(second) + _average_halves(first) * second
    product = override_gradient(first * second, sloped)
    return a.copy_(product) if is_in_place(function) else product


def _rescale_max_pool(
    function: Callable[..., tuple[Tensor, Tensor]],
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Tensor | tuple[Tensor, Tensor]:
    """Pool maxima, with the slopes of their places in each window."""
    x = args[0]
    value, indices = function(*args, **{**kwargs, "return_indices": True})
    flat, here = x.flatten(2), indices.flatten(2)
    shares, there = _maximum_shares(flat, value.flatten(2), here)
    spread = flat.gather(2, here) * shares[0] + flat.gather(2, there) * shares[1]
    result = override_gradient(value, spread.view_as(value))
    return (result, indices) if name.endswith("with_indices") else result


def _rescale_maximum(x: Tensor, value: Tensor) -> Tensor:
    """Return the maximum (…) over the last axis, with the slopes of its places."""
    here = x.detach().argmax(-1, keepdim=True)
    shares, there = _maximum_shares(x, value[..., None], here)
    spread = x.gather(-1, here) * shares[0] + x.gather(-1, there) * shares[1]
    return override_gradient(value, spread[..., 0])


@torch.no_grad()
def _maximum_shares(x: Tensor, value: Tensor, here: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Attribute the larger one's excess to its position.

    With o and o' the maxima of picture and baseline and M the larger of both, M - o' goes to the
    position of o and o - M to that of o'. Neither is more than the position's own Δ.

    Args:
        x: Values with positions on the last axis.
        value: Maxima over it.
        here: Their positions.

    Returns:
        The slopes at both positions, and the baselines' positions.
    """
    change = x - _swap_halves(x)
    largest = torch.maximum(value, _swap_halves(value))
    there = _swap_halves(here)
    shares = []
    for part, at in ((largest - _swap_halves(value), here), (value - largest, there)):
        step = change.gather(-1, at)
        shares.append(part / torch.where(step == 0, 1, step))
    return (shares[0], shares[1]), there


def _bilinear(equation: str, a: Tensor, b: Tensor) -> Tensor:
    """Sum products by Einstein's notation, with the factors' means as slopes."""
    mean_a, mean_b = _average_halves(a), _average_halves(b)
    sloped = torch.einsum(equation, a, mean_b) + torch.einsum(equation, mean_a, b)
    return override_gradient(torch.einsum(equation, a.detach(), b.detach()), sloped)


@torch.no_grad()
def _average_halves(x: Tensor) -> Tensor:
    """Return the mean of picture and baseline for both."""
    return (x + _swap_halves(x)) / 2


def _swap_halves(x: Tensor) -> Tensor:
    """Swap pictures and baselines."""
    return x.roll(len(x) // 2, 0)
