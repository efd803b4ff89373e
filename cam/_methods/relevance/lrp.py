"""Layer-wise relevance propagation."""

from collections.abc import Mapping
from typing import Any

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.method_registry import register_method
from cam._methods.relevance.linear_rules import FIRST_LAYER_RULES, LAYER_RULES, Constants
from cam._methods.relevance.operation_rules import RelevanceRules
from cam._methods.relevance.relevance_pass import BIASES, share_score
from cam.parameters import number, one_of, optional
from cam.types import Maps

# Composite → rule of convolutions, of matrices, and of the first layer.
COMPOSITES: Mapping[str, tuple[str, str, str | None]] = {
    "epsilon": ("epsilon", "epsilon", None),
    "epsilon_plus": ("z_plus", "epsilon", None),
    "epsilon_plus_flat": ("z_plus", "epsilon", "flat"),
    "epsilon_alpha2_beta1": ("alpha_beta", "epsilon", None),
    "epsilon_alpha2_beta1_flat": ("alpha_beta", "epsilon", "flat"),
    "epsilon_gamma_box": ("gamma", "epsilon", "box"),
    "excitation_backprop": ("z_plus", "z_plus", None),
}



def _disagreement(
    low: float, high: float, alpha: float, beta: float, **_others: Any
) -> str | None:
    if low >= high:
        return f"low must be below its high, but they are {low!r} and {high!r}"
    if abs(alpha - beta - 1) > 1e-9:
        return f"alpha must be its beta plus 1, but they are {alpha!r} and {beta!r}"
    return None


@register_method(
    "lrp",
    rules={
        "composite": one_of(COMPOSITES),
        "convolution": optional(one_of(LAYER_RULES)),
        "linear": optional(one_of(LAYER_RULES)),
        "first": optional(one_of(FIRST_LAYER_RULES)),
        "bias": one_of(BIASES),
        "epsilon": number(0),
        "gamma": number(0),
        "alpha": number(1),
        "beta": number(0),
        "low": number(),
        "high": number(),
    },
    agreement=_disagreement,
    title="Layer-wise relevance propagation",
    family="gradient",
    kind="contribution",
    full=True,
    reads=Pixels,
    cost="2 forwards, and a backward with up to 6 passes through each layer",
)
def lrp(
    _pixels: Pixels,
    passes: Passes,
    *,
    composite: str = "epsilon_plus",
    convolution: str | None = None,
    linear: str | None = None,
    first: str | None = None,
    bias: str = "share",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    alpha: float = 2.0,
    beta: float = 1.0,
    low: float = -3.0,
    high: float = 3.0,
) -> Maps:
    """How the score is shared out. TODO

    References:
        Bach
    """
    rules = [
        asked_for or usual
        for asked_for, usual in zip((convolution, linear, first), COMPOSITES[composite], strict=True)
    ]
    constants = Constants(epsilon, gamma, alpha, beta, low, high, share=bias == "share")
    return share_score(
        passes, RelevanceRules(rules[0], rules[1], rules[2], constants), "; TODO"
    )
