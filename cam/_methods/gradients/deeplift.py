"""DeepLIFT and DeepSHAP: slopes between two pictures instead of gradients.

Written here and not taken from captum, which hooks modules only: it misses functions, ReLU6, SiLU
and GELU, refuses a module that is used twice, and is wrong where the windows of a max pooling
overlap, or where an activation and a pooling follow each other at once. Here the operations
themselves are overridden, in whichever form the network calls them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cam._engine.forward import run_model
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.background import (
    REFERENCES,
    check_references,
    take_background,
    tell_stand_ins,
)
from cam._methods.base.gradient_override import (
    ACTIVATIONS,
    PRODUCTS,
    GradientOverrides,
    is_in_place,
    override_gradient,
)
from cam._methods.base.maps import promote, reduce_gradient
from cam._methods.base.method_registry import register_method
from cam._methods.gradients.integrated_gradients import check_completeness, check_sums
from cam.parameters import number
from cam.types import Maps

_POOLS = frozenset(("max_pool2d", "_max_pool2d"))


@register_method(
    "deeplift",
    rules={"baseline": number()},
    title="DeepLIFT",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    cost="2 forwards, and a forward and a backward of twice the pictures",
)
def deeplift(pixels: Pixels, passes: Passes, *, baseline: float = 0.0) -> Maps:
    """How much each pixel adds to the score compared with a blank picture, in one backward pass.

    With x' the blank picture and Δ what is different between the two: a = (x - x') ⊙ m, where m is
    the gradient of the score in which the slope of each activation f is Δf / Δ of its input;
    map = Σ_c a_c. A product of two parts of the network shares its Δ evenly, and a max pooling
    gives it to the places of the two maxima. The raw map adds up to y(x) - y(x') as far as the
    network is made of these and of linear operations; layer norm and attention keep their ordinary
    gradient, and the attribution's notes say where more than 1 % is missed. The other map shows
    |Σ_c a_c|, min-max normalised for each image.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the pictures and blank ones go together.
        baseline: What every pixel of the blank picture shows, after normalisation.

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
    with passes.through(_Pairs(passes.module)):
        _, multipliers = passes.gradients(pairs)
    maps = reduce_gradient(multipliers[:, 0], inputs - baseline)
    blank = torch.full_like(inputs, baseline)
    return check_completeness(passes, maps, blank, "a blank picture", advice="")


@register_method(
    "deepshap",
    rules={"references": REFERENCES},
    title="DeepSHAP",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    cost="1 forward, and for each reference a forward and a backward of twice the pictures, and "
    "a forward",
)
def deepshap(pixels: Pixels, passes: Passes, *, references: Tensor | None = None) -> Maps:
    """How much each pixel adds to the score compared with other pictures, by DeepLIFT's slopes.

    map = mean over the references x' of Σ_c ((x - x') ⊙ m)_c with m the slopes of ``deeplift``
    between x and x'. Where the network were linear in between, these would be the pixels' Shapley
    values. The raw map adds up to y(x) less the mean of y(x') as far as ``deeplift`` does, and the
    attribution's notes say where more than 1 % is missed. The other map shows the absolute values,
    min-max normalised for each image.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the pictures and references go together.
        references: (R, C, H, W) pictures as the model takes them, on its device; None: the bundled
            photos stand in, in the colours of the picture, and the notes say so.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: References that do not fit the pictures.

    References:
        Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017,
        section 4.2; over a background as DeepExplainer of the authors' shap
    """
    inputs = pixels.inputs
    check_references(references, inputs, passes.method)
    backgrounds = [take_background(references, picture) for picture in promote(inputs)]
    passes.expect(2 * sum(map(len, backgrounds)))
    raws, means = [], []
    for image, (picture, others) in enumerate(zip(promote(inputs), backgrounds, strict=True)):
        pairs = torch.stack([picture.expand_as(others), others], 1).to(inputs.dtype)
        total = torch.zeros_like(picture[0])
        for part in passes.chunks(len(others)):
            with passes.through(_Pairs(passes.module)):
                _, multipliers = passes.gradients(pairs[part], image)
            total += ((picture - others[part]) * multipliers[:, 0]).sum((0, 1))
        raws.append(total / len(others))
        means.append(passes.scores(others.to(inputs.dtype), image).double().mean())
    maps = reduce_gradient(torch.stack(raws)[:, None])
    expected = pixels.scores.double() - torch.stack(means)
    maps = check_sums(maps, expected, "the references' mean", advice="")
    return tell_stand_ins(maps, references, passes.method)


class _Pairs(nn.Module):
    """A network that runs on pictures and their baselines, and returns the pictures' output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pairs: Tensor) -> Tensor:
        """Return (N, classes) of pictures, from (N, 2, C, H, W), with DeepLIFT's slopes."""
        both = pairs.transpose(0, 1).flatten(0, 1)
        with _RescaleRule(len(both)):
            output = run_model(self.network, both)
        return output[: len(pairs)]


class _RescaleRule(GradientOverrides):
    """Gives operations DeepLIFT's slopes.

    The first half of a batch are pictures, the second their baselines. Only the first is explained,
    so the gradients of the second do not matter.
    """

    def run(self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, with another slope where DeepLIFT has one."""
        if name in ACTIVATIONS and self.takes_batch(args):
            return _rescale_activation(function, *args, **kwargs)
        if name in PRODUCTS and len(args) == 2 and self.takes_batch(args, 2):
            return _rescale_product(function, *args)
        if name in _POOLS and self.takes_batch(args):
            return _rescale_max_pool(*args, **kwargs)
        return function(*args, **kwargs)


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
    with torch.no_grad():
        mean_a = (first + _swap_halves(first)) / 2
        mean_b = (second + _swap_halves(second)) / 2
    product = override_gradient(first * second, first * mean_b + mean_a * second)
    return a.copy_(product) if is_in_place(function) else product


def _rescale_max_pool(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Pool maxima; attribute the larger one's excess to its position.

    With o and o' the two maxima of a window and M the larger of both, M - o' goes to the position
    of o and o - M to that of o'. Neither is more than the position's own Δ.
    """
    value, indices = functional.max_pool2d(
        x, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True
    )
    with torch.no_grad():
        change = (x - _swap_halves(x)).flatten(2)
        largest = torch.maximum(value, _swap_halves(value))
        gains = (largest - _swap_halves(value)).flatten(2)
        losses = (value - largest).flatten(2)
        here, there = indices.flatten(2), _swap_halves(indices).flatten(2)
        shares = []
        for part, at in ((gains, here), (losses, there)):
            step = change.gather(2, at)
            shares.append(part / torch.where(step == 0, 1, step))
    flat = x.flatten(2)
    spread = flat.gather(2, here) * shares[0] + flat.gather(2, there) * shares[1]
    return override_gradient(value, spread.view_as(value))


def _swap_halves(x: Tensor) -> Tensor:
    """Swap pictures and baselines."""
    return x.roll(len(x) // 2, 0)
