"""From a picture to what the model sees, and back to which part of the picture that was.

torchvision's and timm's own transforms do the work; this module reads their geometry, so that a
heatmap can be laid over the photo at the photo's resolution.
"""

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms._presets import ImageClassification

Transform = Callable[[Image.Image], Tensor]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def standard_transform(
    size: int = 224,
    resize: int = 256,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Transform:
    """Resize the short side (bilinear), crop the centre, scale to [0, 1], normalise."""
    pipeline: Transform = transforms.Compose(
        [
            transforms.Resize(resize),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    return pipeline


def seen_part(transform: object, image: Image.Image) -> Image.Image | None:
    """The part of ``image`` that ``transform`` keeps, at the image's own resolution.

    Returns:
        The cropped picture, or None where the transform's geometry cannot be read (then only the
        transformed tensor itself shows what the model sees).
    """
    box = seen_box(transform, image.size)
    return None if box is None else image if box == (0, 0, *image.size) else image.crop(box)


def seen_box(transform: object, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of what :func:`seen_part` gives, of a picture (width, height)."""
    geometry = _geometry(transform)
    if geometry is None:
        return None
    resize, crop = geometry
    width, height = size
    if isinstance(resize, int):
        across = down = resize / min(width, height)
    elif resize is None:
        across = down = 1.0
    else:
        down, across = resize[0] / height, resize[1] / width
    if crop is None:
        return 0, 0, width, height
    crop_width, crop_height = crop[1] / across, crop[0] / down
    # A crop larger than the picture pads it, and then no part of the picture is what is seen.
    if crop_width > width + 1 or crop_height > height + 1:
        return None
    left, right = _middle(width, crop_width)
    top, bottom = _middle(height, crop_height)
    return left, top, right, bottom


def _middle(length: int, kept: float) -> tuple[int, int]:
    """First and last edge of the ``kept`` pixels in the middle of a side; never none at all."""
    first = (length - kept) / 2
    start = min(max(0, round(first)), length - 1)
    return start, max(start + 1, min(length, round(first + kept)))


_Geometry = tuple[int | tuple[int, int] | None, tuple[int, int] | None]


def _geometry(transform: object) -> _Geometry | None:
    """(resize, crop): the short side or (H, W), and (H, W) of the centre crop."""
    if isinstance(transform, ImageClassification):
        return _one(transform.resize_size), _both(transform.crop_size)
    if not isinstance(transform, transforms.Compose):
        return None
    resize: int | tuple[int, int] | None = None
    crop = None
    for step in transform.transforms:
        name = type(step).__name__
        if name == "Resize" and resize is None and crop is None:
            resize = _one(step.size)
        elif name == "CenterCrop" and crop is None:
            crop = _both(step.size)
        elif name not in _KEEPS_GEOMETRY:
            return None
    return resize, crop


_KEEPS_GEOMETRY = {
    "ToTensor",
    "MaybeToTensor",
    "PILToTensor",
    "MaybePILToTensor",
    "ToNumpy",
    "ToImage",
    "ToDtype",
    "ConvertImageDtype",
    "Normalize",
}


def _one(size: Any) -> int | tuple[int, int]:
    if isinstance(size, int):
        return size
    values = tuple(size)
    return values[0] if len(values) == 1 else (values[0], values[1])


def _both(size: Any) -> tuple[int, int]:
    one = _one(size)
    return (one, one) if isinstance(one, int) else one


def mean_and_std(transform: object) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What the transform subtracts and divides by; (0, 0, 0) and (1, 1, 1) if nothing."""
    steps = [transform, *getattr(transform, "transforms", [])]
    for step in steps:
        mean, std = getattr(step, "mean", None), getattr(step, "std", None)
        if mean is not None and std is not None:
            return tuple(float(m) for m in mean), tuple(float(s) for s in std)
    return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
