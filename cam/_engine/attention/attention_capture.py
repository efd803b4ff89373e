"""Record a transformer's attention, fused or not, without touching the model.

A mode of torch sees every call of a function in the forward pass. A fused attention returns no
weights, so it is computed in two steps, softmax and sum, with the same result; what a model
computes in two steps itself is recorded at its softmax. The first weights start the graph, so
that a frozen model works and nothing before them is recorded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cam._engine.attention.explicit_attention import attend, attend_multi_head
from cam._engine.evaluation_mode import attach
from cam._engine.method_sources import (
    Attention,
    AttentionGradients,
    Block,
    Pooling,
    Source,
    TransformerBlocks,
)
from cam._engine.token_layout import main_output
from cam.errors import ModelError

_SOFTMAX = (torch.softmax, Tensor.softmax, functional.softmax)
# Class, distillation and register tokens; more than these are no picture's grid.
_MOST_EXTRA_TOKENS = 16
_INSTEAD = "use 'gradcam' or 'saliency' instead"


@dataclass(frozen=True, eq=False)
class Recording:
    """The attention of a forward pass, in its graph and without gradients.

    Attributes:
        count: B, the number of images.
        weights: (B, heads, N, N) or (B·heads, N, N) of each layer, rows are queries and sum to 1.
        grid: (rows, columns) of the patches.
        blocks: The blocks; empty where none were requested.
        pooling: The attention behind them, where one pools their tokens.
    """

    count: int
    weights: tuple[Tensor, ...]
    grid: tuple[int, ...]
    blocks: tuple[Block, ...]
    pooling: Pooling | None

    def sources(self, gradients: Sequence[Tensor | None], blocks: bool) -> tuple[Source, ...]:
        """Make the sources that methods read.

        Args:
            gradients: Of the scores by the last layers' attention, or by all.
            blocks: Whether the blocks are read too.

        Raises:
            ModelError: The score does not depend on one of them.
        """
        weights = tuple(self._by_head(matrices).detach() for matrices in self.weights)
        by_head = tuple(self._by_head(slope) for slope in gradients if slope is not None)
        if len(by_head) < len(gradients):
            raise ModelError(f"the target's score does not depend on the attention; {_INSTEAD}")
        facts = (self.count, weights, by_head[-1], self.grid)
        attention = Attention(*facts, pooling=self.pooling)
        if len(by_head) == len(weights):
            attention = AttentionGradients(*facts, by_head, pooling=self.pooling)
        return (attention, *([TransformerBlocks(attention, self.blocks)] if blocks else ()))

    def _by_head(self, matrices: Tensor) -> Tensor:
        return matrices.reshape(self.count, -1, *matrices.shape[-2:])


class AttentionReader(TorchFunctionMode):
    """Record the attention of a forward pass; see :func:`record_attention`.

    Attributes:
        weights: (…, queries, keys) of each call, as the network goes on with them.
    """

    def __init__(self, batch: Tensor, blocks: bool) -> None:
        super().__init__()
        self.weights: list[Tensor] = []
        self._batch = batch
        self._with_blocks = blocks
        self._blocks: dict[int, Block] = {}
        self._running: list[int] = []
        self._convolved: tuple[int, ...] | None = None
        self._lengths: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, an attention in two steps."""
        kwargs = kwargs or {}
        # A mode does not see what is called in here.
        if func is functional.scaled_dot_product_attention:
            return attend(self._keep, *args, **kwargs)
        if func is functional.multi_head_attention_forward:
            return attend_multi_head(self._keep, args, kwargs)
        result = func(*args, **kwargs)
        if func in _SOFTMAX and isinstance(result, Tensor) and _is_over_keys(result, args, kwargs):
            # A copy: dropout may change it in place, and that is not possible on a leaf.
            return self._keep(result).clone()
        return result

    def _keep(self, weights: Tensor) -> Tensor:
        if not weights.requires_grad:
            weights = weights.detach().requires_grad_()
            torch.set_grad_enabled(True)
        self.weights.append(weights)
        return weights

    def enter_module(self) -> None:
        """Note that a module begins."""
        self._running.append(len(self.weights))

    def leave_module(self, name: str, module: nn.Module, output: object) -> object:
        """Note a module's output; return what replaces it, or None."""
        first = self._running.pop()
        kind = nn.Conv2d if self._batch.ndim == 4 else nn.Conv3d
        if isinstance(module, kind) and isinstance(output, Tensor) and not self.weights:
            self._convolved = tuple(output.shape[2:])
        tokens = main_output(output)
        if not isinstance(tokens, Tensor) or tokens.ndim != 3:
            return None
        self._lengths.update(tokens.shape[:2])
        if not self._with_blocks or len(self.weights) != first + 1:
            return None
        weights = self.weights[first]
        size = (len(self._batch), weights.shape[-2])
        if tokens.shape[:2] not in (size, size[::-1]):
            return None
        # Modules end from the inside out, so the largest comes last.
        self._blocks[first] = Block(name, weights, tokens, tokens.shape[:2] == size)
        # A copy, since the next block may add to it in place.
        return tokens.clone() if isinstance(output, Tensor) else None

    def finish(self, name: str) -> Recording:
        """Return the recording, still in the graph and without gradients.

        Args:
            name: The model's name in an error.

        Raises:
            ModelError: It has no attention over all tokens, or these are no picture's grid.
        """
        count = len(self._batch)
        followed = list(range(len(self.weights)))
        # A last attention with fewer queries than keys pools tokens, as part of the classifier.
        while (
            followed and self.weights[followed[-1]].shape[-2] < self.weights[followed[-1]].shape[-1]
        ):
            followed.pop()
        if not followed:
            raise ModelError(
                f"{name} has no self-attention, so there is none to follow; {_INSTEAD}"
            )
        shapes = [self.weights[index].shape for index in followed]
        # Three dimensions are (B·heads, N, N).
        if any(shape[0] % count if len(shape) == 3 else shape[:-3] != (count,) for shape in shapes):
            raise ModelError(
                f"{name} attends within windows or strips of the image and not over all tokens, "
                f"so attention cannot be followed through it; {_INSTEAD}"
            )
        if len({shape[-2:] for shape in shapes}) > 1 or shapes[0][-1] != shapes[0][-2]:
            raise ModelError(
                f"{name} attends over different numbers of tokens in different places, so "
                f"attention cannot be followed through it; {_INSTEAD}"
            )
        grid = self._grid(shapes[0][-1])
        if grid is None:
            raise ModelError(
                f"{name} attends over {shapes[0][-1]} tokens, which are no grid of patches of an "
                f"image of {' × '.join(map(str, self._batch.shape[2:]))} pixels; {_INSTEAD}"
            )
        blocks = tuple(self._blocks[index] for index in followed if index in self._blocks)
        weights = tuple(self.weights[index] for index in followed)
        return Recording(count, weights, grid, blocks, self._find_pooling(len(followed)))

    def _find_pooling(self, followed: int) -> Pooling | None:
        """Describe the attention that pools; None where none does behind those followed."""
        if len(self.weights) != followed + 1:
            return None
        keys = self.weights[-1].shape[-1]
        if keys != self.weights[followed - 1].shape[-1]:
            return None
        return Pooling(followed, self.weights[-1].numel() // (len(self._batch) * keys), keys)

    def _grid(self, tokens: int) -> tuple[int, ...] | None:
        """Return the grid of the patch embedding, else of the picture's shape."""
        if tokens not in self._lengths:
            # It attends over channels.
            return None
        height, width = self._batch.shape[-2:]
        if self._convolved and 0 <= tokens - prod(self._convolved) <= _MOST_EXTRA_TOKENS:
            return self._convolved
        if self._batch.ndim == 5:
            # Of three unknown sides their product says too little.
            return None
        for extra in range(min(_MOST_EXTRA_TOKENS, tokens - 1) + 1):
            rows = round(((tokens - extra) * height / width) ** 0.5)
            columns = (tokens - extra) // max(rows, 1)
            near = abs(rows * width - columns * height) < max(height, width)
            if rows * columns == tokens - extra and near:
                return rows, columns
        return None


def _is_over_keys(result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Test whether a softmax is an attention's: over the last axis."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return result.ndim in (3, 4) and dim in (-1, result.ndim - 1)


@contextmanager
def record_attention(module: nn.Module, batch: Tensor, blocks: bool) -> Iterator[AttentionReader]:
    """Record the attention of the forward pass that runs inside.

    Args:
        module: The network; it comes back without a hook.
        batch: (B, C, H, W) that will go through it.
        blocks: Whether the blocks' tokens are recorded too.
    """
    reader = AttentionReader(batch, blocks)
    hooks = (
        hook
        for name, child in module.named_modules()
        for hook in (
            child.register_forward_pre_hook(lambda _module, _inputs: reader.enter_module()),
            child.register_forward_hook(
                lambda child, _inputs, output, name=name: reader.leave_module(name, child, output)
            ),
        )
    )
    with attach(hooks), reader:
        yield reader
