"""DeepSHAP: DeepLIFT's slopes from many pictures."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.background import (
    REFERENCES,
    check_references,
    take_background,
    tell_stand_ins,
)
from cam._methods.base.maps import fill_up, promote, reduce_gradient
from cam._methods.base.method_registry import register_method
from cam._methods.gradients.deeplift import PicturePairs
from cam._methods.gradients.integrated_gradients import check_sums
from cam.types import Maps


@register_method(
    "deepshap",
    rules={"references": REFERENCES},
    title="DeepSHAP",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    volumes=True,
    cost="1 forward, and for each reference a forward and a backward of twice the images, and "
    "a forward",
)
def deepshap(pixels: Pixels, passes: Passes, *, references: Tensor | None = None) -> Maps:
    """How much each pixel adds to the score compared with other images, by DeepLIFT's slopes.

    map = mean over the references x' of Σ_c ((x - x') ⊙ m)_c with m the slopes of ``deeplift``
    between x and x'. Where the network were linear in between, these would be the pixels' Shapley
    values. The raw map adds up to y(x) less the mean of y(x') as far as ``deeplift`` does, and the
    attribution's notes say where more than 1 % is missed. The other map shows the absolute values,
    min-max normalised for each image.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images and references go together.
        references: (R, C, H, W) images as the model takes them, on its device; None: the bundled
            photos stand in, in the colours of the image, and the notes say so.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: References that do not fit the images.

    References:
        Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017,
        section 4.2; over a background as DeepExplainer of the authors' shap
    """
    inputs = pixels.inputs
    check_references(references, inputs, passes.method)
    backgrounds = [take_background(references, picture) for picture in promote(inputs)]
    passes.expect(2 * sum(map(len, backgrounds)))
    raws: list[Tensor] = []
    means = []
    for image, (picture, others) in enumerate(zip(promote(inputs), backgrounds, strict=True)):
        pairs = torch.stack([picture.expand_as(others), others], 1).to(inputs.dtype)
        total = torch.zeros_like(picture[0])
        for part in passes.chunks(len(others)):
            with passes.through(PicturePairs(passes.module)):
                _, multipliers = passes.gradients(pairs[part], image)
            total += ((picture - others[part]) * multipliers[:, 0]).sum((0, 1))
            so_far = [*raws, total / part.stop]
            passes.tell(partial(_reduce, so_far, len(inputs)))
        raws.append(total / len(others))
        means.append(passes.scores(others.to(inputs.dtype), image).double().mean())
    maps = _reduce(raws, len(inputs))
    expected = pixels.scores.double() - torch.stack(means)
    maps = check_sums(maps, expected, "the references' mean", advice="")
    return tell_stand_ins(maps, references, passes.method)


def _reduce(raws: Sequence[Tensor], count: int) -> Maps:
    """Make maps (B, H, W) of those of the first images."""
    return reduce_gradient(fill_up(raws, count)[:, None])
