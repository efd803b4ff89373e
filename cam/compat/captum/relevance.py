"""Offer Captum's LRP, with the rules that it has by default."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cam._engine.evaluation_mode import attach
from cam._methods.relevance.linear_rules import Constants
from cam._methods.relevance.operation_rules import RelevanceRules
from cam._methods.relevance.relevance_pass import RelevanceNetwork
from cam.compat.captum.explained_function import Attribution, CaptumTarget, Inputs, bind
from cam.errors import MethodError

_INSTEAD = "call cam.attribute(model, inputs, cam.method('lrp', composite='epsilon'))"
# Modules with a rule in captum 0.9, and those that only give a tensor another shape.
_MODULES = (
    *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.ReLU, nn.Tanh, nn.Dropout, nn.Flatten, nn.Identity),
)
_RESHAPES = frozenset(
    (
        *("flatten", "view", "reshape", "permute", "transpose", "squeeze", "unsqueeze"),
        *("contiguous", "size", "dim", "__get__", "numel", "is_floating_point", "__len__"),
    )
)


class LRP(Attribution):
    """Layer-wise relevance propagation, the epsilon rule with Captum's 1e-9 everywhere.

    Args:
        model: A network of modules, with nothing between them but changes of shape.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model = model

    @property
    def multiplies_by_inputs(self) -> bool:
        """True."""
        return True

    def has_convergence_delta(self) -> bool:
        """Return True."""
        return True

    def attribute(
        self,
        inputs: Inputs,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        return_convergence_delta: bool = False,
        verbose: bool = False,
    ) -> Any:
        """Compute relevance of a batch.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.
            return_convergence_delta: Whether to return by how much an image's relevance misses
                the score.
            verbose: Not needed.

        Returns:
            (B, C, H, W) of the inputs' dtype, in a tuple where the inputs are; with the delta that
            too, (B,).

        Raises:
            MethodError: A module has a rule that the caller set, or the network has operations
                that Captum has no rule for and this library has.
            CamError: As :func:`cam.attribute`.
        """
        _check_modules(self.model)
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        pictures = question.inputs.detach()
        rules = RelevanceRules("epsilon", "epsilon", None, Constants(epsilon=1e-9, share=False))

        def use(pixels: Tensor, scores: Tensor) -> Tensor:
            return torch.autograd.grad(scores.sum(), pixels)[0]

        with question.passes("lrp") as passes:
            with torch.no_grad(), _only_modules(self.model):
                passes.scores(pictures)
            with passes.through(RelevanceNetwork(passes.module, rules)):
                relevance = torch.cat(passes.graphs(pictures, use))
            scores = passes.pixels.scores
        if not return_convergence_delta:
            return question.answer(relevance)
        return question.answer(relevance), scores - relevance.flatten(1).sum(1)


def _check_modules(model: nn.Module) -> None:
    for module in model.modules():
        name = type(module).__name__
        if hasattr(module, "rule"):
            raise MethodError(
                f"the rule that is set on this {name} is a class of Captum's; name rules as "
                "composite, convolution, linear and first of cam.method('lrp', …), and give that "
                "to cam.attribute"
            )
        if module is not model and not list(module.children()) and type(module) not in _MODULES:
            raise MethodError(
                f"Captum's LRP has no rule for {name}, and this library has; {_INSTEAD}"
            )


class _OperationWatch(TorchFunctionMode):
    """Refuses operations outside of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, if it is in a module or only changes a shape."""
        name = str(getattr(function, "__name__", ""))
        if not self.depth and name not in _RESHAPES and args and isinstance(args[0], Tensor):
            raise MethodError(
                f"Captum's LRP has no rule for {name}, which this network calls outside of its "
                f"modules, and this library has; {_INSTEAD}"
            )
        return function(*args, **(kwargs or {}))


@contextmanager
def _only_modules(model: nn.Module) -> Iterator[None]:
    """Refuse a network that computes something outside of its modules."""
    watch: Any = _OperationWatch()

    def enter(*_: object) -> None:
        watch.depth += 1

    def leave(*_: object) -> None:
        watch.depth -= 1

    leaves = [module for module in model.modules() if not list(module.children())]

    def start(*_: object) -> None:
        watch.__enter__()

    def stop(*_: object) -> None:
        watch.__exit__(None, None, None)

    with (
        attach(module.register_forward_pre_hook(enter) for module in leaves),
        attach(module.register_forward_hook(leave) for module in leaves),
        attach(part for part in (model.register_forward_pre_hook(start, prepend=True),)),
        attach(part for part in (model.register_forward_hook(stop, always_call=True),)),
    ):
        yield
