"""Compute the gradient-CAM rules on one tile, for both kernels."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from .rules import Rule

# The rules as compile-time numbers; those up to Grad-CAM++ give each channel a weight.
GRADCAM = tl.constexpr(int(Rule.GRADCAM))
XGRADCAM = tl.constexpr(int(Rule.XGRADCAM))
GRADCAM_PLUS_PLUS = tl.constexpr(int(Rule.GRADCAM_PLUS_PLUS))
LAYERCAM = tl.constexpr(int(Rule.LAYERCAM))
HIRESCAM = tl.constexpr(int(Rule.HIRESCAM))
ELEMENTWISE = tl.constexpr(int(Rule.GRADCAM_ELEMENTWISE))


@triton.jit
def rule_at(CODE, k):
    """Return the k-th rule of `encode`'s number."""
    return (CODE >> (4 * k)) & 15


@triton.constexpr_function
def at(code, position):
    """Return the rule at a position while compiling."""
    return (code >> (4 * position)) & 15


@triton.constexpr_function
def has(code, count, *rules):
    """Check whether one of the rules is among those encoded."""
    return any(((code >> (4 * position)) & 15) in rules for position in range(count))


@triton.jit
def positive(b_value):
    """Apply a ReLU that hides neither a NaN nor an infinity.

    -Inf becomes NaN.
    """
    return tl.where(b_value > 0, b_value, b_value * 0.0)


@triton.jit
def plus_plus_terms(b_gradient, b_total):
    """Compute Grad-CAM++'s α_cs max(G_cs, 0), whose sum over s is w_c.

    α_cs = G² / (2 G² + G³ ΣA) = 1 / (2 + G ΣA), with ΣA of the channel (Chattopadhay et al. 2018,
    "Grad-CAM++", eq. 19). The short form does not underflow where G² would.
    """
    b_term = b_gradient / (2.0 + b_gradient * b_total[:, None])
    return tl.where(b_gradient > 0, b_term, b_gradient * 0.0)


@triton.jit
def xgradcam_weights(b_product_sum, b_activation_sum):
    """Compute XGrad-CAM's w_c = Σ_s A_cs G_cs / (Σ_s A_cs + ε).

    Fu et al. 2020, "Axiom-based Grad-CAM", equation 8.
    """
    return b_product_sum / (b_activation_sum + 1e-7)


@triton.jit
def weights_of(rule, b_activation, b_gradient, pixels):
    """Compute w_c from a tile of whole planes, or NaN.

    Rules that weigh positions have no w_c.
    """
    if rule == GRADCAM:  # mean_s G_cs (Selvaraju et al. 2017, "Grad-CAM", eq. 1)
        b_weight = tl.sum(b_gradient, axis=1) / pixels
    elif rule == XGRADCAM:
        b_weight = xgradcam_weights(
            tl.sum(b_activation * b_gradient, axis=1), tl.sum(b_activation, axis=1)
        )
    elif rule == GRADCAM_PLUS_PLUS:
        b_terms = plus_plus_terms(b_gradient, tl.sum(b_activation, axis=1))
        b_weight = tl.sum(b_terms, axis=1)
    else:
        b_weight = tl.full((b_gradient.shape[0],), float("nan"), tl.float32)
    return b_weight  # (BLOCK_C,)


@triton.jit
def part_of(rule, b_weight, b_activation, b_gradient):
    """Sum over the tile's channels their part of a signed map."""
    if rule <= GRADCAM_PLUS_PLUS:  # Σ_c w_c A_cs
        b_part = tl.sum(b_weight[:, None] * b_activation, axis=0)
    else:
        b_part = position_part(rule, b_activation, b_gradient)
    return b_part  # (BLOCK_S,)


@triton.jit
def position_part(rule, b_activation, b_gradient):
    """Do the same for the rules that weigh every position separately."""
    if rule == LAYERCAM:  # Σ_c max(G_cs, 0) A_cs (Jiang et al. 2021, "LayerCAM", eq. 5 and 6)
        b_product = positive(b_gradient) * b_activation
    elif rule == HIRESCAM:  # Σ_c G_cs A_cs (Draelos and Carin 2020, "HiResCAM", eq. 3)
        b_product = b_gradient * b_activation
    else:  # Σ_c max(G_cs A_cs, 0), which is pytorch-grad-cam's GradCAMElementWise
        b_product = positive(b_gradient * b_activation)
    return tl.sum(b_product, axis=0)
