"""Layer-wise relevance propagation, by the rules of zennit.

Zennit's hooks are on modules. Operations between them have rules here: sums and products of
branches, means and activations that are functions. Batch norms are merged into the convolutions
that they follow in the network's run, which is not always the order in which it lists them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cam._engine.evaluation_mode import attach
from cam._engine.forward import run_model
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.gradient_override import (
    ACTIVATIONS,
    PRODUCTS,
    SUMS,
    GradientOverrides,
    is_in_place,
    override_gradient,
)
from cam._methods.base.maps import reduce_gradient
from cam._methods.base.method_registry import register_method
from cam.parameters import number, one_of
from cam.types import Maps

if TYPE_CHECKING:
    from zennit.core import Composite

COMPOSITES = (
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "excitation_backprop",
)
_MEANS = frozenset(("mean", "avg_pool2d", "adaptive_avg_pool2d"))
_STABILIZER = 1e-6


@register_method(
    "lrp",
    rules={"composite": one_of(COMPOSITES), "low": number(), "high": number()},
    agreement=lambda low, high, **_: (
        f"low must be below its high, but they are {low!r} and {high!r}" if low >= high else None
    ),
    title="Layer-wise relevance propagation",
    family="gradient",
    kind="contribution",
    full=True,
    reads=Pixels,
    cost="3 forwards, and a backward with up to 4 passes through each layer",
)
def lrp(
    pixels: Pixels,
    passes: Passes,
    *,
    composite: str = "epsilon_plus",
    low: float = -3.0,
    high: float = 3.0,
) -> Maps:
    """How the score is shared out, layer by layer, among what brought it about, down to pixels.

    Each layer hands its relevance on to its inputs in proportion to what they contribute; how that
    is counted is the rule, and a composite says which kind of layer has which. The relevance of the
    output is what each logit contributes to the score, so for a class its logit. With R the
    relevance of the pixels, (B, C, H, W): map = Σ_c R_c. The other map shows |Σ_c R_c|, min-max
    normalised for each image.

    A sum of branches shares its relevance in proportion, as does a mean; of a product the larger
    tensor, which is gated, takes all. Layer norm and attention have no rule and send their gradient
    back, so maps of transformers are no more than a hint. A batch norm that follows no convolution
    passes its relevance on.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the pictures go once more.
        composite: ``epsilon_plus`` (only positive contributions in convolutions),
            ``epsilon_alpha2_beta1`` (positive ones twice, less negative ones), both with ``_flat``
            (the first layer spreads evenly), ``epsilon_gamma_box`` (positive ones favoured, the
            first layer knows the pixels' range) or ``excitation_backprop``.
        low: Lowest value of a pixel after normalisation; for ``epsilon_gamma_box``.
        high: Highest value of a pixel after normalisation; for ``epsilon_gamma_box``.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
        Relevance Propagation, PLOS ONE 2015; composites of zennit 0.5 (Anders et al., Software for
        Dataset-wide XAI, 2021)
    """
    inputs, network = pixels.inputs, passes.module
    passes.expect(len(inputs))
    with _disable_in_place(network):
        pairs = _find_batch_norms(network, inputs[:1])
        passes.forwards += 1
        rules = _make_composite(composite, inputs, low, high, pairs)
        with rules.context(network), passes.through(_Relevance(network)):
            _, relevance = passes.gradients(inputs)
    return reduce_gradient(relevance)


def _make_composite(
    name: str, inputs: Tensor, low: float, high: float, pairs: list[tuple[tuple[str], str]]
) -> "Composite":
    # Imported here, because it takes as long as torch itself.
    from zennit.canonizers import NamedMergeBatchNorm
    from zennit.composites import COMPOSITES as composites

    options: dict[str, Any] = {"canonizers": [NamedMergeBatchNorm(pairs)]}
    if name == "epsilon_gamma_box":
        shape = (1, *inputs.shape[1:])
        options |= {"low": inputs.new_full(shape, low), "high": inputs.new_full(shape, high)}
    return composites[name](**options)


@contextmanager
def _disable_in_place(network: nn.Module) -> Iterator[None]:
    """Let in-place activations allocate their outputs, as zennit's hooks need their inputs."""
    changed = [module for module in network.modules() if getattr(module, "inplace", None) is True]
    try:
        for module in changed:
            module.inplace = False  # type: ignore[assignment]
        yield
    finally:
        for module in changed:
            module.inplace = True  # type: ignore[assignment]


def _find_batch_norms(network: nn.Module, picture: Tensor) -> list[tuple[tuple[str], str]]:
    """Pair convolutions and linear layers with their output's batch norm.

    Layers that run several times are left out, as merging would count for each run.
    """
    from zennit.types import BatchNorm, Linear

    made: dict[int, tuple[str, Tensor]] = {}
    runs: dict[str, int] = {}
    pairs: dict[str, str] = {}
    names = {module: name for name, module in network.named_modules()}

    def keep(module: nn.Module, _inputs: object, output: object) -> None:
        name = names[module]
        runs[name] = runs.get(name, 0) + 1
        if isinstance(output, Tensor):
            made[id(output)] = (name, output)  # kept, so that no other gets its id

    def find(module: nn.Module, inputs: tuple[object, ...]) -> None:
        name = names[module]
        runs[name] = runs.get(name, 0) + 1
        if inputs and id(inputs[0]) in made:
            pairs[name] = made[id(inputs[0])][0]

    hooks = []
    for module in names:
        if isinstance(module, Linear):
            hooks.append(module.register_forward_hook(keep))
        elif isinstance(module, BatchNorm) and module.affine and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(find))
    with attach(hooks), torch.no_grad():
        run_model(network, picture.clone())
    taken = list(pairs.values())
    return [
        ((linear,), norm)
        for norm, linear in pairs.items()
        if runs[norm] == runs[linear] == taken.count(linear) == 1
    ]


