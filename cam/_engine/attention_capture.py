"""Reading attention where it happens, fused or not, without touching the model.

A mode of torch sees every call of a function in the forward pass. A fused attention gives no
weights, so it is computed in two steps, softmax and sum, with the same result; what a model
computes in two steps by itself is recorded at its softmax. The first weights start the graph, so
that a frozen model works and nothing before them is recorded.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cam._engine.explicit_attention import fused, multi_head
from cam.errors import ModelError

_SOFTMAX = (torch.softmax, Tensor.softmax, functional.softmax)
# Class, distillation and register tokens; more than these are no picture's grid.
_MOST_EXTRA_TOKENS = 16
_INSTEAD = "use 'gradcam' or 'saliency' instead"


@dataclass(frozen=True, eq=False)
class Block:
    """What LeGrad needs of one transformer block; both are part of the forward's graph.

    Attributes:
        name: Dotted name of the largest module around this attention and no other.
        weights: (B, heads, N, N) attention in it.
        tokens: (B, N, C) or (N, B, C) it puts out.
        batch_first: Whether it is the former.
    """

    name: str
    weights: Tensor
    tokens: Tensor
    batch_first: bool


@dataclass(frozen=True, eq=False)
class AttentionCapture:
    """The self-attention of a transformer over all of its tokens.

    Attributes:
        count: B, how many images there are.
        weights: (B, heads, N, N) of each layer in the order of the forward pass, rows are queries
            and sum to 1.
        gradients: (B, heads, N, N) of the scores by each of them; None but for the last if no
            method needs them.
        grid: (rows, columns) of the patches, which are the last of the N tokens. Those before them
            are the class token, registers and the like.
        blocks: The blocks; empty if no method needs them.
    """

    count: int
    weights: tuple[Tensor, ...]
    gradients: tuple[Tensor | None, ...]
    grid: tuple[int, int]
    blocks: tuple[Block, ...]

    def with_gradients(self, found: Sequence[Tensor | None]) -> "AttentionCapture":
        """The same out of the graph, with the gradients of the last layers.

        Raises:
            ModelError: The score does not depend on one of them.
        """
        if any(one is None for one in found):
            raise ModelError(f"the target's score does not depend on the attention; {_INSTEAD}")
        missing = [None] * (len(self.weights) - len(found))
        gradients = [one if one is None else self.by_head(one) for one in [*missing, *found]]
        weights = tuple(self.by_head(one).detach() for one in self.weights)
        return replace(self, weights=weights, gradients=tuple(gradients))

    def by_head(self, one: Tensor) -> Tensor:
        """(B, heads, N, N) of weights or gradients; some models fold the heads into the batch."""
        return one.reshape(self.count, -1, *one.shape[-2:])

    @property
    def read(self) -> Tensor:
        """(B, N) share of each token in what the classifier reads: 1 for a class token alone.

        The score has no gradient by the last attention's row of a token that is not read, since
        only attention mixes tokens. Where none is read, as by a classifier of zeros, all are.
        """
        last = self.gradients[-1]
        assert last is not None
        read = last.abs().amax((1, 3)).ne(0)  # (B, N)
        read = read | ~read.any(1, keepdim=True)
        shares = read.to(torch.promote_types(last.dtype, torch.float32))
        return shares / shares.sum(1, keepdim=True)

    def on_grid(self, tokens: Tensor) -> Tensor:
        """From (B, N) to the map (B, rows, columns) of the patches among them."""
        rows, columns = self.grid
        return tokens[:, tokens.shape[1] - rows * columns :].reshape(-1, rows, columns)


class AttentionReader(TorchFunctionMode):
    """Records the attention of a forward pass that runs under it; see :func:`reading`.

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
        self._convolved: tuple[int, int] | None = None
        self._lengths: set[int] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # What is called in here is not seen again.
        if func is functional.scaled_dot_product_attention:
            return fused(self._keep, *args, **kwargs)
        if func is functional.multi_head_attention_forward:
            return multi_head(self._keep, args, kwargs)
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

    def entered(self) -> None:
        """A module begins."""
        self._running.append(len(self.weights))

    def left(self, name: str, module: nn.Module, output: object) -> object:
        """A module has put something out; what the network should go on with, or None."""
        first = self._running.pop()
        if isinstance(module, nn.Conv2d) and isinstance(output, Tensor) and not self.weights:
            self._convolved = (output.shape[-2], output.shape[-1])
        tokens = output[0] if isinstance(output, tuple) and output else output
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

    def captured(self, name: str) -> AttentionCapture:
        """What was recorded, still in the graph and without gradients.

        Args:
            name: What the model is called in an error.

        Raises:
            ModelError: It has no attention over all tokens, or these are no picture's grid.
        """
        count = len(self._batch)
        used = list(range(len(self.weights)))
        # What has fewer queries than keys at the end pools tokens: that is part of the classifier.
        while used and self.weights[used[-1]].shape[-2] < self.weights[used[-1]].shape[-1]:
            used.pop()
        if not used:
            raise ModelError(
                f"{name} has no self-attention, so there is none to follow; {_INSTEAD}"
            )
        shapes = [self.weights[index].shape for index in used]
        # Three dimensions are (B·heads, N, N).
        if any(shape[0] % count if len(shape) == 3 else shape[:-3] != (count,) for shape in shapes):
            raise ModelError(
                f"{name} attends within windows or strips of the picture and not over all tokens, "
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
                f"{name} attends over {shapes[0][-1]} tokens, which are no grid of patches of a "
                f"picture of {self._batch.shape[-2]} × {self._batch.shape[-1]} pixels; {_INSTEAD}"
            )
        blocks = tuple(self._blocks[index] for index in used if index in self._blocks)
        weights = tuple(self.weights[index] for index in used)
        return AttentionCapture(count, weights, (), grid, blocks)

    def _grid(self, tokens: int) -> tuple[int, int] | None:
        """Rows and columns: those of the patch embedding, else those of the picture's shape."""
        if tokens not in self._lengths:
            # It attends over channels.
            return None
        height, width = self._batch.shape[-2:]
        if self._convolved:
            rows, columns = self._convolved
            if 0 <= tokens - rows * columns <= _MOST_EXTRA_TOKENS:
                return rows, columns
        for extra in range(min(_MOST_EXTRA_TOKENS, tokens - 1) + 1):
            rows = round(((tokens - extra) * height / width) ** 0.5)
            columns = (tokens - extra) // max(rows, 1)
            near = abs(rows * width - columns * height) < max(height, width)
            if rows * columns == tokens - extra and near:
                return rows, columns
        return None


def _is_over_keys(result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a softmax is that of an attention: over the last of three or more dimensions."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return result.ndim in (3, 4) and dim in (-1, result.ndim - 1)


@contextmanager
def reading(module: nn.Module, batch: Tensor, blocks: bool) -> Iterator[AttentionReader]:
    """Record the attention of the forward pass that runs inside.

    Args:
        module: The network; it comes back without a hook.
        batch: (B, C, H, W) that will go through it.
        blocks: Whether the blocks' tokens are recorded too.
    """
    reader = AttentionReader(batch, blocks)
    with ExitStack() as stack:
        for name, child in module.named_modules():
            stack.callback(
                child.register_forward_pre_hook(lambda _module, _inputs: reader.entered()).remove
            )
            stack.callback(
                child.register_forward_hook(
                    lambda module, _inputs, output, name=name: reader.left(name, module, output)
                ).remove
            )
        stack.enter_context(reader)
        yield reader
