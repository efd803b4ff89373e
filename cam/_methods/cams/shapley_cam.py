"""Shapley CAM: Grad-CAM with the score's second derivatives in its weights."""

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cam._engine.forward import run_model
from cam._engine.method_sources import LayerActivations
from cam._engine.passes import Passes
from cam._engine.token_layout import main_output, replace_main_output
from cam._methods.base.maps import axes_of_places, promote, weigh_maps
from cam._methods.base.method_registry import register_method
from cam.errors import LayerError
from cam.parameters import one_of
from cam.types import Maps


@register_method(
    "shapleycam",
    title="Shapley CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    rules={"utility": one_of(("rest", "score"))},
    cost="2 forwards, and 2 backwards down to the layer",
)
def shapleycam(layer: LayerActivations, passes: Passes, *, utility: str = "rest") -> Maps:
    """Where a layer's feature maps raise a class, weighted by their share in the whole rise.

    The Shapley value of a feature map, by a Taylor series of the utility u to its second order:
    with G = ∂u/∂A and H the Hessian of u by A, w_c = mean_s (G - ½ H A)_cs; map = Σ_c w_c A_c.

    u is the paper's ReST, y + log softmax(y), where the target is a class of several; a target
    that is a callable is taken as it is. With ``utility="score"`` u is the score that is explained:
    where the network behind the layer is piecewise linear, as a linear head or ReLUs are, its H is
    0 and the map is Grad-CAM's.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the images go once more, for the product H A.
        utility: "rest" or "score".

    Returns:
        Maps (B, h, w) float32, float64 for float64.

    Raises:
        LayerError: The score does not depend on the layer.

    References:
        Cai, CAMs as Shapley Value-based Explainers, The Visual Computer 2025 (arXiv:2501.06261); as
        in pytorch-grad-cam 1.5.7, ShapleyCAM with ClassifierOutputReST
    """
    inputs = passes.pixels.inputs
    leaf = _LayerLeaf(layer)

    def weigh(_pixels: Tensor, scores: Tensor) -> Tensor:
        output = leaf.output
        gradient = None
        if scores.requires_grad:
            (gradient,) = torch.autograd.grad(
                scores.sum(), output, create_graph=True, allow_unused=True
            )
        passes.backwards += 1
        if gradient is None:
            raise LayerError(
                f"the target's score does not depend on layer {layer.name!r}; choose one on the "
                "way to it"
            )
        change = None
        if gradient.requires_grad:  # not so where the score is linear in the layer
            (change,) = torch.autograd.grad(
                gradient, output, grad_outputs=output.detach(), allow_unused=True
            )
        passes.backwards += 1
        whole = gradient.detach() if change is None else gradient.detach() - change / 2
        maps = promote(layer.layout.maps(whole))
        return maps.mean(axes_of_places(maps))

    passes.expect(len(inputs))
    module, network = passes.module.get_submodule(layer.name), passes.module
    targets, logits = passes.pixels.targets, passes.pixels.logits
    if utility == "rest" and isinstance(targets, Tensor) and logits.shape[1] > 1:
        network = _Rest(network)
    # The fast kernels of attention have no second derivative.
    with (
        module.register_forward_hook(leaf.keep),
        sdpa_kernel(SDPBackend.MATH),
        passes.through(network),
    ):
        weights = passes.graphs(inputs, weigh)
    return weigh_maps(torch.cat(weights), layer.activations)


class _Rest(nn.Module):
    """A classifier that returns each class's utility ReST instead of its logit."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return y + log softmax(y), (N, classes)."""
        logits = run_model(self.network, pixels)
        return logits + logits.log_softmax(1)


class _LayerLeaf:
    """The layer's output in the latest run, as the leaf of a graph."""

    def __init__(self, layer: LayerActivations) -> None:
        self.output = layer.activations

    def keep(self, _module: nn.Module, _inputs: object, whole: object) -> object:
        """Begin the graph here: a forward hook."""
        output = main_output(whole)
        assert isinstance(output, Tensor), "the shared passes refused anything else"
        self.output = output.detach().requires_grad_()
        # A copy: what comes next may change it in place, which a leaf does not allow.
        return replace_main_output(whole, self.output.clone())
