"""Run a method's further passes: in batches, counted, reported, cancellable."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from cam._engine.capture import capture
from cam._engine.evaluation_mode import evaluation_mode
from cam._engine.forward import run_model
from cam._engine.method_sources import Capture, LayerActivations, Pixels, Source
from cam._engine.precision import allow_any_layout
from cam.errors import Cancelled, NoGradientError
from cam.targets import select_scores
from cam.types import Attribution, Maps, Progress, TargetFunction

Report = Callable[[Progress], object]
Owner = Tensor | int | None
"""Which image of the batch each of N inputs was made from, as its target counts: (N,) int64, one
number for all of them, or None where input n was made from image n."""

Finish = Callable[[Maps], Attribution]
"""Makes a method's result from its maps."""

T = TypeVar("T")


@dataclass(eq=False)
class Passes:
    """Run the model once more for a method, after the shared passes.

    Attributes:
        module: The network, in evaluation mode while a method runs.
        captured: Results of the shared passes; its targets are explained here too.
        batch_size: How many inputs go through the model at once. It is halved where a GPU's memory
            does not suffice, and the work goes on.
        report: Called after each batch; returns False to cancel.
        forwards: Forward passes so far.
        backwards: Backward passes so far.
        method: Name of the method that runs.
    """

    module: nn.Module
    captured: Capture
    batch_size: int
    report: Report | None = None
    forwards: int = 0
    backwards: int = 0
    method: str = ""
    _finish: Finish | None = None
    _done: int = 0
    _total: int = 0

    @property
    def pixels(self) -> Pixels:
        """The batch that is explained, its scores and targets."""
        return self.captured.pixels

    @contextmanager
    def of(self, method: str, finish: Finish | None = None) -> Iterator["Passes"]:
        """Run one method: the model in evaluation mode, and counters at zero.

        Args:
            method: Its name.
            finish: Makes its result from maps so far; None: they are not offered.
        """
        self.method, self._done, self._total, self._finish = method, 0, 0, finish
        self.forwards = self.backwards = 0
        try:
            with evaluation_mode(self.module), torch.inference_mode(False):
                yield self
        finally:
            # It holds these passes, and each would keep the other with all their tensors.
            self._finish = None

    def through(self, module: nn.Module) -> AbstractContextManager[None]:
        """Send inputs through another module, with the same counters and progress."""
        return self._replace("module", module)

    def explaining(self, captured: Capture) -> AbstractContextManager[None]:
        """Explain another capture, with the same counters and progress."""
        return self._replace("captured", captured)

    @contextmanager
    def _replace(self, name: str, value: object) -> Iterator[None]:
        original = getattr(self, name)
        setattr(self, name, value)
        try:
            yield
        finally:
            setattr(self, name, original)

    def expect(self, total: int) -> None:
        """Announce how many more inputs the method sends through the model."""
        self._total = self._done + total
        self.tell()

    def spare(self, inputs: int) -> None:
        """Announce that a number of the inputs is not sent after all."""
        self._total -= inputs
        self.tell()

    def chunks(self, total: int, inputs: int = 1) -> Iterator[slice]:
        """Cut 0 … total into batches that memory allows.

        Args:
            total: How many there are.
            inputs: How many inputs go through the model for each.
        """
        start = 0
        while start < total:
            stop = min(start + max(self.batch_size // inputs, 1), total)
            yield slice(start, stop)
            start = stop

    def scores(self, inputs: Tensor, owner: Owner = None) -> Tensor:
        """Compute the explained score of each input, without gradients.

        Args:
            inputs: (N, C, H, W) on the model's device.
            owner: Which image of the batch each was made from, see :data:`Owner`.

        Returns:
            (N,), detached.

        Raises:
            Cancelled: The caller does not want the rest.
            ModelError: The model fails on the inputs.
        """
        owners = _owners(owner, inputs)
        with torch.no_grad(), allow_any_layout():
            parts = self.over(lambda part: self._scores(inputs[part], owners[part]), len(inputs))
        return torch.cat(parts)

    def gradients(
        self,
        inputs: Tensor,
        owner: Owner = None,
        change: Callable[[Tensor], object] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute the explained score of each input, and its gradient.

        Args:
            inputs: (N, C, H, W) on the model's device.
            owner: As for :meth:`scores`.
            change: Called with the scores of each batch between its forward and its backward, for
                a method that changes what nodes of their graph send back.

        Returns:
            Scores (N,) and gradients (N, C, H, W), detached.

        Raises:
            Cancelled: The caller does not want the rest.
            ModelError: The model fails on the inputs, or the score does not depend on them.
        """
        owners = _owners(owner, inputs)

        def run(part: slice) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                pixels = inputs[part].detach().requires_grad_()
                # A copy: a model may change its input in place, which a leaf does not allow.
                scores = self._scores(pixels.clone(), owners[part], quick=change is None)
                if not scores.requires_grad:
                    raise NoGradientError("the target's score does not depend on the pixels")
                if change is not None:
                    change(scores)
                (gradient,) = torch.autograd.grad(scores.sum(), pixels)
            self.backwards += 1
            return scores.detach(), gradient

        scores, gradients = zip(*self.over(run, len(inputs)), strict=True)
        return torch.cat(scores), torch.cat(gradients)

    def over(self, run: Callable[[slice], T], total: int) -> list[T]:
        """Run a function on batches, smaller ones where memory is short.

        Args:
            run: Processes a part, and counts its passes itself.
            total: Number of inputs.

        Returns:
            What ``run`` returned, in order.

        Raises:
            Cancelled: The caller does not want the rest.
        """
        results: list[T] = []
        start = 0
        while start < total:
            stop = min(start + self.batch_size, total)
            try:
                results.append(run(slice(start, stop)))
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                self.batch_size = max(1, (stop - start) // 2)
                torch.cuda.empty_cache()
                continue
            self._done += stop - start
            start = stop
            self.tell()
        return results

    def graphs(self, inputs: Tensor, use: Callable[[Tensor, Tensor], T]) -> list[T]:
        """Call a function with each batch's graph from pixels to scores.

        Args:
            inputs: (B, C, H, W), the images of the batch.
            use: From the pixels of a batch and its scores. It counts its backward passes itself.

        Returns:
            What it returned for each batch.

        Raises:
            Cancelled: The caller does not want the rest.
            ModelError: The model fails on the inputs.
        """

        def run(part: slice) -> T:
            with torch.enable_grad():
                # A copy also because tensors made in inference mode can never be part of a graph.
                pixels = inputs[part].detach().clone().requires_grad_()
                scores = self._scores(pixels.clone(), _owners(None, inputs)[part])
                if not scores.requires_grad:
                    raise NoGradientError("the target's score does not depend on the pixels")
                return use(pixels, scores)

        return self.over(run, len(inputs))

    def captures(
        self,
        inputs: Tensor,
        targets: Tensor | Sequence[TargetFunction],
        reads: type[Source],
        layers: Sequence[LayerActivations],
        rules: Collection[str] = (),
    ) -> list[Capture]:
        """Run passes like the shared ones, for other inputs or targets.

        Args:
            inputs: (N, C, H, W) on the model's device.
            targets: (N,) int64 classes or N callables.
            reads: The source that is read of them.
            layers: Those to capture again.
            rules: Rules of :func:`kernels.fused_cam`, all in one kernel.

        Returns:
            A capture of each batch.

        Raises:
            Cancelled: The caller does not want the rest.
            CamError: As for :func:`cam._engine.capture.capture`.
        """
        at = [(layer.name, self.module.get_submodule(layer.name)) for layer in layers]

        def run(part: slice) -> Capture:
            captured = capture(
                self.module, inputs[part], targets[part], reads=[reads], layers=at, rules=rules
            )
            self.forwards += 1
            self.backwards += reads.backward
            return captured

        return self.over(run, len(inputs))

    def _scores(self, inputs: Tensor, owner: Tensor, quick: bool = False) -> Tensor:
        output = run_model(self.module, inputs, quick)
        self.forwards += 1
        return select_scores(output, self.targets_of(inputs, owner))[0]

    def targets_of(self, inputs: Tensor, owner: Owner) -> Tensor | list[TargetFunction]:
        """Return the target of the image that each input was made from."""
        targets, owners = self.pixels.targets, _owners(owner, inputs)
        if isinstance(targets, Tensor):
            return targets[owners]
        return [targets[index] for index in owners.tolist()]

    def tell(self, gather: Callable[[], Maps] | None = None) -> None:
        """Report how far the method is.

        Args:
            gather: Makes the maps (B, h, w) of all that is done, without a pass; NaN where that
                says nothing yet. It is called only if somebody asks, before this returns.

        Raises:
            Cancelled: The caller does not want the rest.
        """
        if self.report is None:
            return
        finish, partial = self._finish, None
        if gather is not None and finish is not None:

            def partial() -> Attribution:
                with torch.no_grad():
                    return finish(gather())

        progress = Progress(self.method, self._done, max(self._total, self._done), partial)
        if self.report(progress) is False:
            raise Cancelled(f"{self.method} was cancelled after {self._done} inputs")


def _owners(owner: Owner, inputs: Tensor) -> Tensor:
    """Return the image of each input, (N,) int64."""
    if isinstance(owner, int):
        return torch.full((len(inputs),), owner, device=inputs.device)
    return torch.arange(len(inputs), device=inputs.device) if owner is None else owner
