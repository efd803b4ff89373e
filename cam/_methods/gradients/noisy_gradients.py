"""Methods that average the gradient by the pixels over noisy copies of a picture.

Noisy copy k of a picture x is x_k = x + σ ε_k, with ε_k standard normal and σ the given share of
the picture's own range of values, max x - min x. Neither the copies nor their gradients are kept:
the moments of the gradients G_k are gathered batch by batch.

ε depends on the seed, the shape of a picture and the kind of device alone. So all pictures of a
batch get the same ε, copies of different pictures never share a batch of the network, and a picture
has the same map in any batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cam import kernels
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.method_registry import register_method
from cam.kernels.moments.operation import Moments
from cam.parameters import SEED, integer, number
from cam.types import Maps

_RULES = {"samples": integer(1), "noise": number(above=0), "seed": SEED}
_COST = "1 forward, and a forward and a backward for each sample: 25 by default"


@register_method(
    "smoothgrad",
    rules=_RULES,
    title="SmoothGrad",
    family="gradient",
    reads=Pixels,
    passes=True,
    cost=_COST,
    citation=(
        "Smilkov et al., SmoothGrad: removing noise by adding noise, ICML Workshop on "
        "Visualization for Deep Learning 2017, section 2.2"
    ),
    percentile=99,
)
def smoothgrad(
    pixels: Pixels, passes: Passes, *, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Maps:
    """Saliency without its speckle: the gradient averaged over noisy copies of the picture.

    map = max_c |mean over k of G_kc|, min-max normalised for each image.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the noisy copies go.
        samples: How many copies of each picture.
        noise: σ as a share of the picture's range of values.
        seed: Of the noise.

    Returns:
        Maps (B, H, W) float32, float64 for float64; nothing is negative.

    Raises:
        MethodError: A parameter is out of range.
    """
    gradients = _Noisy(samples, noise, seed)
    return _maps(gradients.gather(pixels, passes, lambda moments: moments.mean))


@register_method(
    "vargrad",
    rules=_RULES | {"samples": integer(2)},
    title="VarGrad",
    family="gradient",
    reads=Pixels,
    passes=True,
    cost=_COST,
    citation=(
        "Adebayo et al., Local Explanation Methods for Deep Neural Networks Lack Sensitivity to "
        "Parameter Values, ICLR Workshop 2018"
    ),
    percentile=99,
)
def vargrad(
    pixels: Pixels, passes: Passes, *, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Maps:
    """Where the gradient changes most between noisy copies of the picture: its variance.

    map = max_c mean over k of (G_kc - mean over k of G_kc)², min-max normalised for each image.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the noisy copies go.
        samples: How many copies of each picture; at least 2.
        noise: σ as a share of the picture's range of values.
        seed: Of the noise.

    Returns:
        Maps (B, H, W) float32, float64 for float64; nothing is negative.

    Raises:
        MethodError: A parameter is out of range.
    """
    gradients = _Noisy(samples, noise, seed)
    return _maps(gradients.gather(pixels, passes, lambda moments: moments.variance))


@register_method(
    "squaregrad",
    rules=_RULES,
    title="SmoothGrad squared",
    family="gradient",
    reads=Pixels,
    passes=True,
    cost=_COST,
    citation=(
        "Hooker et al., A Benchmark for Interpretability Methods in Deep Neural Networks, "
        "NeurIPS 2019, SmoothGrad-Squared"
    ),
    percentile=99,
)
def squaregrad(
    pixels: Pixels, passes: Passes, *, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Maps:
    """Where the gradient is large in noisy copies of the picture, whatever its sign in each.

    map = max_c mean over k of G_kc², min-max normalised for each image.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the noisy copies go.
        samples: How many copies of each picture.
        noise: σ as a share of the picture's range of values.
        seed: Of the noise.

    Returns:
        Maps (B, H, W) float32, float64 for float64; nothing is negative.

    Raises:
        MethodError: A parameter is out of range.
    """
    gradients = _Noisy(samples, noise, seed)
    return _maps(gradients.gather(pixels, passes, lambda moments: moments.mean_square))


class _Noisy:
    """The gradients of noisy copies."""

    def __init__(self, samples: int, noise: float, seed: int) -> None:
        self._samples = samples
        self._noise = noise
        self._seed = seed

    def gather(self, pixels: Pixels, passes: Passes, moment: Callable[[Moments], Tensor]) -> Tensor:
        """A moment of the gradients of each picture's copies, (B, C, H, W)."""
        inputs = pixels.inputs
        passes.expect(len(inputs) * self._samples)
        found = []
        for image, picture in enumerate(inputs):
            generator = torch.Generator(inputs.device).manual_seed(self._seed)
            scale = self._noise * (picture.max() - picture.min())
            moments = Moments()
            for part in passes.chunks(self._samples):
                # Drawn one by one, so that they are the same however the copies are divided.
                drawn = torch.stack(
                    [_drawn(picture, generator) for _ in range(part.stop - part.start)]
                )
                copies = torch.addcmul(picture, drawn, scale)  # (n, C, H, W)
                owner = torch.full((len(copies),), image, device=inputs.device)
                _, gradients = passes.gradients(copies, owner)
                moments.add(gradients[:, None])
            found.append(moment(moments))
        return torch.cat(found)


def _drawn(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise for one copy, (C, H, W), the same but for rounding in any dtype."""
    drawn = torch.randn(picture.shape, generator=generator, device=picture.device)
    return drawn.to(picture.dtype)


def _maps(gradient: Tensor) -> Maps:
    normalised, raw = kernels.gradient_map(gradient, reduce="max", normalise=True, return_raw=True)
    return Maps(raw=raw, normalised=normalised)
