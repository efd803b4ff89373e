"""AttnLRP: layer-wise relevance propagation for transformers."""

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.method_registry import register_method
from cam._methods.relevance.linear_rules import Constants
from cam._methods.relevance.operation_rules import RelevanceRules
from cam._methods.relevance.relevance_pass import BIASES, share_score
from cam.parameters import number, one_of
from cam.types import Maps


@register_method(
    "attn_lrp",
    rules={
        "attention": one_of(("taylor", "constant")),
        "bias": one_of(BIASES),
        "convolution_gamma": number(0),
        "linear_gamma": number(0),
        "epsilon": number(0),
    },
    title="AttnLRP",
    family="gradient",
    kind="contribution",
    full=True,
    reads=Pixels,
    cost="2 forwards, and a backward with up to 6 passes through each layer",
)
def attn_lrp(
    _pixels: Pixels,
    passes: Passes,
    *,
    attention: str = "taylor",
    bias: str = "share",
    convolution_gamma: float = 0.25,
    linear_gamma: float = 0.05,
    epsilon: float = 1e-6,
) -> Maps:
    """How a transformer's score is shared out among the pixels, through attention as well. TODO

    References:
        Achtibat
    """
    share = bias == "share"
    rules = RelevanceRules(
        convolution="gamma",
        linear="gamma",
        constants=Constants(epsilon, convolution_gamma, share=share),
        linear_constants=Constants(epsilon, linear_gamma, share=share),
        softmax=attention,
    )
    return share_score(passes, rules, "; TODO")
