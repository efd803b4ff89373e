"""Performance information curves: how much must be sharp for recognition.

A picture is blurred but for its most important pixels. How much is in it is measured by how well it
can be compressed, and how much the model knows by its probability, or by whether it is right.
"""

import io
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cam._engine.forward import run_model
from cam._metrics.base.map_ranking import ranks
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.faithfulness.imputation import Imputer
from cam.errors import MetricError
from cam.parameters import SEED, fractions, number

SHARES = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.13, 0.21, 0.34, 0.5, 0.75)
_TOLERANCE = 1e-3
_RULES = {"shares": fractions(), "start": number(0, 1), "seed": SEED}
_register = partial(
    register_metric,
    family="information",
    direction=1,
    range=(0, 1),
    baseline=(
        "1 % of the pixels at random and the corners, and what their neighbours make of the rest"
    ),
    cost="15 forwards by default",
)


@_register(
    "sic",
    title="Softmax information curve (SIC)",
    definition="area under (p_k - p_0)/(p - p_0) over (c_k - c_0)/(c - c_0), c: compressed size",
    rules=_RULES | {"sure": number(0, 1)},
)
def sic(
    subject: Subject,
    *,
    shares: Sequence[float] = SHARES,
    start: float = 0.01,
    sure: float = 0.8,
    seed: int = 0,
) -> Tensor:
    """How little of the image, by compressed size, gives the model back its probability.

    Image k shows its share of the most important pixels, index 0 stands for none of them, and the
    p and c without an index for the whole image. Both ratios are cut to [0, 1], p grows only
    (what was recognised once stays so), and the curve begins at (0, 0) and ends at (1, 1). The
    authors report the median curve over images; this is each image's area.

    Where the authors interpolate linearly between the pixels that are known, here removed pixels
    are the weighted mean of their neighbours, as in ROAD, which needs no triangulation. The size is
    that of a lossless WebP, by its quickest encoder.

    Args:
        subject: A batch with its heatmaps.
        shares: Of the image that is sharp.
        start: Share of random pixels that are sharp from the beginning.
        sure: The least p of an image that is not skipped.
        seed: Of those pixels, which are the same for every image.

    Returns:
        (B,); NaN for images that the authors skip: p below ``sure``, not above that of the
        blurred image, or a blurred image that is not smaller.

    References:
        Kapishnikov et al., XRAI: Better Attributions Through Regions, ICCV 2019, section 4.2;
        limits and skipped images as in PAIR saliency 0.2.1, compute_pic_metric
    """
    subject.refuse(subject.p < sure, f"the model's score of the image is below {sure}")
    return _area(subject, shares, start, seed, subject.p)


@_register(
    "aic",
    title="Accuracy information curve (AIC)",
    definition="as sic, with 1 in the place of p where the target is the top class, else 0",
    rules=_RULES,
)
def aic(
    subject: Subject, *, shares: Sequence[float] = SHARES, start: float = 0.01, seed: int = 0
) -> Tensor:
    """How little of the image, by compressed size, lets the model name the class.

    Args:
        subject: A batch with its heatmaps.
        shares: As for :func:`sic`.
        start: As for :func:`sic`.
        seed: As for :func:`sic`.

    Returns:
        (B,); NaN for images whose target is not the model's top class, is already so for the
        blurred image, or whose blurred image is not smaller.

    Raises:
        MetricError: The target is no class.

    References:
        Kapishnikov et al., XRAI: Better Attributions Through Regions, ICCV 2019, section 4.2;
        limits and skipped images as in PAIR saliency 0.2.1, compute_pic_metric
    """
    right = require_top_class(subject)
    with subject.passes.through(Decision(subject.network)):
        return _area(subject, shares, start, seed, right)


