"""Follow the relevance of a transformer's attention, times its gradient."""

import torch
from torch import Tensor, nn

from cam._engine.method_sources import AttentionGradients
from cam._engine.passes import Passes
from cam._methods.attention.attention_methods import roll_out
from cam._methods.base.gradient_override import override_gradient
from cam._methods.base.method_registry import register_method
from cam._methods.relevance.linear_rules import Constants, nonzero
from cam._methods.relevance.operation_rules import RelevanceRules
from cam._methods.relevance.relevance_pass import RelevanceNetwork
from cam.types import Maps

# Positive contributions to matrices, without biases (equations 3 and 4), half of a product to each
# factor, branches of a sum by the size of their relevance (equations 8 to 10), and everything else
# passes on what it gets.
_RULES = RelevanceRules(
    convolution="z_plus",
    linear="z_plus",
    constants=Constants(epsilon=0.0),
    softmax="pass",
    norm="pass",
    normalised_sums=True,
)


@register_method(
    "transformer_attribution",
    title="Transformer attribution",
    family="attention",
    kind="evidence",
    reads=AttentionGradients,
    volumes=True,
    full=True,
    cost="2 forwards, and 2 backwards down to the first attention, one of them by rules",
)
def transformer_attribution(attention: AttentionGradients, passes: Passes) -> Maps:
    """Which patches reach the classifier through attention that is relevant to the class.

    With R_l the relevance of layer l's attention, propagated from a relevance of 1 at the class,
    and G_l its gradient: C = Π_l (I + mean over heads of max(G_l ⊙ R_l, 0)), the last layer
    leftmost; map = the row of C - I that the classifier reads. (For a class token I adds nothing at
    the patches, and for a mean of the patches it would add the same to each.)

    Args:
        attention: The attention of all layers, with its gradients.
        passes: Where the images go once more, for the relevance.

    Returns:
        Maps (B, rows, columns) of patches, float32, float64 for float64.

    Raises:
        ModelError: The model has no attention over all of its tokens.

    References:
        Chefer, Gur and Wolf, Transformer Interpretability Beyond Attention Visualization, CVPR
        2021, equations 3 to 10, 13 and 14
    """
    layers, tokens = len(attention.weights), attention.weights[0].shape[-1]
    network = _UnitRelevance(passes.module, tokens)

    def use(_pixels: Tensor, scores: Tensor) -> list[Tensor]:
        weights = network.weights[:layers]
        slopes = torch.autograd.grad(scores.sum(), weights)
        passes.backwards += 1
        return [
            (matrices * slope).detach().reshape(len(scores), -1, tokens, tokens)
            for matrices, slope in zip(weights, slopes, strict=True)
        ]

    inputs = passes.pixels.inputs
    passes.expect(len(inputs))
    with passes.through(network):
        parts = passes.graphs(inputs, use)
    relevance = [torch.cat(layer) for layer in zip(*parts, strict=True)]
    pairs = zip(relevance, attention.gradients, strict=True)
    return roll_out(attention, [layer * gradient for layer, gradient in pairs])


class _UnitRelevance(nn.Module):
    """A network in whose attention activation times gradient is the relevance of a score of 1.

    Attributes:
        weights: (…, N, N) of each attention over all tokens in the last pass, in its graph.
    """

    def __init__(self, network: nn.Module, tokens: int) -> None:
        super().__init__()
        self.rules = RelevanceNetwork(network, _RULES, self._keep)
        self.weights: list[Tensor] = []
        self._shape = (tokens, tokens)

    def _keep(self, weights: Tensor) -> Tensor:
        if weights.shape[-2:] == self._shape:
            self.weights.append(weights)
        return weights

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the network's output, whose relevance is the score's gradient by it."""
        self.weights = []
        output = self.rules(pixels)
        return override_gradient(output, output / nonzero(output.detach()))