class _Relevance(nn.Module):
    """A network whose gradient by the pixels is their relevance, under zennit's hooks."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits whose contributions to a score are their relevance."""
        with _FunctionRules(len(pixels)):
            output = run_model(self.network, pixels)
        return override_gradient(output, output * output.detach())


class _FunctionRules(GradientOverrides):
    """Gives operations outside of modules their rules."""

    def run(self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, with a rule where LRP has one."""
        pair = len(args) == 2 and self.takes_batch(args, 2)
        if name in SUMS and pair and not kwargs:
            first, second = args[0].clone(), args[1].clone()
            value = first + second
            share = 1 / _stabilise(value.detach())
            sloped = first * first.detach() * share + second * second.detach() * share
        elif name in PRODUCTS and pair:
            first, second = args[0].clone(), args[1].clone()
            value = first * second
            parts = [factor for factor in (first, second) if factor.shape == value.shape]
            if not parts:
                return function(*args, **kwargs)
            sloped = torch.stack(parts).mean(0)
        elif name in ACTIVATIONS and self.takes_batch(args):
            sloped = args[0].clone()
            value = function(sloped.clone(), *args[1:], **kwargs)
        elif name in _MEANS and self.takes_batch(args):
            before = args[0].clone()
            value = function(before, *args[1:], **kwargs)
            products = function(before * before.detach(), *args[1:], **kwargs)
            sloped = products / _stabilise(value.detach())
        else:
            return function(*args, **kwargs)
        result = override_gradient(value, sloped)
        flags = (args[1:], kwargs) if name in ACTIVATIONS else ()
        return args[0].copy_(result) if is_in_place(function, *flags) else result


def _stabilise(value: Tensor) -> Tensor:
    """Move values away from 0 by zennit's stabilizer, to divide by them."""
    return value + torch.where(value < 0, -_STABILIZER, _STABILIZER)
