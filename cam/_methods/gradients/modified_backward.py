"""Change the backward pass of ReLUs: guided backpropagation and deconvolutional networks.

A ReLU returns max(x, 0) and sends back the gradient g where x > 0. Guided backpropagation sends
max(g, 0) there, the deconvolutional network max(g, 0) everywhere. ReLUs are found in the graph that
the forward pass recorded, not among the modules: so one that is a function, that works in place or
that is used several times is like any other, and the model is not touched. The changes end with
the graph.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from cam._engine.method_sources import LayerGradients, Pixels
from cam._engine.passes import Passes
from cam._methods.base.maps import reduce_gradient
from cam._methods.base.method_registry import register_method
from cam.errors import CamWarning, MethodError
from cam.types import Maps, resize

Rule = Callable[[Tensor, Tensor], Tensor]
"""From the gradient that a ReLU would send back, and that which arrived, to what it sends back."""

# Where a node of the graph keeps the lower limit that makes it a ReLU if it is 0.
_LIMITS = {
    "ReluBackward0": None,
    "HardtanhBackward0": "_saved_min_val",  # ReLU6 among others
    "ThresholdBackward0": "_saved_threshold",
    "ClampMinBackward0": "_saved_min",
    "ClampBackward1": "_saved_min",
}
# Activations that are used in the place of a ReLU, for which the papers have no rule.
_OTHERS = {
    "GeluBackward0": "GELU",
    "SiluBackward0": "SiLU",
    "HardswishBackward0": "Hardswish",
    "EluBackward0": "ELU",
    "CeluBackward0": "CELU",
    "LeakyReluBackward0": "LeakyReLU",
    "PreluKernelBackward0": "PReLU",
    "MishBackward0": "Mish",
    "SoftplusBackward0": "Softplus",
}


def register_relu_rule(name: str, *, title: str) -> Callable[[Rule], Rule]:
    """Register a rule for the backward pass of ReLUs as a method.

    Raises:
        MethodError: When it runs: the network has no ReLU, so its map would be that of saliency.
    """

    def add(rule: Rule) -> Rule:
        def method(_pixels: Pixels, passes: Passes) -> Maps:
            return reduce_gradient(run_backward(passes, rule), reduce="max")

        method.__doc__ = rule.__doc__
        register_method(
            name,
            title=title,
            family="gradient",
            kind="sensitivity",
            reads=Pixels,
            volumes=True,
            cost="2 forwards, and the backward down to the pixels",
        )(method)
        return rule

    return add


@register_relu_rule(
    "guided_backprop",
    title="Guided backpropagation",
)
def guided_backprop(sent: Tensor, _arrived: Tensor) -> Tensor:
    """Crisp edges of what excites the network: a gradient whose ReLUs let only what is positive by.

    Each ReLU of the backward pass sends back max(g, 0) where its input was above 0. With G what
    arrives at the pixels, (B, C, H, W): map = max_c |G_c|, min-max normalised for each image. It
    depends little on the class and on the later layers (Adebayo et al. 2018, "Sanity Checks for
    Saliency Maps").

    ReLUs are functions, modules or in place alike; ReLU6 and a clamp at 0 count too. Other
    activations (GELU, SiLU, …) keep their gradient, which a warning reports.

    References:
        Springenberg et al., Striving for Simplicity: The All Convolutional Net, ICLR Workshop 2015,
        section 3.4
    """
    # The ReLU's own gradient is 0 where its input was not above 0.
    return sent.clamp(min=0)


@register_relu_rule(
    "deconvnet",
    title="Deconvolutional network",
)
def deconvnet(_sent: Tensor, arrived: Tensor) -> Tensor:
    """What would excite the class, projected back through the network with ReLUs on the way.

    Each ReLU of the backward pass sends back max(g, 0), whatever its input was. With G what
    arrives at the pixels, (B, C, H, W): map = max_c |G_c|, min-max normalised for each image. Max
    pooling sends back to the positions of the maxima, as a gradient does.

    ReLUs are found as for guided backpropagation.

    References:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section
        2.1; as a rule for the gradient: Springenberg et al., Striving for Simplicity: The All
        Convolutional Net, ICLR Workshop 2015, section 3.4
    """
    return arrived.clamp(min=0)


@register_method(
    "guided_gradcam",
    title="Guided Grad-CAM",
    family="cam",
    kind="sensitivity",
    reads=LayerGradients,
    volumes=True,
    kernel_rules=("gradcam",),
    cost="2 forwards, and 2 backwards: down to the layer, and down to the pixels",
    percentile=99,
    sums=False,
)
def guided_gradcam(layer: LayerGradients, passes: Passes) -> Maps:
    """The edges of guided backpropagation, where Grad-CAM sees the class.

    With L Grad-CAM's map after ReLU, brought to the image's size by bilinear interpolation, and
    G what guided backpropagation gives, (B, C, H, W): map = L max_c |G_c|, min-max normalised for
    each image.

    Args:
        layer: Its activations and gradients (B, C, h, w), floats of any dtype.
        passes: Where the images go once more.

    Returns:
        Maps (B, H, W) float32, float64 for float64, at the image's size; nothing is negative.

    Raises:
        MethodError: The network has no ReLU.

    References:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization, ICCV 2017, section 3.2
    """
    gradient = run_backward(passes, guided_backprop)
    gradcam = resize(layer.rule_maps["gradcam"].raw.clamp(min=0), gradient.shape[2:])[:, None]
    # In the wider of their types: a product of half-precision numbers soon becomes 0.
    wider = torch.promote_types(gradient.dtype, gradcam.dtype)
    return reduce_gradient(gradient.to(wider) * gradcam, reduce="max")


def run_backward(
    passes: Passes, rule: Rule, check: Callable[[int], object] | None = None
) -> Tensor:
    """Compute the pixels' gradient with another rule at each ReLU.

    Args:
        passes: Where the images go once more.
        rule: Of each ReLU.
        check: Called with the number of ReLUs in each batch's graph.

    Returns:
        (B, C, H, W).

    Raises:
        MethodError: The network has no ReLU.
    """
    others: set[str] = set()

    def change(scores: Tensor) -> None:
        changed = 0
        for node in _nodes(scores):
            if _is_relu(node):
                changed += 1
                node.register_hook(lambda sent, arrived: _apply(rule, sent, arrived))
            elif node.name() in _OTHERS:
                others.add(_OTHERS[node.name()])
        if not changed:
            raise MethodError(
                f"{passes.method} changes what ReLUs send back, but this network has none; its "
                "map would be the plain gradient's, so ask for 'saliency'"
            )
        if check is not None:
            check(changed)

    inputs = passes.pixels.inputs
    passes.expect(len(inputs))
    _, gradient = passes.gradients(inputs, change=change)
    if others:
        warnings.warn(
            f"{passes.method} changes what ReLUs send back; this network also has "
            f"{', '.join(sorted(others))}, which kept the ordinary gradient",
            CamWarning,
            stacklevel=2,
        )
    return gradient


def _apply(rule: Rule, sent: tuple[Any, ...], arrived: tuple[Any, ...]) -> tuple[Any, ...]:
    # Limits of a clamp may be inputs too, after the first.
    if sent[0] is None or arrived[0] is None:
        return sent
    return (rule(sent[0], arrived[0]), *sent[1:])


def _nodes(scores: Tensor) -> Iterator[Node]:
    """Yield every node of the scores' graph once."""
    waiting = [scores.grad_fn]
    reached = {scores.grad_fn}
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        yield node
        for before, _ in node.next_functions:
            if before not in reached:
                reached.add(before)
                waiting.append(before)


def _is_relu(node: Node) -> bool:
    name = node.name()
    if name not in _LIMITS:
        return False
    limit = _LIMITS[name]
    return limit is None or getattr(node, limit) == 0
