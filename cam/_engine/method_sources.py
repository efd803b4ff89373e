"""Define the sources that a method may read: pixels, layers, attention."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from cam._engine.token_layout import Layout
from cam.types import Maps, TargetFunction


class Source:
    """Part of what the shared passes give; a method names the class that it reads.

    Attributes:
        backward: Whether it takes the shared backward pass.
    """

    backward: ClassVar[bool] = False


S = TypeVar("S", bound=Source)


@dataclass(frozen=True, eq=False)
class Pixels(Source):
    """The batch and the network's output for it.

    Attributes:
        inputs: (B, C, H, W) floats; of volumes and clips (B, C, D, H, W), whatever the order in
            which the network takes frames and channels.
        logits: (B, classes), detached.
        scores: (B,) raw scores that are explained, detached.
        targets: (B,) int64 classes, or the callables.
    """

    inputs: Tensor
    logits: Tensor
    scores: Tensor
    targets: Tensor | tuple[TargetFunction, ...]

    @cached_property
    def unsound(self) -> Tensor:
        """(B,) bool: images whose maps must be NaN, as their pixels or scores are not finite.

        ReLU6 and similar functions turn a NaN into a gradient of zero, and a map of zeros would
        look like a result.
        """
        return ~(self.scores.isfinite() & self.inputs.flatten(1).isfinite().all(1))


@dataclass(frozen=True, eq=False)
class PixelGradients(Pixels):
    """The pixels with the gradient of the score by them.

    Attributes:
        gradients: (B, C, H, W), detached.
    """

    backward = True

    gradients: Tensor


@dataclass(frozen=True, eq=False)
class LayerActivations(Source):
    """What one layer returned.

    Attributes:
        name: Dotted name of the layer.
        activations: (B, C, h, w), of volumes (B, C, d, h, w), detached.
        layout: How the layer itself returns them: tokens and (B, h, w, C) are read as maps here.
        inputs: (B, C, H, W), the batch that it saw.
    """

    name: str
    activations: Tensor
    layout: Layout
    inputs: Tensor = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class LayerGradients(LayerActivations):
    """What one layer returned, and how the score changes with it.

    Attributes:
        gradients: (B, C, h, w) of the scores by the activations, detached.
        rule_maps: Rule of :func:`kernels.fused_cam` → its map, for the rules that the methods of
            this pass share a kernel for.
    """

    backward = True

    gradients: Tensor
    rule_maps: Mapping[str, Maps] = field(default_factory=dict)


@dataclass(frozen=True)
class Pooling:
    """An attention behind the last block that pools the tokens, as part of the classifier.

    Attributes:
        call: Its number among the attentions of a forward pass, from 0.
        rows: How many heads and queries it has, multiplied.
        keys: N, how many tokens it reads.
    """

    call: int
    rows: int
    keys: int


@dataclass(frozen=True, eq=False)
class Attention(Source):
    """The self-attention of a transformer over all of its tokens.

    Attributes:
        count: B, how many images there are.
        weights: (B, heads, N, N) of each layer in the order of the forward pass, rows are queries
            and sum to 1; detached.
        last_gradient: (B, heads, N, N) of the scores by the last of them.
        grid: (rows, columns) of the patches, which are the last of the N tokens; (depth, rows,
            columns) of tubelets. Those before them are the class token, registers and the like.
        pooling: What pools the tokens, where a single attention does.
    """

    backward = True

    count: int
    weights: tuple[Tensor, ...]
    last_gradient: Tensor
    grid: tuple[int, ...]
    pooling: Pooling | None = field(default=None, kw_only=True)

    def by_head(self, matrices: Tensor) -> Tensor:
        """Unfold heads from the batch axis: (B, heads, N, N)."""
        return matrices.reshape(self.count, -1, *matrices.shape[-2:])

    @property
    def read(self) -> Tensor:
        """(B, N) share of each token in what the classifier reads: 1 for a class token alone.

        The score has no gradient by the last attention's row of a token that is not read, since
        only attention mixes tokens. Where none is read, as by a classifier of zeros, all are.
        """
        read = self.last_gradient.abs().amax((1, 3)).ne(0)  # (B, N)
        read = read | ~read.any(1, keepdim=True)
        shares = read.to(torch.promote_types(self.last_gradient.dtype, torch.float32))
        return shares / shares.sum(1, keepdim=True)

    def on_grid(self, tokens: Tensor) -> Tensor:
        """Arrange the patches of (B, N) tokens as (B, rows, columns), or (B, *grid)."""
        return tokens[:, tokens.shape[1] - prod(self.grid) :].reshape(-1, *self.grid)


@dataclass(frozen=True, eq=False)
class AttentionGradients(Attention):
    """The attention with its gradient at every layer.

    Attributes:
        gradients: (B, heads, N, N) of the scores by each layer's attention.
    """

    gradients: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Block:
    """One transformer block; both tensors are part of the forward's graph.

    Attributes:
        name: Dotted name of the largest module around this attention and no other.
        weights: (B, heads, N, N) attention in it.
        tokens: (B, N, C) or (N, B, C) that it returns.
        batch_first: Whether it is the former.
    """

    name: str
    weights: Tensor
    tokens: Tensor
    batch_first: bool


@dataclass(frozen=True, eq=False)
class TransformerBlocks(Source):
    """What each transformer block returns, with its graph.

    Attributes:
        attention: The attention of all layers.
        blocks: Those of them that are in a block that returns tokens.
    """

    backward = True

    attention: Attention
    blocks: tuple[Block, ...]


@dataclass(frozen=True, eq=False)
class Capture:
    """The results of one forward and at most one backward pass.

    Attributes:
        pixels: The batch, its scores and targets.
        others: Layers in the requested order, and attention.
    """

    pixels: Pixels
    others: tuple[Source, ...] = ()

    def read(self, kind: type[S]) -> list[S]:
        """Return the sources of a kind: the only one, or each layer."""
        return [source for source in (self.pixels, *self.others) if isinstance(source, kind)]
