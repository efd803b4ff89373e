"""The equations of the gradient-CAM rules on one tile, for both fused kernels."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from collections.abc import Sequence

import triton
import triton.language as tl

# The rules as the kernels know them. Those up to Grad-CAM++ give each channel a weight, and their
# map is Σ_c w_c A_cs; the others weigh every position by itself.
GRADCAM = tl.constexpr(0)
XGRADCAM = tl.constexpr(1)
GRADCAM_PLUS_PLUS = tl.constexpr(2)
LAYERCAM = tl.constexpr(3)
HIRESCAM = tl.constexpr(4)
ELEMENTWISE = tl.constexpr(5)
NUMBERS = {
    "gradcam": 0,
    "xgradcam": 1,
    "gradcam_plus_plus": 2,
    "layercam": 3,
    "hirescam": 4,
    "gradcam_elementwise": 5,
}


def encode(rules: Sequence[str]) -> int:
    """Pack rules into a number, four bits each in their order, which a kernel can loop over."""
    return sum(NUMBERS[rule] << (4 * place) for place, rule in enumerate(rules))


@triton.jit
def rule_at(CODE, k):
    """The k-th rule of `encode`'s number."""
    return (CODE >> (4 * k)) & 15


@triton.constexpr_function
def at(code, place):
    """`rule_at` while compiling."""
    return (code >> (4 * place)) & 15


@triton.constexpr_function
def has(code, count, *rules):
    """Whether one of the rules is among the `count` that the number encodes."""
    return any(((code >> (4 * place)) & 15) in rules for place in range(count))


@triton.jit
def positive(b_value):
    """ReLU that keeps a NaN, and makes one of -Inf, so that clipping hides neither."""
    return tl.where(b_value > 0, b_value, b_value * 0.0)


@triton.jit
def plus_plus_terms(b_gradient, b_total):
    """Grad-CAM++: α_cs max(G_cs, 0), whose sum over s is the weight of channel c.

    α_cs = G² / (2 G² + G³ ΣA) = 1 / (2 + G ΣA), with ΣA of the channel (Chattopadhay et al. 2018,
    "Grad-CAM++", eq. 19). The short form does not underflow where G² would.
    """
    b_term = b_gradient / (2.0 + b_gradient * b_total[:, None])
    return tl.where(b_gradient > 0, b_term, b_gradient * 0.0)


@triton.jit
def xgradcam_weights(b_product_sum, b_activation_sum):
    """w_c = Σ_s A_cs G_cs / (Σ_s A_cs + ε) (Fu et al. 2020, "Axiom-based Grad-CAM", eq. 8)."""
    return b_product_sum / (b_activation_sum + 1e-7)


@triton.jit
def weights_of(rule, b_activation, b_gradient, pixels):
    """w_c from a tile (channel, pixel) that holds whole planes; NaN for rules that have none."""
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
    """What the tile adds to a rule's signed map: a sum over its channels."""
    if rule <= GRADCAM_PLUS_PLUS:  # Σ_c w_c A_cs
        b_part = tl.sum(b_weight[:, None] * b_activation, axis=0)
    else:
        b_part = position_part(rule, b_activation, b_gradient)
    return b_part  # (BLOCK_S,)


@triton.jit
def position_part(rule, b_activation, b_gradient):
    """The same for the rules that weigh every position by itself."""
    if rule == LAYERCAM:  # Σ_c max(G_cs, 0) A_cs (Jiang et al. 2021, "LayerCAM", eq. 5 and 6)
        b_product = positive(b_gradient) * b_activation
    elif rule == HIRESCAM:  # Σ_c G_cs A_cs (Draelos and Carin 2020, "HiResCAM", eq. 3)
        b_product = b_gradient * b_activation
    else:  # Σ_c max(G_cs A_cs, 0), which is pytorch-grad-cam's GradCAMElementWise
        b_product = positive(b_gradient * b_activation)
    return tl.sum(b_product, axis=0)
