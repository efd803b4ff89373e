"""Smooth Grad-CAM++: Grad-CAM++ averaged over noisy copies of the picture."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cam._engine.method_sources import LayerActivations, LayerGradients
from cam._engine.passes import Passes
from cam._methods.base.draws import Draws, Sum, mean_of, tell_errors
from cam._methods.base.maps import fill_up, weigh_maps
from cam._methods.base.method_registry import register_method
from cam._methods.base.noisy_copies import draw_copies
from cam.parameters import SEED, integer, number
from cam.types import Maps


@register_method(
    "smoothgradcam_plus_plus",
    rules={"samples": integer(1), "noise": number(above=0), "seed": SEED},
    title="Smooth Grad-CAM++",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost=(
        "1 forward, and a forward and a backward down to the layer for each sample: 10 by default"
    ),
)
def smoothgradcam_plus_plus(
    layer: LayerActivations,
    passes: Passes,
    *,
    samples: int = 10,
    noise: float = 0.1,
    seed: int = 0,
) -> Maps:
    """Grad-CAM++ whose derivatives are means over noisy copies of the image.

    With G_k the gradient of copy k by the layer's maps, D_p = mean_k G_k^p, and A the maps of the
    image itself: w_c = Σ_s α_cs max(D_1, 0)_cs with α = D_2 / (2 D_2 + D_3 Σ_s A_cs), 0 where D_2
    is; map = Σ_c w_c A_c. D_2 in the numerator is Grad-CAM++'s, which the paper prints as D_1.

    torchcam differs in three places: it takes max(G, 0) and the A of the map from the last copy
    alone, and sums D_3 A over space in place of A. But for the second, it is the same where the
    gradient is the same at every place and for every copy, as it is where a mean and one linear
    layer follow.

    The noise depends on the seed, the shape of an image and the kind of device alone, so an image
    has the same map in any batch.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the noisy copies go.
        samples: How many copies of each image.
        noise: Standard deviation of the noise, as a share of the image's range of values.
        seed: Of the noise.

    Returns:
        Maps (B, h, w) float32, float64 for float64.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Omeiza et al., Smooth Grad-CAM++: An Enhanced Inference Level Visualization Technique for
        Deep Convolutional Neural Network Models, 2019, equations 4 to 6
    """
    pixels = passes.pixels
    passes.expect(len(pixels.inputs) * samples)
    weights: list[Tensor] = []
    estimates = []

    def gather(draws: Draws[Sum], activations: Tensor) -> Maps:
        """Make the maps of the images so far, NaN for those to come."""
        so_far = [*weights, _weights(mean_of(draws.filled), activations)]
        return weigh_maps(fill_up(so_far, len(pixels.inputs)), layer.activations)

    for image, picture in enumerate(pixels.inputs):
        activations = layer.activations[image].double()

        def show(groups: Sequence[Sum], maps: Tensor = activations) -> Tensor:
            summed: Tensor = torch.tensordot(_weights(mean_of(groups), maps), maps, 1)
            return summed

        draws, start = Draws(samples, Sum, show), 0
        for copies in draw_copies(picture, draws.batches(passes), noise, seed):
            part = slice(start, start + len(copies))
            gradients = torch.cat(_gradients(layer, passes, copies, image))
            for group, rows in draws.cut(part):
                powers = [(gradients[rows] ** power).sum(0) for power in (1, 2, 3)]
                group.add(torch.stack(powers), len(rows))
            start = part.stop
            passes.tell(partial(gather, draws, activations))
        weights.append(_weights(mean_of(draws.groups), activations))
        estimates.append(draws.estimate())
    maps = weigh_maps(torch.stack(weights), layer.activations)
    return tell_errors(maps, estimates, "samples")


def _gradients(layer: LayerActivations, passes: Passes, copies: Tensor, image: int) -> list[Tensor]:
    """Compute float64 gradients (n, C, h, w) of copies by the layer."""
    targets = passes.targets_of(copies, image)
    captures = passes.captures(copies, targets, LayerGradients, [layer])
    # Small numbers, of which squares and cubes are taken.
    return [
        source.gradients.double()
        for captured in captures
        for source in captured.read(LayerGradients)
    ]


def _weights(powers: Tensor, activations: Tensor) -> Tensor:
    """Compute Grad-CAM++'s weights (C,) from mean powers (3, C, h, w)."""
    first, second, third = powers
    axes = tuple(range(1, activations.ndim))
    below = 2 * second + third * activations.sum(axes, keepdim=True)
    share = torch.where(second == 0, 0, second / below)
    return (share * torch.where(first > 0, first, first * 0)).sum(axes)
