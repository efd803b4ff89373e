"""Score-CAMs averaged over noisy masks, or over multiples of the picture.

M_c is the map A_c brought to [0, 1] by its own minimum and maximum, (A_c - min) / (max - min +
1e-8), and then to the picture's size by bilinear interpolation between the centres of its cells,
as in torchcam.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cam import kernels
from cam._engine.method_sources import LayerActivations
from cam._engine.passes import Passes
from cam._methods.base.draws import Draws, Sum, mean_of, tell_errors
from cam._methods.base.maps import axes_of_places, fill_up, promote, weigh_maps
from cam._methods.base.method_registry import register_method
from cam._methods.base.noisy_copies import draw_noise
from cam._methods.cams.score_cam import find_distinct_masks, spread_scores
from cam.parameters import SEED, integer, number
from cam.types import Maps


@register_method(
    "sscam",
    rules={"samples": integer(1), "noise": number(0), "seed": SEED},
    title="SS-CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="1 forward, and one for each sample of each channel of the layer: 35 samples by default",
)
def sscam(
    layer: LayerActivations,
    passes: Passes,
    *,
    samples: int = 35,
    noise: float = 2.0,
    seed: int = 0,
) -> Maps:
    """Score-CAM whose scores are means over noisy masks.

    w = softmax over c of mean_k y(x ⊙ (M_c + σ ε_ck)), with ε standard normal and y the explained
    score; map = Σ_c w_c A_c. The score of the whole image is not taken off, which the softmax
    would undo.

    ε depends on the seed, the shape of an image, the number of channels and the kind of device
    alone, so an image has the same map in any batch.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the masked images go.
        samples: How often each mask is tried.
        noise: σ.
        seed: Of the noise.

    Returns:
        Maps (B, h, w) float32, float64 for float64.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Wang et al., SS-CAM: Smoothed Score-CAM for Sharper Visual Feature Localization, 2020; noise
        on the masks as in torchcam 0.5, SSCAM
    """
    inputs = passes.pixels.inputs
    masks = _stretch(layer.activations)  # (B, C, h, w)
    channels = masks.shape[1]
    passes.expect(len(inputs) * samples * channels)
    weights: list[Tensor] = []
    estimates = []

    def gather(by_sample: Tensor, tried: int) -> Maps:
        """Weigh those maps of an image whose masks were tried, by their means so far."""
        times = torch.arange(channels, device=by_sample.device) < tried % channels
        times = times + tried // channels  # (C,) how often each was tried
        means = torch.where(times > 0, by_sample.sum(0) / times, -torch.inf)
        so_far = fill_up([*weights, means.softmax(0)], len(inputs))
        return weigh_maps(so_far, layer.activations)

    for image, picture in enumerate(inputs):
        generator = torch.Generator(picture.device).manual_seed(seed)
        scores = masks.new_zeros(samples * channels, dtype=torch.float32)
        by_sample = scores.view(samples, channels)
        for part in passes.chunks(samples * channels):
            number = torch.arange(part.start, part.stop, device=picture.device) % channels
            drawn = draw_noise(picture[0], len(number), generator)  # (n, H, W)
            masked = kernels.masked_batch(inputs[image : image + 1], masks[image, number])
            masked += noise * drawn[:, None] * picture
            scores[part] = passes.scores(masked, image).float()
            passes.tell(partial(gather, by_sample, part.stop))
        activations = promote(layer.activations[image])

        def show(groups: Sequence[Sum], maps: Tensor = activations) -> Tensor:
            weight = mean_of(groups).softmax(0).to(maps.dtype)
            summed: Tensor = torch.tensordot(weight, maps, 1)
            return summed

        draws = Draws(samples, Sum, show)
        for part in draws.batches(passes):
            for group, rows in draws.cut(part):
                group.add(by_sample[part][rows].sum(0), len(rows))
        weights.append(by_sample.mean(0).softmax(0))
        estimates.append(draws.estimate())
    maps = weigh_maps(torch.stack(weights), layer.activations)
    return tell_errors(maps, estimates, "samples")


@register_method(
    "iscam",
    rules={"steps": integer(1)},
    title="IS-CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="1 forward, and one for each step of each channel of the layer: 10 steps by default",
)
def iscam(layer: LayerActivations, passes: Passes, *, steps: int = 10) -> Maps:
    """Score-CAM whose scores are means over growing multiples of the masked image.

    w = softmax over c of mean_i y(f_i x ⊙ M_c), f_i = Σ_{j=1..i} j / n for i = 1 … n, with n the
    steps and y the explained score; map = Σ_c w_c A_c. The factors are torchcam's, and go beyond 1,
    up to (n + 1) / 2: they add up the steps j / n, as the paper's sum does.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the masked images go.
        steps: n.

    Returns:
        Maps (B, h, w) float32, float64 for float64.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Naidu et al., IS-CAM: Integrated Score-CAM for axiomatic-based explanations, 2020; factors
        as in torchcam 0.5, ISCAM
    """
    inputs = passes.pixels.inputs
    channels = layer.activations.shape[1]
    masks = _stretch(layer.activations).flatten(0, 1)  # (B·C, h, w)
    tried, index = find_distinct_masks(layer.activations)
    passes.expect(len(tried) * steps)
    # 1 + 2 + … + i = i (i + 1) / 2.
    fractions = [step * (step + 1) / (2 * steps) for step in range(1, steps + 1)]
    means: list[Tensor] = []

    def gather() -> Maps:
        """Weigh those of an image's maps that were tried."""
        weights = spread_scores(torch.cat(means), index, len(tried)).softmax(1)  # (B, C)
        return weigh_maps(weights, layer.activations)

    for part in passes.chunks(len(tried), steps):
        owner = tried[part] // channels
        masked = kernels.masked_batch(inputs, masks[tried[part]], owner=owner)
        multiples = torch.cat([fraction * masked for fraction in fractions])
        scores = passes.scores(multiples, owner.repeat(steps)).float()
        means.append(scores.view(steps, -1).mean(0))
        passes.tell(gather)
    return gather()


def _stretch(activations: Tensor) -> Tensor:
    """Stretch each map to [0, 1]; constant ones become zeros."""
    low = activations.amin(axes_of_places(activations), keepdim=True)
    high = activations.amax(axes_of_places(activations), keepdim=True)
    return (activations - low) / (high - low + 1e-8)
