"""Rules by which linear layers share their relevance among their inputs.

A layer computes z_j = Σ_i x_i W_ij + b_j. A rule says how much of z_j is due to each x_i, and input
i gets R_i = Σ_j c_ij / (Σ_k c_kj + ε) R_j. What goes backwards here is not R but R divided by the
activation, so that relevance is activation times gradient, and each operation that is linear
without a constant shares its relevance rightly by its ordinary gradient.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

LAYER_RULES = ("epsilon", "gamma", "z_plus", "alpha_beta")
FIRST_LAYER_RULES = (*LAYER_RULES, "flat", "w_square", "box")
# Below the smallest difference of two pixels, and far from where a quotient overflows.
_TINY = 1e-12


@dataclass(frozen=True)
class Constants:
    """The numbers in the rules, and what becomes of biases.

    Attributes:
        epsilon: Added to each denominator, with its sign.
        gamma: How much contributions of the output's sign are favoured.
        alpha: Share of the positive contributions.
        beta: Share of the negative ones, which is subtracted; alpha - beta is 1.
        low: Lowest value of a pixel.
        high: Highest value of a pixel.
        share: Whether inputs take the relevance of a layer's biases too, in proportion to the size
            of their contributions; else it stays with the biases.
    """

    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    beta: float = 1.0
    low: float = -3.0
    high: float = 3.0
    share: bool = True


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """A call of a convolution or of a matrix.

    Attributes:
        function: Such as ``torch.conv2d``, called with input, weight and bias.
        weight: Its weights.
        bias: (outputs,), or None.
        options: What else it is called with, such as its stride.
        named: Those of them that have their names.
    """

    function: Callable[..., Tensor]
    weight: Tensor
    bias: Tensor | None
    options: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute W x without the bias, with other weights of the same shape if any are passed."""
        weight = self.weight if weight is None else weight
        return self.function(x, weight, None, *self.options, **self.named)

    def positive(self, x: Tensor) -> Tensor:
        """Sum the contributions above 0."""
        return self(x.clamp(min=0), self.weight.clamp(min=0)) + self(
            x.clamp(max=0), self.weight.clamp(max=0)
        )

    def negative(self, x: Tensor) -> Tensor:
        """Sum the contributions below 0."""
        return self(x.clamp(min=0), self.weight.clamp(max=0)) + self(
            x.clamp(max=0), self.weight.clamp(min=0)
        )

    @property
    def broadcast_bias(self) -> Tensor | None:
        """The bias in a shape that fits the output."""
        if self.bias is None:
            return None
        return self.bias.reshape(-1, *[1] * (self.weight.ndim - 2))

    @property
    def outputs_first(self) -> bool:
        """Whether outputs are the weights' first axis, as they are not if it is transposed."""
        return "transpose" not in self.function.__name__

    def merge(self, scale: Tensor, shift: Tensor) -> "LinearLayer":
        """Make the layer that returns scale · output + shift, both (outputs,)."""
        weight = self.weight * scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        bias = shift if self.bias is None else self.bias * scale + shift
        return LinearLayer(self.function, weight, bias, self.options, self.named)


