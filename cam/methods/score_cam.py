"""CAMs whose weights come from trying: what the score does with a feature map, or without it.

A is a layer's activations (B, C, h, w); no gradients are needed. A channel that cannot matter (one
that is the same everywhere for Score-CAM, zero everywhere for Ablation-CAM) costs no pass of its
own; in trained networks these are many.
"""

import torch
from torch import Tensor, nn

import kernels
from cam.capture import LayerCapture
from cam.errors import ModelError
from cam.methods.registry import register
from cam.models.forward import run_model
from cam.passes import Passes
from cam.types import Maps, Needs


@register(
    "scorecam",
    title="Score-CAM",
    family="cam",
    needs=Needs(layer=True, activations=True, passes=True),
    cost="1 forward, and one for each channel of the layer",
    citation=(
        "Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural "
        "Networks, CVPR Workshops 2020, equations 4 to 8; scores as in pytorch-grad-cam 1.5.7"
    ),
)
def scorecam(layer: LayerCapture, passes: Passes) -> Maps:
    """Where a layer's feature maps show what the score needs: each weighted by what it lets see.

    w = softmax over c of y(x ⊙ M_c), with M_c the map A_c brought to the picture's size and to
    [0, 1], and y the raw explained score; map = Σ_c w_c A_c.

    As in pytorch-grad-cam M_c is interpolated between the corners (``align_corners``) and passes
    (m - min) / (max - min + 1e-8), and the score of a black picture is not taken off, which the
    softmax would undo. A map that is the same everywhere masks the whole picture, exactly; there
    pytorch-grad-cam may stretch the rounding of its interpolation to a full range.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the masked pictures go.

    Returns:
        Maps (B, h, w) float32.
    """
    activations, inputs = layer.activations, passes.captured.inputs
    count, channels = activations.shape[:2]
    masks = activations.flatten(0, 1)  # (B·C, h, w)
    # All constant maps of an image give the same picture, so the first of them stands for all.
    number = torch.arange(count * channels, device=masks.device).view(count, channels)
    low, high = activations.flatten(2).aminmax(dim=2)
    constant = low == high  # (B, C)
    first = number[:, :1] + constant.int().argmax(1, keepdim=True)
    tried, place = torch.unique(torch.where(constant, first, number), return_inverse=True)
    passes.expect(len(tried))
    found = []
    for part in passes.chunks(len(tried)):
        owner = tried[part] // channels
        seen = kernels.masked_batch(
            inputs, masks[tried[part]], owner=owner, align_corners=True, stretch=True
        )
        found.append(passes.scores(seen, owner))
    weights = torch.cat(found).float()[place].softmax(1)  # (B, C)
    return _weighted(weights, activations)


@register(
    "ablationcam",
    title="Ablation-CAM",
    family="cam",
    needs=Needs(layer=True, activations=True, passes=True),
    cost="1 forward, and for each channel of the layer one of what lies behind the layer",
    citation=(
        "Desai and Ramaswamy, Ablation-CAM: Visual Explanations for Deep Convolutional Network via "
        "Gradient-free Localization, WACV 2020, equations 2 and 3"
    ),
)
def ablationcam(layer: LayerCapture, passes: Passes) -> Maps:
    """Where the feature maps are whose absence costs score, each weighted by how much.

    w_c = (y - y_c) / y with y_c the score when A_c is set to zero; map = Σ_c w_c A_c.

    A score of zero has no such share and gives NaN, a negative one turns the map's signs around, as
    the paper's equation does. pytorch-grad-cam sets a channel to zero only where the layer's
    smallest value is zero, as behind a ReLU; elsewhere it sets a large negative number, and another
    one at each place of its batch.

    What stands in front of the layer sees one picture a batch and not one a channel, where the
    network allows it: its first two runs are made both ways and compared.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the activations go in.

    Returns:
        Maps (B, h, w) float32.
    """
    activations, captured = layer.activations, passes.captured
    weights = torch.zeros(activations.shape[:2], device=activations.device)
    # A channel of zeros can be left as it is.
    live = [one.flatten(1).ne(0).any(1).nonzero()[:, 0] for one in activations]
    passes.expect(sum(map(len, live)))
    network = passes.module
    behind = _Behind(network, network.get_submodule(layer.name), captured.inputs[:1])
    passes.forwards += behind.compare(activations[:1])
    with passes.through(behind):
        for image, channels in enumerate(live):
            behind.picture = captured.inputs[image : image + 1]
            for part in passes.chunks(len(channels)):
                without = channels[part]
                row = torch.arange(len(without), device=without.device)
                ablated = activations[image].repeat(len(without), 1, 1, 1)
                ablated[row, without] = 0
                scores = passes.scores(ablated, torch.full_like(without, image))
                whole = captured.scores[image].float()
                weights[image, without] = (whole - scores.float()) / whole
    return _weighted(weights, activations)


class _Behind(nn.Module):
    """What a network puts out for one picture when a layer's output is given in its place.

    Attributes:
        picture: (1, 3, H, W), for what goes past the layer.
        short: Whether what stands in front of the layer runs on that one picture only. What goes
            past the layer then has a batch of one, which broadcasts in sums but not in
            concatenations.
    """

    def __init__(self, network: nn.Module, layer: nn.Module, picture: Tensor) -> None:
        super().__init__()
        self.network = network
        self.picture = picture
        self.short = False
        self._layer = (layer,)  # in a tuple, so that it is not registered a second time
        self._runs = 0

    def forward(self, activations: Tensor) -> Tensor:
        """From (N, C, h, w) at the layer to the logits of the N."""
        ran = 0

        def replace(_module: nn.Module, _inputs: object, output: object) -> object:
            nonlocal ran
            ran += 1
            # The recorded activations are those of the last run. A copy: what comes next may
            # change it in place, and a batch that was too large is sent again.
            return activations.clone() if ran == self._runs else output

        handle = self._layer[0].register_forward_hook(replace)
        try:
            pictures = self.picture.repeat(1 if self.short else len(activations), 1, 1, 1)
            output = run_model(self.network, pictures)
        finally:
            handle.remove()
        if not self._runs:
            self._runs = ran
        return output

    def compare(self, activations: Tensor) -> int:
        """Find out how often the layer runs, and whether the short way gives what the long does.

        Args:
            activations: (1, C, h, w) of the picture.

        Returns:
            How many forward passes that took.
        """
        with torch.no_grad():
            self(activations)
            # Two different ones, so that a network that mixes a batch shows it.
            pair = torch.cat([activations, activations / 2])
            expected = self(pair)
            self.short = True
            try:
                found = self(pair)
            except ModelError:
                self.short = False
                return 3
            # A NaN compares as different, and the long way is taken.
            self.short = found.shape == expected.shape and bool(
                ((found - expected).abs() <= 1e-3 * expected.abs().max()).all()
            )
        return 3


def _weighted(weights: Tensor, activations: Tensor) -> Maps:
    """Σ_c w_c A_c from (B, C) and (B, C, h, w)."""
    raw = torch.einsum("bc,bchw->bhw", weights, activations.float())
    return Maps(raw=raw, normalised=kernels.normalise(raw))
