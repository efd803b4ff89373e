"""Expected gradients: integrated gradients from many baselines at once."""

import torch
from torch import Tensor

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.draws import STEADY, Draws, Sum, mean_of, tell_errors
from cam._methods.base.maps import promote, reduce_gradient
from cam._methods.base.method_registry import register_method
from cam.errors import MethodError
from cam.parameters import SEED, integer, optional, tensor
from cam.types import Maps


@register_method(
    "expected_gradients",
    rules={
        "samples": integer(1),
        "references": optional(tensor("a tensor of pictures (R, C, H, W)")),
        "steady": STEADY,
        "seed": SEED,
    },
    title="Expected gradients",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    cost=(
        "1 forward, and a forward and a backward for each sample: by default until another seed's "
        "map is expected to correlate by 0.92, at most 1000"
    ),
)
def expected_gradients(
    pixels: Pixels,
    passes: Passes,
    *,
    samples: int = 1000,
    references: Tensor | None = None,
    steady: float = 0.92,
    seed: int = 0,
) -> Maps:
    """How much each pixel adds to the score compared with other pictures, not with a blank one.

    a = E (x - x') ⊙ ∂y/∂x (x' + α (x - x')) over pictures x' and α uniform in [0, 1];
    map = Σ_c a_c. The raw map adds up to y(x) - E y(x'), but for the error of the samples. The
    other map shows |Σ_c a_c|, min-max normalised for each image.

    The paper takes x' from the training pictures, and ``references`` is for them. Without them x'
    is the picture itself with the phases of its spectrum at random: clouds with the same colours,
    contrasts and grain, in which nothing can be recognised. Other images of the batch would make a
    map depend on its neighbours, and a photo from the library would have to be normalised as the
    model requires, which a method does not know.

    Each α comes from a separate stratum and each reference is taken equally often, give or take
    once, which lowers the error and changes no expectation. What is drawn depends on the seed and
    the shape of a picture alone, and images do not share batches, so an image has the same map in
    any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the pictures on the path go.
        samples: Pairs of x' and α, at most.
        references: (R, C, H, W) pictures as the model takes them, on its device; None: see above.
        steady: At which expected correlation with another seed's map, from that of two halves of
            the samples, no more are drawn; 1: all are.
        seed: Of what is drawn.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range, or references that do not fit the pictures.

    References:
        Erion et al., Improving performance of deep learning models with axiomatic attribution
        priors and expected gradients, Nature Machine Intelligence 2021, equation 3
    """
    inputs = pixels.inputs
    if references is not None:
        _check(references, inputs)
    pictures = promote(inputs)
    estimates = []
    which, shares = draw_samples(samples, 0 if references is None else len(references), seed)
    which, shares = which.to(inputs.device), shares.to(pictures)
    for image, picture in enumerate(pictures):
        passes.expect((len(inputs) - image) * samples)
        draws = Draws(samples, Sum, mean_of)
        for part in draws.batches(passes, steady):
            if references is None:
                others = draw_clouds(picture, which[part].tolist(), seed)
            else:
                others = references[which[part]].to(picture)
            differences = picture - others  # (n, C, H, W)
            between = others + shares[part, None, None, None] * differences
            _, gradients = passes.gradients(between.to(inputs.dtype), image)
            added = (differences * gradients).sum(1)  # (n, H, W)
            for group, rows in draws.cut(part):
                group.add(added[rows].sum(0), len(rows))
        estimates.append(draws.estimate())
    passes.expect(0)
    raw = torch.stack([estimate.raw for estimate in estimates])
    return tell_errors(reduce_gradient(raw[:, None]), estimates, "samples")


def draw_samples(samples: int, references: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw the pairs of reference and α.

    Args:
        samples: How many, N.
        references: Pictures to choose from; 0: each sample has another one.
        seed: Of a separate generator; the state of torch's is left alone.

    Returns:
        Numbers of references (N,) int64, and α (N,) float64, both on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    strata = torch.randperm(samples, generator=generator)
    shares = torch.rand(samples, generator=generator, dtype=torch.float64)
    shares = (strata + shares) / samples
    if not references:
        return torch.arange(samples), shares
    rounds = -(-samples // references)
    orders = [torch.randperm(references, generator=generator) for _ in range(rounds)]
    return torch.cat(orders)[:samples], shares


def draw_clouds(picture: Tensor, numbers: list[int], seed: int) -> Tensor:
    """Draw pictures with a picture's spectral amplitudes and random phases.

    The phases move by the same in all channels, so that the colours of a grain stay together. No
    value leaves the range of its channel.

    Args:
        picture: (C, H, W) float32 or float64.
        numbers: Of the clouds; each has other phases.
        seed: Of the phases, together with the number.

    Returns:
        (n, C, H, W) of the picture's dtype.
    """
    height, width = picture.shape[1:]
    spectrum = torch.fft.rfft2(picture)  # (C, H, W // 2 + 1)
    low = picture.amin((1, 2), keepdim=True)
    high = picture.amax((1, 2), keepdim=True)
    pictures = []
    for number in numbers:
        generator = torch.Generator().manual_seed((seed + 1) * 0x9E3779B1 % 2**62 + number)
        # The spectrum of real noise has the symmetry that keeps the cloud real.
        noise = torch.randn(height, width, generator=generator, dtype=torch.float64)
        phases = torch.fft.rfft2(noise)
        phases = phases / phases.abs()
        phases[0, 0] = 1  # the mean colour
        turned = spectrum * phases.to(picture.device, spectrum.dtype)
        pictures.append(torch.fft.irfft2(turned, s=(height, width)))
    return torch.stack(pictures).clamp(low, high)


def _check(references: Tensor, inputs: Tensor) -> None:
    shape = tuple(inputs.shape[1:])
    if tuple(references.shape[1:]) != shape or not len(references):
        raise MethodError(
            f"expected_gradients' references must have the shape (R, {', '.join(map(str, shape))}) "
            f"with R of at least 1, but have {tuple(references.shape)}"
        )
    if references.device != inputs.device or not references.is_floating_point():
        raise MethodError(
            f"expected_gradients' references must be floats on {inputs.device}, but are "
            f"{references.dtype} on {references.device}"
        )
    if not bool(references.isfinite().all()):
        raise MethodError("expected_gradients' references must be finite, but hold NaN or infinity")
