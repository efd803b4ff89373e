"""Methods for transformers: follow attention from the classifier to the patches.

A is the attention of a layer, (B, heads, N, N) with a row for each query, G its gradient of the raw
score, and N the number of tokens: patches, and a class token, registers and the like before them.
A token's map is read in the rows of those tokens that the classifier reads: the class token, or
where it takes the mean of all patches, the mean of their rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cam._engine.method_sources import Attention, AttentionGradients
from cam._methods.base.maps import normalise_maps
from cam._methods.base.method_registry import register_method
from cam.types import Maps


@register_method(
    "attention_rollout",
    title="Attention rollout",
    family="attention",
    kind="evidence",
    reads=Attention,
    volumes=True,
    cost="1 forward, and the backward through the classifier",
)
def attention_rollout(attention: Attention) -> Maps:
    """Which patches reach the classifier through all layers' attention; the same for any class.

    R = Π_l (mean over heads of A_l + I) / 2, the last layer leftmost, with I for what a block adds
    its attention to; map = the row of R that the classifier reads.

    Returns:
        Maps (B, rows, columns) of patches, float32, float64 for float64.

    Raises:
        ModelError: The model has no attention over all of its tokens.

    References:
        Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, equation 1
    """
    # From the last layer to the first a row is a product of a vector and a matrix.
    row = attention.read  # (B, N)
    for weights in reversed(attention.weights):
        row = (_times(row, weights.mean(1)) + row) / 2
    return make_maps(attention, row)


@register_method(
    "generic_attention",
    title="Generic attention explainability",
    family="attention",
    kind="evidence",
    reads=AttentionGradients,
    volumes=True,
    cost="1 forward, and the backward down to the first attention",
)
def generic_attention(attention: AttentionGradients) -> Maps:
    """Which patches reach the classifier through the attention that speaks for the class.

    R_0 = I, R_l = R_{l-1} + mean over heads of max(G_l ⊙ A_l, 0) R_{l-1}; map = the row of R - I
    that the classifier reads. (For a class token I adds nothing at the patches, and for a mean of
    the patches it would add the same to each.)

    Returns:
        Maps (B, rows, columns) of patches, float32, float64 for float64.

    Raises:
        ModelError: The model has no attention over all of its tokens.

    References:
        Chefer, Gur and Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and
        Encoder-Decoder Transformers, ICCV 2021, equations 5 and 6 (for self-attention)
    """
    pairs = zip(attention.weights, attention.gradients, strict=True)
    return roll_out(attention, [weights * gradient for weights, gradient in pairs])


def roll_out(attention: Attention, layers: Sequence[Tensor]) -> Maps:
    """Multiply I + the mean over heads of what is positive, from the last layer to the first.

    Args:
        attention: What the classifier reads, and where the patches are.
        layers: (B, heads, N, N) of each layer in the order of the forward pass.

    Returns:
        Maps of the product minus I, in the row that the classifier reads.
    """
    read = attention.read  # (B, N)
    # Without I, beside which what is tiny would be lost.
    row = torch.zeros_like(read)
    for matrices in reversed(layers):
        row = row + _times(read + row, matrices.clamp(min=0).mean(1))
    return make_maps(attention, row)


def _times(row: Tensor, matrices: Tensor) -> Tensor:
    """Multiply (B, N) by (B, N, N)."""
    return torch.einsum("bn,bnm->bm", row, matrices.to(row.dtype))


def make_maps(attention: Attention, tokens: Tensor) -> Maps:
    """Make maps of the tokens' values (B, N), which can be tiny."""
    raw = attention.on_grid(tokens)
    highest = raw.abs().amax(tuple(range(1, raw.ndim)), keepdim=True)
    scaled = raw / highest.clamp(min=torch.finfo(raw.dtype).tiny)
    return Maps(raw=raw, normalised=normalise_maps(scaled))
