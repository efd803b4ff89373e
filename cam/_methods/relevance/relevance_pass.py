"""Send relevance from the output to the pixels, and check what arrives."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cam._engine.forward import run_model
from cam._engine.passes import Passes
from cam._methods.base.gradient_override import freeze_parameters
from cam._methods.base.maps import reduce_gradient
from cam._methods.relevance.linear_rules import nonzero
from cam._methods.relevance.operation_rules import RelevanceOverrides, RelevanceRules
from cam.targets import select_scores
from cam.types import Maps

# How far the relevance of the pixels may be from what it should be, as a share, without a remark.
TOLERANCE = 0.05
BIASES = ("share", "absorb")


class RelevanceNetwork(nn.Module):
    """A network whose gradient by the pixels is their relevance.

    Args:
        network: What computes the output.
        rules: Of each kind of operation.
        keep: Called with each attention's weights, returns what the network goes on with.
    """

    def __init__(
        self,
        network: nn.Module,
        rules: RelevanceRules,
        keep: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.rules = rules
        self.keep = keep

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the network's output, with the gradients by which relevance goes back."""
        start = _TimesInput.apply(pixels)
        overrides = RelevanceOverrides(len(pixels), self.rules, self.keep)
        with freeze_parameters(self.network), overrides:
            return run_model(self.network, start)


class _TimesInput(torch.autograd.Function):
    """Returns its input, and sends back the gradient times the input."""

    @staticmethod
    def forward(context: Any, pixels: Tensor) -> Tensor:
        context.save_for_backward(pixels)
        return pixels.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (pixels,) = context.saved_tensors
        return gradients[0] * nonzero(pixels)


def share_score(passes: Passes, rules: RelevanceRules) -> Maps:
    """Share each image's score out among its pixels.

    Args:
        passes: Where the pictures go once more.
        rules: Of each kind of operation.

    Returns:
        Maps (B, H, W) of relevance, with remarks where it does not add up to the score.
    """
    inputs = passes.pixels.inputs
    passes.expect(len(inputs))

    def use(pixels: Tensor, scores: Tensor) -> Tensor:
        passes.backwards += 1
        return torch.autograd.grad(scores.sum(), pixels)[0]

    with passes.through(RelevanceNetwork(passes.module, rules)):
        relevance = torch.cat(passes.graphs(inputs, use))
    reason = (
        "an operation without a rule, or cancellation, is behind the rest"
        if rules.constants.share
        else "the rest stays with biases and other constants; bias='share' hands it on"
    )
    return _check_conservation(passes, reduce_gradient(relevance), reason)


def _check_conservation(passes: Passes, maps: Maps, reason: str) -> Maps:
    """Remark on maps that do not add up to the score."""
    with torch.enable_grad():
        logits = passes.pixels.logits.detach().clone().requires_grad_()
        scores = select_scores(logits, passes.targets_of(logits, None))[0]
        slopes = torch.autograd.grad(scores.sum(), logits)[0]
    # What the logits contribute to the score: all of it, where it is a sum of logits.
    expected = (logits * slopes).detach().double().flatten(1).sum(1)
    raw = maps.raw.double()
    sums = raw.sum(tuple(range(1, raw.ndim)))
    remarks = []
    for image, (arrived, score) in enumerate(zip(sums.tolist(), expected.tolist(), strict=True)):
        # NaN is reported elsewhere, and is not above anything.
        if abs(arrived - score) > TOLERANCE * abs(score):
            remarks.append(
                (
                    image,
                    f"the relevance adds up to {arrived:.3g} at the pixels, but the score is "
                    f"{score:.3g}; {reason}",
                )
            )
    return replace(maps, remarks=tuple(remarks))
