"""IDGI: integrated gradients without the noise across the path's direction."""

import torch
from torch import Tensor

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.maps import fill_up, promote, reduce_gradient
from cam._methods.base.method_registry import register_method
from cam._methods.gradients.integrated_gradients import check_completeness
from cam._methods.gradients.path_gradients import GuidedPath, blur
from cam.parameters import integer, number, one_of
from cam.types import Maps

# Of guided and blurred ways, as their own methods have them.
_FRACTION, _DISTANCE, _SIGMA = 0.25, 0.02, 50.0


@register_method(
    "idgi",
    rules={
        "way": one_of(("straight", "guided", "blur")),
        "steps": integer(1),
        "baseline": number(),
    },
    title="IDGI",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    volumes=True,
    cost="2 forwards, and a forward and a backward for each step: 100 by default",
)
def idgi(
    pixels: Pixels,
    passes: Passes,
    *,
    way: str = "straight",
    steps: int = 100,
    baseline: float = 0.0,
) -> Maps:
    """How the rise of the score on the way to the image is shared by squares of the gradient.

    On the way x_0, x_1 … x_n from a blank or blurred image to this one, with y_k the scores and
    G_k the gradients: a = Σ_k (y_{k+1} - y_k) G_k² / |G_k|²; map = Σ_c a_c. Only the part of a
    step along the gradient changes the score, and the rest is noise that integrated gradients add
    up. The raw map adds up to y(x) - y(x_0) for any number of steps, but where a gradient is 0. The
    other map shows |Σ_c a_c|, min-max normalised for each image.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images on the way go.
        way: "straight" as of ``integrated_gradients``, "guided" or "blur" as of the methods with
            these names, and with their defaults.
        steps: From the first image to this one.
        baseline: What every pixel of the blank image shows, after normalisation; a blurred way
            has none.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Yang, Wang and Bilgic, IDGI: A Framework to Eliminate Explanation Noise from Integrated
        Gradients, CVPR 2023, algorithm 1
    """
    inputs = pixels.inputs
    passes.expect(len(inputs) * (steps + 1))
    depth = inputs.ndim == 5
    starts = (
        blur(inputs.double(), _SIGMA, depth) if way == "blur" else torch.full_like(inputs, baseline)
    )
    starts = starts.to(inputs.dtype)
    raws: list[Tensor] = []
    for image, picture in enumerate(inputs):
        shares = _Shares(picture)

        def gather(shares: "_Shares" = shares) -> Maps:
            raw = fill_up([*raws, shares.raw], len(inputs))[:, None]
            return reduce_gradient(raw.to(promote(inputs).dtype))

        if way == "guided":
            ends = picture.flatten()[None].double()
            path = GuidedPath(ends, baseline, steps, _FRACTION, _DISTANCE)
            for step in range(steps):
                at = path.at.view_as(picture[None]).to(inputs.dtype)
                scores, gradients = passes.gradients(at, image)
                shares.add(scores, gradients)
                path.go(step, gradients.flatten(1).double())
                passes.tell(gather)
        else:
            for part in passes.chunks(steps):
                at = _walk(picture, starts[image], way, range(part.start, part.stop), steps)
                shares.add(*passes.gradients(at.to(inputs.dtype), image))
                passes.tell(gather)
        raws.append(shares.end(pixels.scores[image]))
    maps = reduce_gradient(torch.stack(raws)[:, None].to(promote(inputs).dtype))
    passes.tell(lambda: maps)
    kind = "a blurred image" if way == "blur" else "a blank image"
    return check_completeness(passes, maps, starts, kind)


def _walk(picture: Tensor, start: Tensor, way: str, numbers: range, steps: int) -> Tensor:
    """Make the pictures (n, C, H, W) of steps from the start to a picture (C, H, W)."""
    if way == "blur":
        sharp = picture.double()
        depth = picture.ndim == 4
        return torch.stack([blur(sharp, _SIGMA * (1 - k / steps), depth) for k in numbers])
    wide, begin = promote(picture), promote(start)
    return torch.stack([begin + (wide - begin) * (k / steps) for k in numbers])


class _Shares:
    """Shares out each rise of the score among pixels, step by step, in float64.

    Attributes:
        raw: (H, W) up to the last step.
    """

    def __init__(self, picture: Tensor) -> None:
        self.raw = picture.new_zeros(picture.shape[1:], dtype=torch.float64)
        self._share = self.raw
        self._score = picture.new_zeros((), dtype=torch.float64)

    def add(self, scores: Tensor, gradients: Tensor) -> None:
        """Take the scores (n,) and gradients (n, C, H, W) of the next steps in."""
        for score, gradient in zip(scores.double(), gradients.double(), strict=True):
            self.raw = self.end(score)
            square = gradient.square().sum(0)  # (H, W)
            length = square.sum()
            self._share = square / length.where(length != 0, 1)
            self._score = score

    def end(self, score: Tensor) -> Tensor:
        """Return the map (H, W) with the rise to a last score."""
        return self.raw + self._share * (score.double() - self._score)
