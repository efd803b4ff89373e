"""Bind Captum's arguments: one tensor or tuple, further arguments, targets."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from cam._engine.capture import capture
from cam._engine.evaluation_mode import original_module
from cam._engine.method_sources import Capture, Source
from cam._engine.passes import Passes
from cam.errors import InputError, TargetError

Forward = nn.Module | Callable[..., Any]
Inputs = Tensor | tuple[Tensor, ...]
CaptumTarget = int | tuple[int, ...] | Tensor | Sequence[int] | Sequence[tuple[int, ...]] | None

# Pictures that go through the model at once where a method has extra passes.
BATCH = 32


class Attribution:
    """A way to explain one function.

    Args:
        forward_func: A model, or a function of a batch of pictures.
    """

    def __init__(self, forward_func: Forward) -> None:
        self.forward_func = forward_func

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are multiplied by the inputs or the way to them."""
        return False

    def has_convergence_delta(self) -> bool:
        """Return whether ``return_convergence_delta`` is known."""
        return False


@dataclass(frozen=True, eq=False)
class Question:
    """What a call of ``attribute`` asks about.

    Attributes:
        inputs: (B, C, H, W), the only tensor that is explained.
        module: What is run on it.
        targets: As this library takes them.
        in_tuple: Whether the caller's tensor was in a tuple, as then the answer must be.
    """

    inputs: Tensor
    module: nn.Module
    targets: Any
    in_tuple: bool

    def capture(
        self,
        reads: Sequence[type[Source]] = (),
        layers: Sequence[tuple[str, nn.Module]] = (),
    ) -> Capture:
        """Run the shared passes."""
        return capture(self.module, self.inputs, self.targets, reads=reads, layers=layers)

    @contextmanager
    def passes(self, name: str, size: int = BATCH) -> Iterator[Passes]:
        """Run the forward pass, and give way to further ones."""
        with _RowPasses(self.module, self.capture(), size).of(name) as passes:
            yield passes

    def answer(self, attributions: Tensor) -> Any:
        """Return attributions as the inputs came."""
        return (attributions,) if self.in_tuple else attributions


def bind(
    forward_func: Forward, inputs: Inputs, target: CaptumTarget, additional: object = None
) -> Question:
    """Bind the arguments of a call of ``attribute``.

    Args:
        forward_func: A model, or a function of pictures and what comes behind them.
        inputs: (B, C, H, W) floats, alone or in a tuple of length 1.
        target: A class for all, one for each, or tuples of indices; None for a single number.
        additional: What ``forward_func`` takes behind the pictures; a tensor with a row for each
            picture goes along with them.

    Raises:
        InputError: There is not exactly one tensor.
    """
    in_tuple = isinstance(inputs, tuple)
    if in_tuple and len(inputs) != 1:
        raise InputError(
            f"one tensor of images is explained here, but the tuple has {len(inputs)}; bind the "
            "others in a function of the images, or give them as additional_forward_args"
        )
    pictures = inputs[0] if isinstance(inputs, tuple) else inputs
    if not isinstance(pictures, Tensor):
        raise InputError(f"inputs is a tensor of images, not {type(pictures).__name__}")
    arguments = () if additional is None else additional
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    if isinstance(forward_func, nn.Module):
        forward_func = original_module(forward_func)
    if isinstance(forward_func, nn.Module) and not arguments:
        module = forward_func
    else:
        module = _Function(forward_func, arguments, pictures)
    return Question(pictures, module, _convert_target(target, pictures), in_tuple)


def repeat_rows(kwargs: dict[str, Any], copies: int) -> dict[str, Any]:
    """Repeat targets and further arguments for a number of copies of each picture."""
    repeated = dict(kwargs)
    target = kwargs.get("target")
    if isinstance(target, list):
        repeated["target"] = [entry for entry in target for _ in range(copies)]
    elif isinstance(target, Tensor) and target.numel() > 1:
        repeated["target"] = target.repeat_interleave(copies, 0)
    arguments = kwargs.get("additional_forward_args")
    if arguments is not None:
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        repeated["additional_forward_args"] = tuple(
            part.repeat_interleave(copies, 0) if isinstance(part, Tensor) and part.ndim else part
            for part in arguments
        )
    return repeated


class _Function(nn.Module):
    """A function of pictures as a module, with the rest of its arguments."""

    def __init__(self, function: Forward, arguments: tuple[Any, ...], pictures: Tensor) -> None:
        super().__init__()
        # A network becomes a child, and is put in evaluation mode with the rest.
        self.function = function
        self.arguments = arguments
        self.count = len(pictures)
        self.rows: Tensor | None = None
        # Tells where the pictures are, as a network's parameters do.
        self.register_buffer("device_marker", torch.empty(0, device=pictures.device))

    def forward(self, pictures: Tensor) -> Any:
        """Call the function with those rows of its arguments that belong to the pictures."""
        return self.function(pictures, *(self._select(part, pictures) for part in self.arguments))

    def _select(self, argument: Any, pictures: Tensor) -> Any:
        if self.rows is None or not isinstance(argument, Tensor):
            return argument
        if argument.ndim == 0 or len(argument) != self.count:
            return argument
        # Picture and baseline run together in DeepLIFT.
        rows = self.rows.repeat(len(pictures) // len(self.rows))
        return argument[rows.to(argument.device)]


@dataclass(eq=False)
class _RowPasses(Passes):
    """Passes that say which picture each input was made from."""

    bound: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.bound = self.module

    def _scores(self, inputs: Tensor, owner: Tensor, quick: bool = False) -> Tensor:
        if not isinstance(self.bound, _Function):
            return super()._scores(inputs, owner, quick)
        self.bound.rows = owner
        try:
            return super()._scores(inputs, owner, quick)
        finally:
            self.bound.rows = None


def _convert_target(target: CaptumTarget, inputs: Tensor) -> Any:
    """Convert Captum's kinds of targets to this library's."""
    if target is None:
        return _take_only_number
    if isinstance(target, Tensor):
        return target.reshape(-1)[0] if target.numel() == 1 else target
    if isinstance(target, tuple):
        return [itemgetter(target)] * len(inputs)
    if isinstance(target, list) and target and isinstance(target[0], tuple):
        return [itemgetter(index) for index in target]
    return target


def _take_only_number(output: Tensor) -> Tensor:
    if output.numel() != 1:
        raise TargetError(
            f"the output for an image has shape {tuple(output.shape)}, so a target must say which "
            "number of it is explained"
        )
    return output.reshape(())
