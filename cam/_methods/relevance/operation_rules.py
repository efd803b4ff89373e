"""Rules by which operations share their relevance, however a network calls them.

What goes backwards is relevance divided by activation (see ``linear_rules``). Sums, means,
poolings, concatenations and products with a constant therefore need no rule: activation times
gradient is conserved by whatever is linear without a constant. Rules are for the rest.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from cam._engine.attention.explicit_attention import attend
from cam._methods.base.gradient_override import (
    ACTIVATIONS,
    COMPOSED,
    ELEMENTWISE,
    MATRIX_PRODUCTS,
    PRODUCTS,
    QUOTIENTS,
    SUMS,
    GradientOverrides,
    is_in_place,
    override_gradient,
    run_body,
)
from cam._methods.relevance.linear_rules import (
    Constants,
    LinearLayer,
    apply_rule,
    nonzero,
    unit,
)
from cam._methods.relevance.relevance_shares import (
    NormalisedSum,
    by_channel,
    copying,
    depends,
    divide,
    pass_elementwise,
)

_CONVOLUTIONS = frozenset(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3))
_DIFFERENCES = frozenset(("sub", "subtract", "__sub__", "__isub__", "rsub", "__rsub__"))
_CONCATENATIONS = frozenset(("cat", "concat", "concatenate"))


@dataclass(frozen=True)
class RelevanceRules:
    """The rule of each kind of operation.

    Attributes:
        convolution: Of convolutions, one of :data:`LAYER_RULES`.
        linear: Of matrices.
        first: Of the layer that runs first, whichever kind it is; None: that of its kind.
        constants: The numbers in the rules of convolutions and what else has any.
        linear_constants: Those in the rules of matrices; None: the same.
        softmax: ``taylor`` (x ⊙ (R - s Σ R)), ``constant`` (attention only weighs, and all
            relevance goes to the values) or ``pass`` (elementwise).
        norm: ``scale`` (the standard deviation only scales) or ``pass`` (elementwise).
        normalised_sums: Whether of two branches each has a share in proportion to the size of its
            whole relevance.
    """

    convolution: str = "epsilon"
    linear: str = "epsilon"
    first: str | None = None
    constants: Constants = field(default_factory=Constants)
    linear_constants: Constants | None = None
    softmax: str = "taylor"
    norm: str = "scale"
    normalised_sums: bool = False


@dataclass(frozen=True, eq=False)
class _Call:
    """A linear layer's call.

    Attributes:
        layer: The layer.
        inputs: What it was called with.
        first: Whether no other ran before.
        version: Of its output, which a change in place raises.
    """

    layer: LinearLayer
    inputs: Tensor
    first: bool
    version: int


class RelevanceOverrides(GradientOverrides):
    """Gives operations the gradients by which relevance is activation times gradient.

    No parameter may require a gradient while it is on, so that what does is made of the pixels.

    Args:
        batch: The number of pictures.
        rules: The rule of each kind of operation.
        keep: Called with each attention's weights, returns what the network goes on with.
    """

    def __init__(
        self, batch: int, rules: RelevanceRules, keep: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__(batch)
        self._rules = rules
        self._share = rules.constants.share
        self._keep = keep or (lambda weights: weights)
        self._any_layer_ran = False
        # Output of a linear layer → its call, for a batch norm that follows.
        self._calls: MutableMapping[Tensor, _Call] = WeakTensorKeyDictionary()

    def run(self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, by its rule if it has one."""
        rule = _RULES.get(name)
        if rule is None or not args:
            return function(*args, **kwargs)
        changes = is_in_place(function, args[1:] if name in ACTIVATIONS else (), kwargs)
        plain = copying(function) if changes else function
        result = rule(self, plain, args, kwargs)
        if result is None:
            return function(*args, **kwargs)
        return args[0].copy_(result) if changes else result

    def _linear(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        named = dict(named)
        x = args[0]
        weight = args[1] if len(args) > 1 else named.pop("weight", None)
        bias = args[2] if len(args) > 2 else named.pop("bias", None)
        if not depends(x) or not isinstance(weight, Tensor):
            return None
        if depends(weight) or depends(bias):
            return divide(function(*args, **named), 2) if bias is None else None
        layer = LinearLayer(function, weight, bias, args[3:], named)
        with torch.no_grad():
            value = function(x, weight, bias, *args[3:], **named)
        result = self._apply(layer, x, value, first=not self._any_layer_ran)
        self._calls[result] = _Call(layer, x, not self._any_layer_ran, result._version)
        self._any_layer_ran = True
        return result

    def _apply(self, layer: LinearLayer, x: Tensor, value: Tensor, first: bool) -> Tensor:
        rules = self._rules
        matrix = layer.weight.ndim == 2
        rule = rules.linear if matrix else rules.convolution
        constants = rules.linear_constants if matrix else None
        if first and rules.first is not None:
            rule, constants = rules.first, None
        return apply_rule(rule, constants or rules.constants, layer, x, value)

    def _batch_norm(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        arguments = dict(zip(_BATCH_NORM, args, strict=False)) | named
        x = arguments["input"]
        if not depends(x):
            return None
        with torch.no_grad():
            value = function(**arguments)
            mean, variance = arguments.get("running_mean"), arguments.get("running_var")
            if arguments.get("training") or mean is None or variance is None:
                axes = [axis for axis in range(x.ndim) if axis != 1]
                mean, variance = x.mean(axes), x.var(axes, correction=0)
            scale = (variance + arguments.get("eps", 1e-5)).rsqrt()
            if arguments.get("weight") is not None:
                scale = scale * arguments["weight"]
            shift = -mean * scale
            if arguments.get("bias") is not None:
                shift = shift + arguments["bias"]
        call = self._calls.get(x)
        # Not after an activation that changed the layer's output in place.
        if call is not None and x._version == call.version and call.layer.outputs_first:
            # As part of the layer that it follows, whose weights it scales.
            return self._apply(call.layer.merge(scale, shift), call.inputs, value, call.first)
        return self._affine(x, value, scale.reshape(-1, *[1] * (x.ndim - 2)))

    def _affine(self, x: Tensor, value: Tensor, scale: Tensor) -> Tensor:
        """Pass relevance on elementwise, or leave to a shift what is due to it."""
        return pass_elementwise(x, value) if self._share else override_gradient(value, x * scale)

    def _layer_norm(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        arguments = dict(zip(_LAYER_NORM, args, strict=False)) | named
        x = arguments["input"]
        if not depends(x):
            return None
        with torch.no_grad():
            value = function(**arguments)
        axes = tuple(range(-len(arguments["normalized_shape"]), 0))
        weight, bias = arguments.get("weight"), arguments.get("bias")
        return self._normalise(x, x, axes, value, arguments.get("eps", 1e-5), weight, bias)

    def _group_norm(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        arguments = dict(zip(_GROUP_NORM, args, strict=False)) | named
        x, groups = arguments["input"], arguments["num_groups"]
        if not depends(x):
            return None
        with torch.no_grad():
            value = function(**arguments)
        weight, bias = (by_channel(arguments.get(name), x) for name in ("weight", "bias"))
        grouped = x.reshape(len(x), groups, -1)
        return self._normalise(x, grouped, (-1,), value, arguments.get("eps", 1e-5), weight, bias)

    def _instance_norm(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        arguments = dict(zip(_INSTANCE_NORM, args, strict=False)) | named
        x = arguments["input"]
        if not depends(x):
            return None
        if not arguments.get("use_input_stats", True):
            names = ("input", "running_mean", "running_var", "weight", "bias", "eps")
            same = {name: arguments[name] for name in names if name in arguments}
            return self._batch_norm(functional.batch_norm, (), same)
        with torch.no_grad():
            value = function(**arguments)
        weight, bias = (by_channel(arguments.get(name), x) for name in ("weight", "bias"))
        grouped = x.flatten(2)
        return self._normalise(x, grouped, (-1,), value, arguments.get("eps", 1e-5), weight, bias)

    def _rms_norm(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        # It has no constant, so that each element passes on what it gets.
        if not depends(args[0]):
            return None
        with torch.no_grad():
            value = function(*args, **named)
        return pass_elementwise(args[0], value)

    def _normalise(
        self,
        x: Tensor,
        grouped: Tensor,
        axes: tuple[int, ...],
        value: Tensor,
        eps: float,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Override a norm of groups of x: the standard deviation is a constant."""
        if self._rules.norm == "pass":
            return pass_elementwise(x, value)
        deviation = (grouped.detach().var(axes, correction=0, keepdim=True) + eps).sqrt()
        sloped = ((grouped - grouped.mean(axes, keepdim=True)) / deviation).reshape(x.shape)
        if weight is not None:
            sloped = sloped * weight
        if bias is not None and self._share:
            # Element j contains x_j - Σ_k x_k / n, so its bias is due to these in proportion.
            size = grouped.abs()
            count = deviation.new_tensor([grouped.shape[axis] for axis in axes]).prod()
            parts = size * (1 - 2 / count) + size.mean(axes, keepdim=True)
            sloped = sloped + bias * unit(parts).reshape(x.shape)
        return override_gradient(value, sloped)

    def _activation(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        # By its position, an operand that is no tensor may come first.
        x = args[0]
        if not depends(x) or any(depends(other) for other in args[1:]):
            return None
        with torch.no_grad():
            value = function(x.clone(), *args[1:], **named)
        return pass_elementwise(x, value)

    def _glu(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        x, axis = args[0], named.get("dim", args[1] if len(args) > 1 else -1)
        if not depends(x):
            return None
        first, second = x.chunk(2, axis)
        with self:
            return first * second.sigmoid()

    def _product(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if len(args) < 2 or not (depends(args[0]) and depends(args[1])):
            return None
        first, second = args[:2]
        value = first * second
        sizes = [factor.shape == value.shape for factor in (first, second)]
        if sizes[0] == sizes[1]:
            return divide(value, 2)
        # A tensor that is spread over a larger one gates it, and all is due to the larger one.
        return first * second.detach() if sizes[0] else first.detach() * second

    def _quotient(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if len(args) < 2 or not depends(args[1]):
            return None
        first, second = args[:2]
        if depends(first):
            # The denominator only scales.
            return function(first, second.detach(), **named)
        with torch.no_grad():
            value = function(first, second, **named)
        return pass_elementwise(second, value) if second.shape == value.shape else None

    def _matrix_product(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        operands = args[1:] if isinstance(args[0], str) else args
        if len(operands) == 1 and isinstance(operands[0], Sequence):
            operands = tuple(operands[0])
        dependent = sum(depends(operand) for operand in operands)
        return None if dependent < 2 else divide(function(*args, **named), dependent)

    def _softmax(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        x = args[0]
        if not depends(x):
            return None
        weights = function(*args, **named)
        way = self._rules.softmax
        if way == "constant":
            return self._keep(weights.detach())
        if way == "pass":
            return self._keep(pass_elementwise(x, weights.detach()))
        # Its gradient is the rule, s_i (x_i - Σ_k s_k x_k), with a masked logit of -∞ as 0.
        axis = named.get("dim", args[1] if len(args) > 1 else -1)
        if not self._share:
            return self._keep(weights)
        s = weights.detach()
        finite = torch.where(x.isfinite(), x, 0)
        parts = s * (finite - (s * finite).sum(axis, keepdim=True))
        size = finite.abs()
        sizes = size * (1 - 2 * s) + (s * size).sum(axis, keepdim=True)
        sloped = parts + (s - parts).detach() * unit(sizes)
        return self._keep(override_gradient(s, sloped))

    def _attention(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if not any(depends(value) for value in (*args, *named.values())):
            return None
        with self:
            return attend(lambda weights: weights, *args, **named)

    def _composed(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        with self:
            return run_body(function, *args, **named)

    def _sum(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if len(args) < 2 or named:
            return None
        first, second = args[:2]
        if depends(first) and depends(second):
            if not self._rules.normalised_sums or first.shape != second.shape:
                return None
            return NormalisedSum.apply(first, second, self._batch)
        return self._shifted(function, first, second)

    def _difference(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if len(args) < 2 or named or (depends(args[0]) and depends(args[1])):
            return None
        return self._shifted(function, *args[:2])

    def _shifted(self, function: Any, first: Any, second: Any) -> Any:
        """Add a constant, which has no relevance where biases share theirs."""
        x, constant = (first, second) if depends(first) else (second, first)
        if not depends(x) or not self._share:
            return None
        result = function(first, second)
        if not self._any_layer_ran and result.shape == x.shape:
            # Before the first layer it is pixels that are changed, each for itself.
            return pass_elementwise(x, result.detach())
        # Else all channels of a position, as one of them alone may be 0.
        per_map = isinstance(constant, Tensor) and constant.shape[-2:] == (1, 1)
        # Of a volume the planes come between the channels and the rows.
        per_volume = per_map and constant.ndim > 3 and constant.shape[-3] == 1
        channels = -4 if per_volume and x.ndim == 5 else -3
        size = x.abs().mean(channels if per_map and x.ndim > 3 else -1, keepdim=True)
        nothing = torch.zeros_like(x)
        shift = function(nothing, second) if x is first else function(first, nothing)
        shift = torch.where(shift.isfinite(), shift, 0)
        # Where all are 0 each keeps what its sum has.
        alone = x * (nonzero(result) / nonzero(x)).detach()
        return override_gradient(result, torch.where(size == 0, alone, result + shift * unit(size)))

    def _concatenation(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        parts = args[0]
        axis = named.get("dim", named.get("axis", args[1] if len(args) > 1 else 0))
        dependent = [part for part in parts if depends(part)]
        if not self._share or not dependent or len(dependent) == len(parts):
            return None
        # What is added as a constant, as a class token, has its relevance from all of the others.
        axes = {axis % dependent[0].ndim, *([2] if dependent[0].ndim == 3 else [])}
        size = sum(part.abs().sum(tuple(axes), keepdim=True) for part in dependent)
        share = unit(size)
        spread = [part if depends(part) else nonzero(part) * share for part in parts]
        return override_gradient(function(parts, *args[1:], **named), function(spread, axis))


_Rule = Callable[[RelevanceOverrides, Any, tuple[Any, ...], dict[str, Any]], Any]
_GROUPS: tuple[tuple[frozenset[str], _Rule], ...] = (
    (_CONVOLUTIONS | {"linear"}, RelevanceOverrides._linear),
    (frozenset({"batch_norm"}), RelevanceOverrides._batch_norm),
    (frozenset({"layer_norm"}), RelevanceOverrides._layer_norm),
    (frozenset({"group_norm"}), RelevanceOverrides._group_norm),
    (frozenset({"instance_norm"}), RelevanceOverrides._instance_norm),
    (frozenset({"rms_norm"}), RelevanceOverrides._rms_norm),
    (ELEMENTWISE, RelevanceOverrides._activation),
    (frozenset({"glu"}), RelevanceOverrides._glu),
    (PRODUCTS, RelevanceOverrides._product),
    (QUOTIENTS, RelevanceOverrides._quotient),
    (MATRIX_PRODUCTS, RelevanceOverrides._matrix_product),
    (frozenset({"softmax"}), RelevanceOverrides._softmax),
    (frozenset({"scaled_dot_product_attention"}), RelevanceOverrides._attention),
    (COMPOSED, RelevanceOverrides._composed),
    (SUMS, RelevanceOverrides._sum),
    (_DIFFERENCES, RelevanceOverrides._difference),
    (_CONCATENATIONS, RelevanceOverrides._concatenation),
)
_RULES: Mapping[str, _Rule] = {name: rule for names, rule in _GROUPS for name in names}
_BATCH_NORM = (
    *("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
)
_LAYER_NORM = ("input", "normalized_shape", "weight", "bias", "eps")
_GROUP_NORM = ("input", "num_groups", "weight", "bias", "eps")
_INSTANCE_NORM = (
    *("input", "running_mean", "running_var", "weight", "bias", "use_input_stats"),
    *("momentum", "eps"),
)
