"""Methods for transformers: follow attention from the classifier to the patches.

A is the attention of a layer, (B, heads, N, N) with a row for each query, G its gradient of the raw
score, and N the number of tokens: patches, and a class token, registers and the like before them.
A token's map is read in the rows of those tokens that the classifier reads: the class token, or
where it takes the mean of all patches, the mean of their rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cam import kernels
from cam._engine.forward import run_model
from cam._engine.method_sources import Attention, AttentionGradients, Block, TransformerBlocks
from cam._engine.passes import Passes
from cam._engine.token_layout import replace_main_output
from cam._methods.base.method_registry import register_method
from cam.errors import MethodError, ModelError
from cam.parameters import integer, optional
from cam.types import Maps


@register_method(
    "attention_rollout",
    title="Attention rollout",
    family="attention",
    kind="evidence",
    reads=Attention,
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
    return _maps(attention, row)


@register_method(
    "generic_attention",
    title="Generic attention explainability",
    family="attention",
    kind="evidence",
    reads=AttentionGradients,
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


@register_method(
    "legrad",
    rules={"last": optional(integer(1))},
    title="LeGrad",
    family="attention",
    kind="evidence",
    reads=TransformerBlocks,
    cost="1 forward, the backward through each block, and the classifier once for each block",
)
def legrad(transformer: TransformerBlocks, passes: Passes, *, last: int | None = None) -> Maps:
    """Which patches' attention would raise the class, layer by layer, were it to look there more.

    With s_l the score that the model's own classifier gives to the mean of block l's tokens, and
    G_l the gradient of s_l by that block's attention: map = the mean over layers, heads and queries
    of max(G_l, 0), read at the keys.

    Args:
        transformer: Its blocks (B, N, C), in the graph of the forward pass.
        passes: Where the means go through the classifier. What comes before it runs once for each
            batch of them, on a single picture.
        last: How many blocks count, from the end; None: all, as in the paper.

    Returns:
        Maps (B, rows, columns) of patches, float32, float64 for float64.

    Raises:
        MethodError: ``last`` is not a number of the model's blocks.
        ModelError: The model has no attention over all of its tokens, or its blocks do not return
            tokens.

    References:
        Bousselham et al., LeGrad: An Explainability Method for Vision Transformers via Feature
        Formation Sensitivity, ICCV 2025, section 3.3; tokens pooled as in torchcam 0.5, LeGrad
    """
    attention, blocks = transformer.attention, transformer.blocks
    if len(blocks) < len(attention.weights):
        raise ModelError(
            f"{type(passes.module).__name__} has attention in blocks that do not return tokens "
            "(B, N, C), where LeGrad would read them; use 'generic_attention'"
        )
    last = len(blocks) if last is None else last
    if last > len(blocks):
        raise MethodError(
            f"legrad's last must be a whole number from 1 to the {len(blocks)} blocks, but is "
            f"{last!r}"
        )
    count, counted = attention.count, blocks[-last:]
    means = torch.cat([_batch_first(block).detach().mean(1) for block in counted])  # (layers·B, C)
    owner = torch.arange(count, device=means.device).repeat(len(counted))
    passes.expect(len(means))
    with passes.through(_Classifier(passes.module, blocks[-1], passes.pixels.inputs[:1])):
        _, slopes = passes.gradients(means, owner)  # (layers·B, C)
    total = torch.zeros_like(attention.read)  # (B, N)
    for block, slope in zip(counted, slopes.view(len(counted), count, -1), strict=True):
        tokens = _batch_first(block)
        share = (slope / tokens.shape[1])[:, None].expand_as(tokens)
        (gradient,) = torch.autograd.grad(tokens, block.weights, share, retain_graph=True)
        gradient = attention.by_head(gradient)
        total += gradient.clamp(min=0).mean((1, 2)).to(total.dtype) / len(counted)
    # The blocks one by one take as long as all of them together.
    passes.backwards += 1
    return _maps(attention, total)


class _Classifier(nn.Module):
    """A model's output where all tokens after its last block are the same vector.

    Any pooling of them, by a class token, a mean or an attention, then returns that vector.
    """

    def __init__(self, network: nn.Module, block: Block, picture: Tensor) -> None:
        super().__init__()
        self.network = network
        self._layer = (network.get_submodule(block.name),)  # in a tuple, so not registered again
        self._block, self._picture = block, picture

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors (n, C) to the logits of the n."""
        axis = 1 if self._block.batch_first else 0

        def replace(_module: nn.Module, _inputs: object, output: object) -> object:
            length = self._block.weights.shape[-1]
            tokens = vectors.unsqueeze(axis).repeat_interleave(length, axis)
            return replace_main_output(output, tokens)

        with self._layer[0].register_forward_hook(replace):
            return run_model(self.network, self._picture)


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
    return _maps(attention, row)


def _batch_first(block: Block) -> Tensor:
    return block.tokens if block.batch_first else block.tokens.transpose(0, 1)


def _times(row: Tensor, matrices: Tensor) -> Tensor:
    """Multiply (B, N) by (B, N, N)."""
    return torch.einsum("bn,bnm->bm", row, matrices.to(row.dtype))


def _maps(attention: Attention, tokens: Tensor) -> Maps:
    """Make maps of the tokens' values (B, N), which can be tiny."""
    raw = attention.on_grid(tokens)
    highest = raw.abs().amax((1, 2), keepdim=True)
    scaled = raw / highest.clamp(min=torch.finfo(raw.dtype).tiny)
    return Maps(raw=raw, normalised=kernels.normalise(scaled))