def apply_rule(
    rule: str, constants: Constants, layer: LinearLayer, x: Tensor, value: Tensor
) -> Tensor:
    """Return a layer's output, whose relevance goes back by a rule.

    Args:
        rule: One of :data:`FIRST_LAYER_RULES`.
        constants: The numbers in it.
        layer: The layer.
        x: Its input, in the graph.
        value: Its output for that, bias included.
    """

    def pull(x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return _RULES[rule](constants, layer, leaf, value, value * gradient)

    return _Propagation.apply(x, value.detach(), pull)  # type: ignore[no-any-return]


class _Propagation(torch.autograd.Function):
    """Returns a value, and computes what goes back only when something comes."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, value: Tensor, pull: Callable[[Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor:
        context.save_for_backward(x, value)
        context.pull = pull
        # A copy, which the network may change in place.
        return value.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return context.pull(*context.saved_tensors, gradients[0]), None, None


def _epsilon(
    constants: Constants, layer: LinearLayer, x: Tensor, value: Tensor, relevance: Tensor
) -> Tensor:
    """c_ij = x_i W_ij."""
    parts, bias = layer(x), layer.broadcast_bias
    spread: Tensor | float = 0.0
    if constants.share and bias is not None:
        sizes = layer(x.abs(), layer.weight.abs())
        parts, spread = _with_bias(layer, parts, bias, sizes, x, relevance)
    return _gradient(parts, x, relevance / stabilise(value, constants.epsilon)) + spread


def _gamma(
    constants: Constants, layer: LinearLayer, x: Tensor, value: Tensor, relevance: Tensor
) -> Tensor:
    """c_ij = x_i W_ij, and γ times it once more where it has the sign of z_j."""
    if constants.gamma == 0:
        return _epsilon(constants, layer, x, value, relevance)
    outputs, positive = layer(x), layer.positive(x)
    negative = outputs - positive
    is_above, bias = value > 0, layer.broadcast_bias
    spread: Tensor | float = 0.0
    parts = outputs + constants.gamma * torch.where(is_above, positive, negative)
    total = parts.detach()
    if bias is not None:
        same_sign = torch.where(is_above, bias.clamp(min=0), bias.clamp(max=0))
        bias = bias + constants.gamma * same_sign
        total = total + bias
        if constants.share:
            sizes = positive - negative
            parts, spread = _with_bias(layer, parts, bias, sizes, x, relevance)
    return _gradient(parts, x, relevance / stabilise(total, constants.epsilon)) + spread


def _z_plus(
    constants: Constants, layer: LinearLayer, x: Tensor, value: Tensor, relevance: Tensor
) -> Tensor:
    """c_ij = max(x_i W_ij, 0)."""
    return _split(constants, layer, x, relevance, alpha=1, beta=0)


def _alpha_beta(
    constants: Constants, layer: LinearLayer, x: Tensor, value: Tensor, relevance: Tensor
) -> Tensor:
    """α times what is due to positive contributions, minus β times what is to negative ones."""
    return _split(constants, layer, x, relevance, constants.alpha, constants.beta)


def _split(
    constants: Constants,
    layer: LinearLayer,
    x: Tensor,
    relevance: Tensor,
    alpha: float,
    beta: float,
) -> Tensor:
    """Share α R among positive contributions, and -β R among negative ones."""
    above, bias = layer.positive(x), layer.broadcast_bias
    totals = above.detach()
    spread: Tensor | float = 0.0
    # Contributions of one sign do not cancel out, so that only a bias makes an ε of use.
    epsilon = 0.0 if constants.share else constants.epsilon
    shares = torch.full_like(totals, alpha), torch.full_like(totals, beta)
    no_above = totals == 0
    below = layer.negative(x) if beta or (constants.share and bool(no_above.any())) else None
    if not constants.share:
        totals = totals if bias is None else totals + bias.clamp(min=0)
    elif below is not None:
        # Where all contributions have the same sign, they take all.
        no_below = below.detach() == 0
        shares[0][no_below], shares[1][no_below] = 1, 0
        shares[0][no_above], shares[1][no_above] = 0, -1
        spread = _spread(layer, x, torch.where(no_above & no_below, relevance, 0))
    result = _gradient(above, x, shares[0] * relevance / stabilise(totals, epsilon))
    if below is None:
        return result
    totals = below.detach()
    if bias is not None and not constants.share:
        totals = totals + bias.clamp(max=0)
    return result - _gradient(below, x, shares[1] * relevance / stabilise(totals, epsilon)) + spread


def _flat(
    constants: Constants, layer: LinearLayer, x: Tensor, value: Tensor, relevance: Tensor
) -> Tensor:
    """c_ij = 1."""
    return _regardless(constants, layer, x, relevance, torch.ones_like(layer.weight))


def _w_square(
    constants: Constants, layer: LinearLayer, x: Tensor, value: Tensor, relevance: Tensor
) -> Tensor:
    """c_ij = W_ij²."""
    return _regardless(constants, layer, x, relevance, layer.weight.square())


def _regardless(
    constants: Constants, layer: LinearLayer, x: Tensor, relevance: Tensor, weight: Tensor
) -> Tensor:
    """Share relevance whatever the inputs are."""
    even = torch.ones_like(x, requires_grad=True)
    parts = layer(even, weight)
    arriving = _gradient(parts, even, relevance / stabilise(parts.detach(), constants.epsilon))
    return arriving / nonzero(x.detach())


def _spread(layer: LinearLayer, x: Tensor, relevance: Tensor) -> Tensor | float:
    """Share evenly what comes from a bias alone, as all inputs are 0."""
    if not bool(relevance.any()):
        return 0.0
    return _regardless(Constants(epsilon=0.0), layer, x, relevance, torch.ones_like(layer.weight))


def _box(
    constants: Constants, layer: LinearLayer, x: Tensor, value: Tensor, relevance: Tensor
) -> Tensor:
    """c_ij = x_i W_ij - low max(W_ij, 0) - high min(W_ij, 0)."""
    low = torch.full_like(x, constants.low, requires_grad=True)
    high = torch.full_like(x, constants.high, requires_grad=True)
    above, below = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    parts = layer(x) - layer(low, above) - layer(high, below)
    quotient = relevance / stabilise(parts.detach(), constants.epsilon)
    slopes = torch.autograd.grad(parts, (x, low, high), quotient)
    pixels = x.detach()
    arriving = pixels * slopes[0] + constants.low * slopes[1] + constants.high * slopes[2]
    return arriving / nonzero(pixels)


_RULES: Mapping[str, Callable[[Constants, LinearLayer, Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": _epsilon,
    "gamma": _gamma,
    "z_plus": _z_plus,
    "alpha_beta": _alpha_beta,
    "flat": _flat,
    "w_square": _w_square,
    "box": _box,
}


def _with_bias(
    layer: LinearLayer, parts: Tensor, bias: Tensor, sizes: Tensor, x: Tensor, relevance: Tensor
) -> tuple[Tensor, Tensor | float]:
    """Attribute a bias to inputs in proportion to |x_i W_ij|, and evenly where all are 0."""
    spread = _spread(layer, x, torch.where(sizes.detach() == 0, relevance, 0))
    return parts + bias * unit(sizes), spread


def _gradient(parts: Tensor, x: Tensor, quotient: Tensor) -> Tensor:
    return torch.autograd.grad(parts, x, quotient)[0]


def unit(amount: Tensor) -> Tensor:
    """Return 1 where there is an amount, as the sum of what its parts are of it."""
    return amount / torch.where(amount == 0, 1, amount).detach()


def stabilise(value: Tensor, epsilon: float) -> Tensor:
    """Move values away from 0 by ε, to divide by them; what is 0 without an ε has no parts."""
    moved = value + torch.where(value < 0, -epsilon, epsilon)
    return torch.where(moved == 0, 1, moved)


def nonzero(value: Tensor) -> Tensor:
    """Replace what is almost 0, to divide by it and to multiply with it again."""
    return torch.where(value.abs() < _TINY, _TINY, value)
