"""What lies behind a layer, run again and again without what stands in front of it.

One pass with a picture is recorded: what each module put out that had finished when the layer ran.
In later passes these modules answer with what they put out then, and the layer with what it is
given; only what comes after the layer is computed. A network may do anything with what goes past
the layer, so the way is compared with whole passes before it is relied on.
"""

from collections import Counter
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
from cam.errors import ModelError

ALONE, REPEATED, WHOLE = "alone", "repeated", "whole"


@dataclass(frozen=True)
class _Call:
    """A module's answer in the recorded pass, which must be in evaluation mode as later ones.

    Attributes:
        output: What it put out; later parts of the network may have changed it in place.
        copy: As it was when the module had finished.
        version: Of each tensor in it then.
    """

    module: nn.Module
    output: object
    copy: object
    version: tuple[int, ...]

    def answer(self, count: int | None) -> object:
        """What the module puts out for a batch of ``count``, or for the one picture."""
        changed = self.version != _versions(self.output)

        def fit(value: Tensor) -> Tensor:
            value = value if count is None else _repeat(value, count)
            # What comes next changes it in place, as it did in the recorded pass.
            return value.clone() if changed else value

        return _map_tensors(self.copy if changed else self.output, fit)


class Downstream(nn.Module):
    """What a network puts out for one picture when a layer's maps are given in its place.

    Attributes:
        network: It comes back as it was after each pass.
        way: How a pass is made. ``"alone"``: what stands in front of the layer is there for one
            picture, and broadcasts. ``"repeated"``: it is there once for each input, without a
            copy, as concatenations need it. ``"whole"``: the network runs from the start. Empty
            until it is chosen.
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
        """From (N, C, h, w) at the layer to the logits of the N."""
        count = len(activations)
        if self.mode == WHOLE:
            with self._replace_output(activations):
                return run_model(self.network, self._picture.repeat(count, 1, 1, 1))
        with self._skip_modules(activations):
            if self.mode == ALONE:
                return run_model(self.network, self._picture.clone())
            return run_model(self.network, self._picture.expand(count, -1, -1, -1))

    def record(self, picture: Tensor) -> int:
        """Run the network on a picture (1, 3, H, W), which later passes are about.

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
            # What ran inside it needs no answer of its own where its parent has one.
            del done[starts.pop() :]
            if module is self._layer[0]:
                self._runs += 1
                self._before, self._like = [*done], _map_tensors(output, torch.clone)
            done.append(_Call(module, output, _map_tensors(output, torch.clone), _versions(output)))

        with ExitStack() as stack, torch.no_grad():
            for child in self.network.modules():
                if child is not self.network:
                    stack.callback(child.register_forward_pre_hook(begin).remove)
                    stack.callback(child.register_forward_hook(end).remove)
            self._recorded = run_model(self.network, picture.clone())
        return 1

    def choose(self, activations: Tensor) -> int:
        """Find the shortest way that gives what whole passes do, for the recorded picture.

        Args:
            activations: (1, C, h, w) of the picture.

        Returns:
            How many forward passes that took.
        """
        # Two different ones, so that a network that mixes a batch shows it. What the first gives is
        # known from the recorded pass.
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
                # A NaN compares as different, and the long way is taken.
                if logits.shape == expected.shape and bool(
                    ((logits - expected).abs() <= share * expected.abs().max()).all()
                ):
                    return forwards
        self.mode = WHOLE
        return 3

    def _output(self, activations: Tensor) -> object:
        """What the layer puts out, for maps (N, C, h, w); the next part may change it in place."""
        if isinstance(self._like, tuple):
            rest = _map_tensors(self._like[1:], lambda value: _repeat(value, len(activations)))
            return (self._layout.output(activations, self._like[0]), *rest)
        assert isinstance(self._like, Tensor)
        return self._layout.output(activations, self._like)

    @contextmanager
    def _replace_output(self, activations: Tensor) -> Iterator[None]:
        """The layer puts out the activations at its last run, whatever it is given."""
        runs = 0

        def replace(_module: nn.Module, _inputs: object, output: object) -> object:
            nonlocal runs
            runs += 1
            return self._output(activations) if runs == self._runs else output

        handle = self._layer[0].register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _skip_modules(self, activations: Tensor) -> Iterator[None]:
        """Every module that had finished before the layer answers as it did, without running."""
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
    """Let a module's first calls have answers that are known; it runs as ever afterwards."""
    attributes = vars(module)
    was_overridden = "forward" in attributes
    original = module.forward
    calls: Counter[str] = Counter()

    def answer(*inputs: object, **named: object) -> object:
        calls["calls"] += 1
        if calls["calls"] > len(answers):
            return original(*inputs, **named)
        return answers[calls["calls"] - 1]()

    attributes["forward"] = answer
    try:
        yield
    finally:
        if was_overridden:
            attributes["forward"] = original
        else:
            del attributes["forward"]


def _repeat(value: Tensor, count: int) -> Tensor:
    """For ``count`` pictures what was for one: a view, where the batch is its first dimension."""
    return value.expand(count, *value.shape).flatten(0, 1) if value.ndim else value


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A module's output with each of its tensors changed."""
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
    """How often each tensor of an output was written to."""
    versions: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        versions.append(tensor._version)
        return tensor

    _map_tensors(value, note)
    return tuple(versions)
