"""Preprocess pictures, and find the part that a model sees.

torchvision's and timm's own transforms do the work; this module reads their geometry, so that a
heatmap can be laid over the photo at the photo's resolution.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation

Transform = Callable[[Image.Image], Tensor]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image, in its pixels."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@runtime_checkable
class MeasuredTransform(Protocol):
    """A transform that says itself which part of an image it keeps."""

    def find_box(self, size: tuple[int, int]) -> Box | None:
        """Find the part of an image of (width, height); None where there is none."""


def standard_transform(
    size: int = 224,
    resize: int = 256,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    interpolation: transforms.InterpolationMode = transforms.InterpolationMode.BILINEAR,
) -> Transform:
    """Resize the short side, crop the centre, normalise."""
    pipeline: Transform = transforms.Compose(
        [
            transforms.Resize(resize, interpolation),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    return pipeline


def whole_image() -> Transform:
    """Keep the image's size, its values in [0, 1]."""
    pipeline: Transform = transforms.Compose([transforms.ToTensor()])
    return pipeline


def normalises_itself(module: nn.Module) -> bool:
    """Test whether a network resizes and normalises images, as torchvision's detectors do."""
    return isinstance(getattr(module, "transform", None), GeneralizedRCNNTransform)


def crop_to_input(transform: object, image: Image.Image) -> Image.Image | None:
    """Crop what a transform keeps of an image, at full resolution.

    Returns:
        The cropped picture, or None where the transform's geometry cannot be read (then only the
        transformed tensor itself shows what the model sees).
    """
    box = find_input_box(transform, image.size)
    return None if box is None else image if box == (0, 0, *image.size) else image.crop(box)


def find_input_box(transform: object, size: tuple[int, int]) -> Box | None:
    """Find left, top, right and bottom of :func:`crop_to_input` in (width, height)."""
    if isinstance(transform, MeasuredTransform):
        return transform.find_box(size)
    geometry = _read_geometry(transform)
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
    left, right = _centre(width, crop_width)
    top, bottom = _centre(height, crop_height)
    return left, top, right, bottom


def _centre(length: int, pixels: float) -> tuple[int, int]:
    """Return the edges of a side's central pixels, at least one apart."""
    return cut_side(length, (length - pixels) / 2, (length + pixels) / 2)


def cut_side(length: int, first: float, last: float) -> tuple[int, int]:
    """Round the edges of a part of a side to whole pixels, at least one apart."""
    start = min(max(0, round(first)), length - 1)
    return start, max(start + 1, min(length, round(last)))


_Geometry = tuple[int | tuple[int, int] | None, tuple[int, int] | None]


def _read_geometry(transform: object) -> _Geometry | None:
    """Read the resize, a short side or (H, W), and the crop, (H, W)."""
    if isinstance(transform, ImageClassification):
        return _parse_size(transform.resize_size), _parse_sides(transform.crop_size)
    if isinstance(transform, SemanticSegmentation):
        sides = transform.resize_size
        return None if sides is None else _parse_size(sides), None
    if not isinstance(transform, transforms.Compose):
        return None
    resize: int | tuple[int, int] | None = None
    crop = None
    for step in transform.transforms:
        name = type(step).__name__
        if name == "Resize" and resize is None and crop is None:
            resize = _parse_size(step.size)
        elif name == "CenterCrop" and crop is None:
            crop = _parse_sides(step.size)
        elif name not in _KEEPS_GEOMETRY:
            return None
    return resize, crop


_KEEPS_GEOMETRY = {
    "ToTensor",
    "MaybeToTensor",
    "PILToTensor",
    "MaybePILToTensor",
    "ToNumpy",
    "MaybeConvertMode",
    "ToImage",
    "ToDtype",
    "ConvertImageDtype",
    "Normalize",
}


def _parse_size(size: Any) -> int | tuple[int, int]:
    if isinstance(size, int):
        return size
    values = tuple(size)
    return values[0] if len(values) == 1 else (values[0], values[1])


def _parse_sides(size: Any) -> tuple[int, int]:
    sides = _parse_size(size)
    return (sides, sides) if isinstance(sides, int) else sides


def mean_and_std(transform: object) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what a transform subtracts and divides by, or zeros and ones."""
    steps = [transform, *getattr(transform, "transforms", [])]
    for step in steps:
        mean, std = getattr(step, "mean", None), getattr(step, "std", None)
        if mean is not None and std is not None:
            return tuple(float(m) for m in mean), tuple(float(s) for s in std)
    return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
