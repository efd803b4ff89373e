"""Re-run only the part of a network downstream of a layer.

One pass with a picture is recorded: the output of each module that had finished when the layer
ran. In later passes these modules return their recorded outputs, and the layer the given maps; only
what comes after the layer is computed. A network may do anything with what bypasses the layer, so
the shortcut is compared with whole passes before it is relied on.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cam._engine.forward import run_model
from cam._engine.method_sources import LayerActivations
from cam._engine.precision import tolerance
from cam._engine.token_layout import main_output, replace_main_output
from cam.errors import ModelError

ALONE, REPEATED, WHOLE = "alone", "repeated", "whole"


@dataclass(frozen=True)
class _Call:
    """A module's output in the recorded pass, in evaluation mode as later ones.

    Attributes:
        output: What it returned; later modules may have changed it in place.
        copy: As it was when the module had finished.
        version: Of each tensor in it then.
    """

    module: nn.Module
    output: object
    copy: object
    version: tuple[int, ...]

    def answer(self, count: int | None) -> object:
        """Return the output for a batch of ``count``, or for one picture."""
        changed = self.version != _versions(self.output)

        def fit(value: Tensor) -> Tensor:
            value = value if count is None else _repeat(value, count)
            # What comes next changes it in place, as it did in the recorded pass.
            return value.clone() if changed else value

        return _map_tensors(self.copy if changed else self.output, fit)


class Downstream(nn.Module):
    """A network as a function of a layer's maps, for a single picture.

    Attributes:
        network: It comes back as it was after each pass.
        mode: How a pass is made. ``"alone"``: outputs before the layer are those of the single
            picture, and broadcast. ``"repeated"``: they are expanded to each input, without a
            copy, as concatenations need it. ``"whole"``: the network runs from the start. Empty
            until :meth:`choose_mode` was called.
    """

    def __init__(self, network: nn.Module, layer: LayerActivations) -> None:
        super().__init__()
        self.network = network
        self.mode = ""
        self._layout = layer.layout
        self._layer = (network.get_submodule(layer.name),)  # in a tuple, so that it is no child
        self._picture = torch.empty(0)
        self._recorded = torch.empty(0)
        self._before: list[_Call] = []
        self._like: object = None
        self._runs = 0

    def forward(self, activations: Tensor) -> Tensor:
        """Compute logits from maps (N, C, h, w) at the layer."""
        count = len(activations)
        if self.mode == WHOLE:
            with self._replace_output(activations):
                axes = self._picture.ndim - 1
                return run_model(self.network, self._picture.repeat(count, *[1] * axes))
        with self._skip_modules(activations):
            if self.mode == ALONE:
                return run_model(self.network, self._picture.clone())
            return run_model(self.network, self._picture.expand(count, *self._picture.shape[1:]))

    def record(self, picture: Tensor) -> int:
        """Run the network on the picture of later passes.

        Args:
            picture: (1, 3, H, W).

        Returns:
            How many forward passes that took.
        """
        self._picture = picture
        self._runs = 0
        done: list[_Call] = []
        starts: list[int] = []

        def begin(_module: nn.Module, _inputs: object) -> None:
            starts.append(len(done))

        def end(module: nn.Module, _inputs: object, output: object) -> None:
            # What ran inside it needs no recorded output where its parent has one.
            del done[starts.pop() :]
            if module is self._layer[0]:
                self._runs += 1
                self._before, self._like = [*done], _map_tensors(output, torch.clone)
            done.append(_Call(module, output, _map_tensors(output, torch.clone), _versions(output)))

        with ExitStack() as stack, torch.no_grad():
            for child in self.network.modules():
                if child is not self.network:
                    stack.enter_context(child.register_forward_pre_hook(begin))
                    stack.enter_context(child.register_forward_hook(end))
            self._recorded = run_model(self.network, picture.clone())
        return 1

    def choose_mode(self, activations: Tensor) -> int:
        """Choose the fastest mode that equals whole passes, for the recorded picture.

        Args:
            activations: (1, C, h, w) of the picture.

        Returns:
            How many forward passes that took.
        """
        # Two different inputs, so that a network that mixes a batch shows it. The logits of the
        # first are known from the recorded pass.
        half = activations / 2
        pair = torch.cat([activations, half])
        share = tolerance(self.network, activations.device)
        with torch.no_grad():
            self.mode = WHOLE
            expected = torch.cat([self._recorded, self(half)])
            for forwards, mode in enumerate((ALONE, REPEATED), 2):
                self.mode = mode
                try:
                    logits = self(pair)
                except ModelError:
                    continue
                # A NaN compares as different, and whole passes are made.
                if logits.shape == expected.shape and bool(
                    ((logits - expected).abs() <= share * expected.abs().max()).all()
                ):
                    return forwards
        self.mode = WHOLE
        return 3

    def _output(self, activations: Tensor) -> object:
        """Return the layer's output for maps, safe to change in place."""
        like = main_output(self._like)
        assert isinstance(like, Tensor)
        repeated = _map_tensors(self._like, lambda value: _repeat(value, len(activations)))
        return replace_main_output(repeated, self._layout.output(activations, like))

    @contextmanager
    def _replace_output(self, activations: Tensor) -> Iterator[None]:
        """Let the layer return the activations at its last run."""
        runs = 0

        def replace(_module: nn.Module, _inputs: object, output: object) -> object:
            nonlocal runs
            runs += 1
            return self._output(activations) if runs == self._runs else output

        with self._layer[0].register_forward_hook(replace):
            yield

    @contextmanager
    def _skip_modules(self, activations: Tensor) -> Iterator[None]:
        """Let modules that finished before the layer return their recorded outputs."""
        count = None if self.mode == ALONE else len(activations)
        answers: dict[nn.Module, list[Callable[[], object]]] = {}
        for call in self._before:
            answers.setdefault(call.module, []).append(partial(call.answer, count))
        answers.setdefault(self._layer[0], []).append(partial(self._output, activations))
        with ExitStack() as stack:
            for module, module_answers in answers.items():
                stack.enter_context(_answer_with(module, module_answers))
            yield


@contextmanager
def _answer_with(module: nn.Module, answers: list[Callable[[], object]]) -> Iterator[None]:
    """Let a module's first calls return answers; later ones run it."""
    attributes = vars(module)
    was_overridden = "forward" in attributes
    original = module.forward
    remaining = iter(answers)

    def answer(*inputs: object, **named: object) -> object:
        recorded = next(remaining, None)
        return original(*inputs, **named) if recorded is None else recorded()

    attributes["forward"] = answer
    try:
        yield
    finally:
        if was_overridden:
            attributes["forward"] = original
        else:
            del attributes["forward"]


def _repeat(value: Tensor, count: int) -> Tensor:
    """View the output for one picture as that for ``count``."""
    return value.expand(count, *value.shape).flatten(0, 1) if value.ndim else value


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to each tensor of a module's output."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map_tensors(part, change) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(_map_tensors(part, change) for part in value)
    if isinstance(value, dict):
        return type(value)((key, _map_tensors(part, change)) for key, part in value.items())
    return value


def _versions(value: object) -> tuple[int, ...]:
    """Count how often each tensor of an output was written to."""
    versions: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        versions.append(tensor._version)
        return tensor

    _map_tensors(value, note)
    return tuple(versions)
