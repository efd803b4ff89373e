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
    volumes=True,
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
    """How a transformer's score is shared out among the pixels, through its attention as well.

    Layer-wise relevance propagation by rules made for attention. With R the relevance that arrives:
    softmax s of x hands on x ⊙ (R - s Σ R); each product of two matrices of the network, q kᵀ and
    attention times values, gives half to either factor; the deviation in a layer norm only scales;
    activations pass on what they get; sums of branches share in proportion; patch embedding and
    matrices have the γ-rule. With R the relevance of the pixels, (B, C, H, W): map = Σ_c R_c, which
    adds up to the score. Where it does not by more than 5 %, the attribution's notes say so. The
    other map shows |Σ_c R_c|, min-max normalised for each image.

    In the paper biases, position embeddings, class tokens and what a softmax returns for equal
    logits keep their relevance, which can be most of the score: that is ``bias="absorb"``. By
    default it goes to what they are added to: a bias's to the inputs in proportion to the size of
    their contributions, an embedding's to its token, a class token's to all patches.

    Args:
        passes: Where the images go once more.
        attention: ``taylor``, or ``constant``: attention only weighs, and all relevance goes to
            the values (CP-LRP), which the authors' code does for vision transformers.
        bias: ``share`` or ``absorb``.
        convolution_gamma: γ of convolutions; 0: the ε-rule.
        linear_gamma: γ of matrices; 0: the ε-rule, as in the paper's language models.
        epsilon: Added to each denominator, with its sign.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Achtibat et al., AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers,
        ICML 2024, propositions 3.1 to 3.4 and equations 8 and 9; of constant
        attention, Ali et al., XAI for Transformers: Better Explanations through Conservative
        Propagation, ICML 2022
    """
    share = bias == "share"
    rules = RelevanceRules(
        convolution="gamma",
        linear="gamma",
        constants=Constants(epsilon, convolution_gamma, share=share),
        linear_constants=Constants(epsilon, linear_gamma, share=share),
        softmax=attention,
    )
    return share_score(passes, rules)
