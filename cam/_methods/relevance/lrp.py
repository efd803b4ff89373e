"""Layer-wise relevance propagation."""

from collections.abc import Mapping
from typing import Any

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.method_registry import register_method
from cam._methods.relevance.linear_rules import FIRST_LAYER_RULES, LAYER_RULES, Constants
from cam._methods.relevance.operation_rules import RelevanceRules
from cam._methods.relevance.relevance_pass import BIASES, share_score
from cam.parameters import number, one_of
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
_AS_COMPOSITE = "composite"


def _disagreement(low: float, high: float, alpha: float, beta: float, **_others: Any) -> str | None:
    if low >= high:
        return f"low must be below its high, but they are {low!r} and {high!r}"
    if abs(alpha - beta - 1) > 1e-9:
        return f"alpha must be its beta plus 1, but they are {alpha!r} and {beta!r}"
    return None


@register_method(
    "lrp",
    rules={
        "composite": one_of(COMPOSITES),
        "convolution": one_of((_AS_COMPOSITE, *LAYER_RULES)),
        "linear": one_of((_AS_COMPOSITE, *LAYER_RULES)),
        "first": one_of((_AS_COMPOSITE, *FIRST_LAYER_RULES)),
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
    volumes=True,
    cost="2 forwards, and a backward with up to 6 passes through each layer",
)
def lrp(
    _pixels: Pixels,
    passes: Passes,
    *,
    composite: str = "epsilon_plus",
    convolution: str = _AS_COMPOSITE,
    linear: str = _AS_COMPOSITE,
    first: str = _AS_COMPOSITE,
    bias: str = "share",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    alpha: float = 2.0,
    beta: float = 1.0,
    low: float = -3.0,
    high: float = 3.0,
) -> Maps:
    """How the score is shared out, layer by layer, among what brought it about, down to pixels.

    Each layer hands its relevance on to its inputs in proportion to what they contribute; how that
    is counted is the rule, and a composite says which kind of layer has which. The relevance of the
    output is what each logit contributes to the score, so for a class its logit. With R the
    relevance of the pixels, (B, C, H, W): map = Σ_c R_c, which adds up to the score. Where it does
    not by more than 5 %, the attribution's notes say so. The other map shows |Σ_c R_c|, min-max
    normalised for each image.

    With z_ij = x_i W_ij, R_i = Σ_j c_ij / Σ_k c_kj R_j for these c_ij: ``epsilon``: z_ij;
    ``gamma``: z_ij, and γ z_ij more where it has the sign of the output; ``z_plus``: max(z_ij, 0);
    ``alpha_beta``: α times positive contributions, minus β times negative ones, each in their own
    sum; for the first layer also ``flat``: 1; ``w_square``: W_ij²; ``box``: z_ij less what the
    lowest and highest pixels would contribute.

    A bias is no input, and the biases of a deep network, batch norms' above all, would keep nearly
    all of the score. By default the inputs of a layer take that relevance too, in proportion to
    |c_ij|; inputs that are all 0 share it evenly. Where a layer's contributions all have the same
    sign, they take all of its relevance.

    A batch norm counts as part of the layer that it follows. Layer norm and group norm only scale.
    Of a product with a constant, as a layer scale, all goes to the other factor; of two tensors of
    the network the larger one, which is gated, takes all, and equal ones half each, as in a product
    of matrices. Softmax: see ``attn_lrp``. Activations and what else is elementwise pass on what
    they get, a maximum to its place.

    Args:
        passes: Where the images go once more.
        composite: ``epsilon_plus`` (``z_plus`` in convolutions, ``epsilon`` in matrices),
            ``epsilon_alpha2_beta1``, both also with ``_flat`` in the first layer,
            ``epsilon_gamma_box`` (``gamma``, and ``box`` in the first layer),
            ``excitation_backprop`` (``z_plus`` everywhere) or ``epsilon`` (everywhere; it amplifies
            what cancels out, and is of use in networks of few layers).
        convolution: Rule of convolutions; ``composite``: the composite's.
        linear: Rule of matrices; ``composite``: the composite's.
        first: Rule of the layer that runs first; ``composite``: the composite's.
        bias: ``share``, or ``absorb``: relevance of biases stays with them, as in zennit.
        epsilon: Added to each denominator, with its sign.
        gamma: γ.
        alpha: α.
        beta: β, which is α - 1.
        low: Lowest value of a pixel after normalisation; for ``box``.
        high: Highest value of a pixel after normalisation; for ``box``.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
        Relevance Propagation, PLOS ONE 2015, equations 56 to 60; Montavon et al., Layer-Wise
        Relevance Propagation: An Overview, 2019, sections 10.2 and 10.3; composites of zennit 0.5
    """
    of_convolutions, of_matrices, of_first = COMPOSITES[composite]
    rules = RelevanceRules(
        of_convolutions if convolution == _AS_COMPOSITE else convolution,
        of_matrices if linear == _AS_COMPOSITE else linear,
        of_first if first == _AS_COMPOSITE else first,
        Constants(epsilon, gamma, alpha, beta, low, high, share=bias == "share"),
    )
    return share_score(passes, rules)
