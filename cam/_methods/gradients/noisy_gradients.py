"""Average the gradient by the pixels over noisy copies of a picture.

Noisy copy k of a picture x is x_k = x + σ ε_k, with ε_k standard normal and σ the given share of
the picture's range of values, max x - min x. Neither the copies nor their gradients are kept: the
moments of the gradients G_k are gathered batch by batch. Each function here returns the moment that
a method shows; the error of the map follows from the moments of groups of copies.

ε depends on the seed, the shape of a picture and the kind of device alone. So all pictures of a
batch get the same ε, copies of different pictures never share a batch of the network, and a picture
has the same map in any batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.draws import STEADY, Draws, Estimate, tell_errors
from cam._methods.base.maps import fill_up, reduce_gradient
from cam._methods.base.method_registry import register_method
from cam._methods.base.noisy_copies import draw_copies
from cam.kernels.moments.operation import Moments
from cam.parameters import SEED, integer, number
from cam.types import Maps


@dataclass(frozen=True)
class PooledMoments:
    """The moments of several groups of samples together.

    Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances, 1979.

    Attributes:
        groups: Each with at least one sample.
    """

    groups: Sequence[Moments]

    @property
    def mean(self) -> Tensor:
        """The mean, (B, C, H, W)."""
        return self._average([group.mean for group in self.groups])

    @property
    def variance(self) -> Tensor:
        """The variance, (B, C, H, W)."""
        mean = self.mean
        return self._average(
            [group.variance + (group.mean - mean).square() for group in self.groups]
        )

    @property
    def mean_square(self) -> Tensor:
        """The mean of the squares, (B, C, H, W)."""
        return self._average([group.mean_square for group in self.groups])

    def _average(self, values: Sequence[Tensor]) -> Tensor:
        counts = [group.count for group in self.groups]
        weighted = zip(counts, values, strict=True)
        return torch.stack([count * value for count, value in weighted]).sum(0) / sum(counts)


Moment = Callable[[PooledMoments], Tensor]
"""From the gradients of a picture's copies to a moment of them, (1, C, H, W)."""


def register_moment(name: str, *, title: str, least: int = 1) -> Callable[[Moment], Moment]:
    """Register a moment of noisy gradients as a method.

    Args:
        name: Of the method.
        title: The name that its paper gives it.
        least: Fewest samples.
    """

    def add(moment: Moment) -> Moment:
        def method(
            pixels: Pixels,
            passes: Passes,
            *,
            samples: int = 4000,
            noise: float = 0.15,
            steady: float = 0.95,
            seed: int = 0,
        ) -> Maps:
            passes.expect(len(pixels.inputs) * samples)
            gathered: list[Tensor] = []
            estimates: list[Estimate] = []

            def show(groups: Sequence[Moments]) -> Tensor:
                return reduce_gradient(moment(PooledMoments(groups)), reduce="max").raw[0]

            def finish(draws: Draws[Moments]) -> Maps:
                """Make the maps of the images so far, NaN for those to come."""
                moments = [*gathered, moment(PooledMoments(draws.filled))[0]]
                return reduce_gradient(fill_up(moments, len(pixels.inputs)), reduce="max")

            for image, picture in enumerate(pixels.inputs):
                draws, start = Draws(samples, Moments, show), 0
                for copies in draw_copies(picture, draws.batches(passes, steady), noise, seed):
                    part = slice(start, start + len(copies))
                    _, gradients = passes.gradients(copies, image)
                    for moments, rows in draws.cut(part):
                        moments.add(gradients[rows, None])
                    start = part.stop
                    if start >= least:
                        passes.tell(partial(finish, draws))
                gathered.append(moment(PooledMoments(draws.groups))[0])
                estimates.append(draws.estimate())
            maps = reduce_gradient(torch.stack(gathered), reduce="max")
            return tell_errors(maps, estimates, "samples")

        method.__doc__ = moment.__doc__
        register_method(
            name,
            rules={
                "samples": integer(least),
                "noise": number(above=0),
                "steady": STEADY,
                "seed": SEED,
            },
            title=title,
            family="gradient",
            kind="sensitivity",
            reads=Pixels,
            volumes=True,
            cost=(
                "1 forward, and a forward and a backward for each sample: by default until another "
                "seed's map is expected to correlate by 0.95, at most 4000"
            ),
        )(method)
        return moment

    return add


@register_moment(
    "smoothgrad",
    title="SmoothGrad",
)
def smoothgrad(moments: PooledMoments) -> Tensor:
    """Saliency without its speckle: the gradient averaged over noisy copies of the image.

    map = max_c |mean over k of G_kc|, min-max normalised for each image.

    References:
        Smilkov et al., SmoothGrad: removing noise by adding noise, ICML Workshop on Visualization
        for Deep Learning 2017, section 2.2
    """
    return moments.mean


@register_moment(
    "vargrad",
    title="VarGrad",
    least=2,
)
def vargrad(moments: PooledMoments) -> Tensor:
    """Where the gradient changes most between noisy copies of the image: its variance.

    map = max_c mean over k of (G_kc - mean over k of G_kc)², min-max normalised for each image.

    References:
        Adebayo et al., Local Explanation Methods for Deep Neural Networks Lack Sensitivity to
        Parameter Values, ICLR Workshop 2018
    """
    return moments.variance


@register_moment(
    "squaregrad",
    title="SmoothGrad squared",
)
def squaregrad(moments: PooledMoments) -> Tensor:
    """Where the gradient is large in noisy copies of the image, whatever its sign in each.

    map = max_c mean over k of G_kc², min-max normalised for each image.

    References:
        Hooker et al., A Benchmark for Interpretability Methods in Deep Neural Networks, NeurIPS
        2019, SmoothGrad-Squared
    """
    return moments.mean_square
