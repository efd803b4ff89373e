"""CAMs without class or gradient: FEM and random weights."""

import hashlib

import torch
from torch import Tensor

from cam._engine.method_sources import LayerActivations
from cam._methods.base.maps import axes_of_places, promote, weigh_maps
from cam._methods.base.method_registry import register_method
from cam.parameters import SEED, number, one_of
from cam.types import Maps

_SUMS = ("masks", "maps")


@register_method(
    "fem",
    rules={"sigmas": number(), "sum_of": one_of(_SUMS)},
    title="FEM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="1 forward",
)
def fem(layer: LayerActivations, *, sigmas: float = 2.0, sum_of: str = "masks") -> Maps:
    """Where a layer's feature maps are unusually strong, whatever the class.

    With μ_c and σ_c the mean and standard deviation of A_c over space, and the mask
    M_c = [A_c > μ_c + k σ_c]: map = Σ_c μ_c M_c, as the paper's and xplique's. With
    ``sum_of="maps"`` it is pytorch-grad-cam's, map = Σ_c mean_s(M_c) A_c: the maps themselves, each
    weighted by how large a part of it is strong.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        sigmas: k.
        sum_of: ``"masks"`` or ``"maps"``.

    Returns:
        Maps (B, h, w) float32, float64 for float64.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Fuad et al., Features Understanding in 3D CNNs for Actions Recognition in Video, IPTA 2020;
        the sum of maps as in pytorch-grad-cam 1.5.7, FEM
    """
    activations = promote(layer.activations)
    axes = axes_of_places(activations)
    deviation, mean = torch.std_mean(activations, axes, correction=0, keepdim=True)
    strong = (activations > mean + sigmas * deviation).to(activations.dtype)
    if sum_of == "maps":
        return weigh_maps(strong.mean(axes), activations)
    return weigh_maps(mean.flatten(1), strong)


@register_method(
    "randomcam",
    rules={"seed": SEED},
    title="Random CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="1 forward",
)
def randomcam(layer: LayerActivations, *, seed: int = 0) -> Maps:
    """Feature maps with weights drawn by chance: what a method must beat to have said anything.

    map = Σ_c w_c A_c with w_c uniform between -1 and 1, drawn for each image: one draw for all
    of them would be one map's luck, and no chance to compare with. An image has the same weights
    in any batch, on each device and at every call, as its pixels are part of the seed.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        seed: Of the weights, beside the pixels.

    Returns:
        Maps (B, h, w) float32, float64 for float64.

    Raises:
        MethodError: A parameter is out of range.

    References:
        pytorch-grad-cam 1.5.7, RandomCAM (Gildenblat and contributors)
    """
    channels = layer.activations.shape[1]
    drawn = [
        torch.rand(channels, generator=torch.Generator().manual_seed(_mix(seed, picture)))
        for picture in layer.inputs.cpu()
    ]
    weights = torch.stack(drawn).to(layer.activations.device) * 2 - 1  # (B, C)
    return weigh_maps(weights, layer.activations)


def _mix(seed: int, picture: Tensor) -> int:
    """Mix a seed with a picture's values (C, H, W) to another seed."""
    # The same picture in another precision has the same draw.
    rounded = picture.to(torch.bfloat16).contiguous().reshape(-1)
    values = rounded.view(torch.uint8).numpy().tobytes()
    return int.from_bytes(hashlib.sha256(f"{seed} ".encode() + values).digest()[:7])
