"""CAMs weighted by score changes: Score-CAM and Ablation-CAM.

A is a layer's activations (B, C, h, w); no gradients are needed. A channel that cannot matter (one
that is the same everywhere for Score-CAM, zero everywhere for Ablation-CAM) costs no separate pass;
trained networks have many.
"""

from functools import partial

import torch
from torch import Tensor

from cam import kernels
from cam._engine.method_sources import LayerActivations
from cam._engine.passes import Passes
from cam._methods.base.downstream import Downstream
from cam._methods.base.maps import fill_up, weigh_maps
from cam._methods.base.method_registry import register_method
from cam.types import Maps


@register_method(
    "scorecam",
    title="Score-CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="1 forward, and one for each channel of the layer",
)
def scorecam(layer: LayerActivations, passes: Passes) -> Maps:
    """Where a layer's feature maps show what the score needs: each weighted by what it lets see.

    w = softmax over c of y(x ⊙ M_c), with M_c the map A_c brought to the image's size and to
    [0, 1], and y the raw explained score; map = Σ_c w_c A_c.

    As in pytorch-grad-cam M_c is interpolated between the corners (``align_corners``) and passes
    (m - min) / (max - min + 1e-8), and the score of a black image is not taken off, which the
    softmax would undo. A map that is the same everywhere masks the whole image, exactly; there
    pytorch-grad-cam may stretch the rounding of its interpolation to a full range.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the masked images go.

    Returns:
        Maps (B, h, w) float32.

    References:
        Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural
        Networks, CVPR Workshops 2020, equations 4 to 8; scores as in pytorch-grad-cam 1.5.7
    """
    activations, inputs = layer.activations, passes.pixels.inputs
    channels = activations.shape[1]
    masks = activations.flatten(0, 1)  # (B·C, h, w)
    tried, index = find_distinct_masks(activations)
    passes.expect(len(tried))
    scores: list[Tensor] = []

    def gather() -> Maps:
        """Weigh those of an image's maps that were tried."""
        weights = spread_scores(torch.cat(scores).float(), index, len(tried)).softmax(1)  # (B, C)
        return weigh_maps(weights, activations)

    for part in passes.chunks(len(tried)):
        owner = tried[part] // channels
        masked = kernels.masked_batch(
            inputs, masks[tried[part]], owner=owner, align_corners=True, stretch=True
        )
        scores.append(passes.scores(masked, owner))
        passes.tell(gather)
    return gather()


def spread_scores(scores: Tensor, index: Tensor, count: int) -> Tensor:
    """Return the score of each map, (B, C), -∞ where its mask was not tried yet.

    Args:
        scores: (m,) of the masks that were tried, the first of all.
        index: (B, C), which mask stands for each map.
        count: Of masks, M.
    """
    rest = scores.new_full((count - len(scores),), -torch.inf)
    return torch.cat([scores, rest])[index]


def find_distinct_masks(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Find the maps (B, C, h, w) that mask a picture differently.

    All constant maps of an image give the same picture, so the first of them stands for all.

    Returns:
        Their numbers (M,), b·C + c each, and (B, C) the index among the M for each map.
    """
    count, channels = activations.shape[:2]
    number = torch.arange(count * channels, device=activations.device).view(count, channels)
    low, high = activations.flatten(2).aminmax(dim=2)
    constant = low == high  # (B, C)
    first = number[:, :1] + constant.int().argmax(1, keepdim=True)
    numbers, index = torch.unique(torch.where(constant, first, number), return_inverse=True)
    return numbers, index


@register_method(
    "ablationcam",
    title="Ablation-CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="1 forward, and for each channel of the layer one of what lies behind the layer",
)
def ablationcam(layer: LayerActivations, passes: Passes) -> Maps:
    """Where the feature maps are whose absence costs score, each weighted by how much.

    w_c = (y - y_c) / y with y_c the score when A_c is set to zero; map = Σ_c w_c A_c.

    A score of zero has no such share and gives NaN, a negative one turns the map's signs around, as
    the paper's equation does. pytorch-grad-cam sets a channel to zero only where the layer's
    smallest value is zero, as behind a ReLU; elsewhere it sets a large negative number, and another
    one at each place of its batch.

    What comes before the layer runs once for each image, where the network allows it: a pair of
    inputs is run in both modes and compared.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the activations go in.

    Returns:
        Maps (B, h, w) float32.

    References:
        Desai and Ramaswamy, Ablation-CAM: Visual Explanations for Deep Convolutional Network via
        Gradient-free Localization, WACV 2020, equations 2 and 3
    """
    activations, pixels = layer.activations, passes.pixels
    weights = torch.zeros(activations.shape[:2], device=activations.device)
    # A score that is not finite has no shares, and cannot tell modes of passes apart; its map
    # becomes NaN in the end.
    finite = pixels.scores.isfinite()
    # A channel of zeros can be left as it is.
    live = {
        image: activations[image].flatten(1).ne(0).any(1).nonzero()[:, 0]
        for image in finite.nonzero()[:, 0].tolist()
    }
    passes.expect(sum(map(len, live.values())))

    def gather(image: int) -> Maps:
        """Make the maps of the images so far, NaN for those to come."""
        return weigh_maps(fill_up(list(weights[: image + 1]), len(weights)), activations)

    downstream = Downstream(passes.module, layer)
    with passes.through(downstream):
        for image, channels in live.items():
            passes.forwards += downstream.record(pixels.inputs[image : image + 1])
            if not downstream.mode:
                passes.forwards += downstream.choose_mode(activations[image : image + 1])
            for part in passes.chunks(len(channels)):
                without = channels[part]
                row = torch.arange(len(without), device=without.device)
                ablated = activations[image].repeat(len(without), *[1] * (activations.ndim - 1))
                ablated[row, without] = 0
                scores = passes.scores(ablated, image)
                whole = pixels.scores[image].float()
                weights[image, without] = (whole - scores.float()) / whole
                # Of channels that were not tried, nothing is added yet.
                passes.tell(partial(gather, image))
    return weigh_maps(weights, activations)