def require_top_class(subject: Subject) -> Tensor:
    """Refuse images whose target is not the model's top class.

    Returns:
        (B,) float32, 1 where it is and 0 where not.

    Raises:
        MetricError: The target is no class.
    """
    captured = subject.passes.pixels
    if not subject.is_probability or not isinstance(captured.targets, Tensor):
        raise MetricError(
            f"{subject.passes.method} asks whether the target is the top class, so it must be a "
            "class"
        )
    right = (captured.logits.argmax(1) == captured.targets).float()
    subject.refuse(right == 0, "the target is not the model's top class")
    return right


class Decision(nn.Module):
    """A classifier that says 1 for its top class and 0 for all others."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        logits = run_model(self.network, pixels)
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1)


def _area(
    subject: Subject, shares: Sequence[float], start: float, seed: int, whole: Tensor
) -> Tensor:
    inputs = subject.inputs
    height, width = inputs.shape[2:]
    order = ranks(subject.importance)
    counts = torch.tensor(
        [0, *(round(share * subject.pixels) for share in shares)],
        device=inputs.device, dtype=torch.int32,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(height * width, generator=generator).argsort()
    sharp = torch.zeros(height * width, dtype=torch.bool)
    sharp[first[: round(start * height * width)]] = True
    sharp = sharp.view(height, width).to(inputs.device)
    sharp[:: max(height - 1, 1), :: max(width - 1, 1)] = True  # the corners
    sizes: list[int] = []
    impute = Imputer(inputs.shape[1:], inputs.dtype, inputs.device)

    def write(owner: Tensor, step: Tensor) -> Tensor:
        removed = (order[owner] >= counts[step, None, None]) & ~sharp
        blurred = impute(inputs[owner], removed, _TOLERANCE).to(inputs.dtype)
        sizes.extend(_compressed_sizes(subject, blurred, owner))
        return blurred

    scores = subject.try_steps(len(counts), write)  # (B, 1 + shares)
    size = torch.tensor(sizes, dtype=torch.float64, device=inputs.device).view(scores.shape)
    every = torch.arange(len(inputs), device=inputs.device)
    full = torch.tensor(_compressed_sizes(subject, inputs, every), device=inputs.device).double()
    least, nothing = size[:, :1], scores[:, :1].double()
    subject.refuse(full <= size[:, 0], "the blurred image is not smaller when compressed")
    subject.refuse(whole <= scores[:, 0], "the model scores the blurred image as high")
    across = ((size[:, 1:] - least) / (full[:, None] - least)).clamp(0, 1)
    up = ((scores[:, 1:] - nothing) / (whole[:, None] - nothing)).clamp(0, 1).cummax(1).values
    ends = torch.zeros_like(least)
    across = torch.cat([ends, across, ends + 1], 1)
    up = torch.cat([ends, up, ends + 1], 1)
    across, order = across.sort(dim=1, stable=True)
    return torch.trapezoid(up.gather(1, order), across)


def _compressed_sizes(subject: Subject, pictures: Tensor, owner: Tensor) -> list[int]:
    """Compress pictures (N, C, H, W), and return their sizes in bytes."""
    channels = pictures.shape[1]
    pictures = pictures.float()
    if subject.colours is not None and len(subject.colours[0]) == channels:
        mean, std = (pictures.new_tensor(values).view(-1, 1, 1) for values in subject.colours)
        levels = pictures * std + mean
    else:
        flat = subject.inputs.float().flatten(1)
        low, high = (end[owner].view(-1, 1, 1, 1) for end in flat.aminmax(dim=1))
        levels = (pictures - low) / torch.where(high == low, 1, high - low)
    pixels = (levels.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    if channels == 3:
        images = [Image.fromarray(picture) for picture in np.moveaxis(pixels, 1, 3)]
    else:
        # Of other numbers of channels, side by side in grey.
        images = [Image.fromarray(np.concatenate(list(planes), 1)) for planes in pixels]
    sizes = []
    for image in images:
        with io.BytesIO() as file:
            image.save(file, format="webp", lossless=True, method=0)
            sizes.append(file.tell())
    return sizes
