"""LeGrad: what more attention would add to the score."""

import torch
from torch import Tensor, nn

from cam._engine.attention.attention_shift import shift_attention
from cam._engine.forward import run_model
from cam._engine.method_sources import Block, Pooling, TransformerBlocks
from cam._engine.passes import Passes
from cam._engine.token_layout import replace_main_output
from cam._methods.attention.attention_methods import make_maps
from cam._methods.base.method_registry import register_method
from cam.errors import MethodError, ModelError
from cam.parameters import integer, optional
from cam.types import Maps


@register_method(
    "legrad",
    rules={"last": optional(integer(1))},
    title="LeGrad",
    family="attention",
    kind="evidence",
    reads=TransformerBlocks,
    volumes=True,
    cost="1 forward, the backward through each block, and the classifier once for each block",
)
def legrad(transformer: TransformerBlocks, passes: Passes, *, last: int | None = None) -> Maps:
    """Which patches' attention would raise the class, layer by layer, were it to look there more.

    With s_l the score that the model's own classifier gives to the mean of block l's tokens, and
    G_l the gradient of s_l by that block's attention: map = the mean over layers, heads and queries
    of max(G_l, 0), read at the keys. Where an attention pools the tokens, as in SigLIP, s_l is the
    score where it pools block l's tokens, and G_l the gradient by its attention.

    Args:
        transformer: Its blocks (B, N, C), in the graph of the forward pass.
        passes: Where the means go through the classifier. What comes before it runs once for each
            batch of them, on a single image.
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
    if attention.pooling is not None:
        return make_maps(attention, _read_pooling(passes, counted, attention.pooling))
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
    return make_maps(attention, total)


def _read_pooling(passes: Passes, blocks: tuple[Block, ...], pooling: Pooling) -> Tensor:
    """Compute the mean over blocks and queries of what pooling would gain at each key, (B, N)."""
    tokens = torch.cat([_batch_first(block).detach() for block in blocks])  # (layers·B, N, C)
    shift = tokens.new_zeros(len(tokens), pooling.rows * pooling.keys)
    owner = torch.arange(len(tokens) // len(blocks), device=tokens.device).repeat(len(blocks))
    passes.expect(len(tokens))
    head = _Pooled(passes.module, blocks[-1], passes.pixels.inputs[:1], pooling)
    with passes.through(head):
        joined = torch.cat([shift, tokens.flatten(1)], 1)
        # Faster operations would not be seen as an attention.
        _, slopes = passes.gradients(joined, owner, lambda _: None)
    gains = slopes[:, : shift.shape[1]].clamp(min=0)
    gains = gains.reshape(len(blocks), -1, pooling.rows, pooling.keys)
    return gains.to(torch.promote_types(gains.dtype, torch.float32)).mean((0, 2))


class _Pooled(nn.Module):
    """A model's output where its last block returns other tokens, and their pooling is shifted."""

    def __init__(self, network: nn.Module, block: Block, image: Tensor, pooling: Pooling) -> None:
        super().__init__()
        self.network = network
        self._layer = (network.get_submodule(block.name),)  # in a tuple, so not registered again
        self._block, self._image, self._pooling = block, image, pooling

    def forward(self, joined: Tensor) -> Tensor:
        """Map a shift of the pooling's attention and tokens, (n, rows·N + N·C), to n logits."""
        pooling = self._pooling
        shift, flat = joined.tensor_split([pooling.rows * pooling.keys], 1)
        tokens = flat.reshape(len(flat), pooling.keys, -1)

        def replace(_module: nn.Module, _inputs: object, output: object) -> object:
            values = tokens if self._block.batch_first else tokens.transpose(0, 1)
            return replace_main_output(output, values)

        with (
            self._layer[0].register_forward_hook(replace),
            shift_attention(self._image, pooling.call, shift),
        ):
            return run_model(self.network, self._image)


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


def _batch_first(block: Block) -> Tensor:
    return block.tokens if block.batch_first else block.tokens.transpose(0, 1)
