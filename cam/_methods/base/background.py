"""Take the pictures that a picture is compared with."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from cam._media.images import sample, samples
from cam.errors import MethodError
from cam.parameters import Rule, optional, tensor
from cam.types import Maps, resize

REFERENCES: Rule = optional(tensor("a tensor of images (R, C, H, W)"))
# Of the shorter side: between what models crop a photo to, from 0.875 on, and all.
_CROP = 0.94
# A stand-in whose 8 × 8 grey cells correlate with the picture's by more is the same photo.
_SAME = 0.9


def check_references(references: Tensor | None, inputs: Tensor, method: str) -> None:
    """Refuse references that do not fit the pictures.

    Raises:
        MethodError: They have another shape, dtype or device, or are not finite.
    """
    if references is None:
        return
    shape, whose = tuple(inputs.shape[1:]), f"{method}'" + "s" * (method[-1] != "s")
    if tuple(references.shape[1:]) != shape or not len(references):
        raise MethodError(
            f"{whose} references must have the shape (R, {', '.join(map(str, shape))}) "
            f"with R of at least 1, but have {tuple(references.shape)}"
        )
    if references.device != inputs.device or not references.is_floating_point():
        raise MethodError(
            f"{whose} references must be floats on {inputs.device}, but are "
            f"{references.dtype} on {references.device}"
        )
    if not bool(references.isfinite().all()):
        raise MethodError(f"{whose} references must be finite, but hold NaN or infinity")


def take_background(references: Tensor | None, picture: Tensor) -> Tensor:
    """Take the references, or else photos that stand in for them.

    Those are the bundled photos at the picture's size, with the mean and the spread of its
    channels, since how the model normalises is not known here. One that shows the same as the
    picture is left out. They depend on nothing but the picture, so not on its batch.

    Args:
        references: (R, C, H, W), or None.
        picture: (C, H, W) float32 or float64.

    Returns:
        (R, C, H, W) of the picture's dtype, on its device.
    """
    if references is not None:
        return references.to(picture.dtype)
    if picture.ndim == 4:
        raise MethodError(
            "photos cannot stand in for volumes or clips; give references=, a batch of those that "
            "the model takes, with the channels first (R, C, D, H, W)"
        )
    spread, mean = torch.std_mean(picture, (1, 2), correction=0, keepdim=True)
    pictures = []
    for name in samples():
        pixels = torch.frombuffer(bytearray(sample(name).tobytes()), dtype=torch.uint8)
        width, height = sample(name).size
        photo = pixels.view(height, width, 3).movedim(2, 0).to(picture)
        if len(picture) != 3:
            photo = photo.mean(0, keepdim=True).expand(len(picture), -1, -1)
        side = int(_CROP * min(height, width))
        top, left = (height - side) // 2, (width - side) // 2
        photo = resize(photo[:, top : top + side, left : left + side], picture.shape[1:])
        deviation, middle = torch.std_mean(photo, (1, 2), correction=0, keepdim=True)
        photo = (photo - middle) / deviation.clamp(min=1e-6)
        if not bool(_correlate(photo, picture) > _SAME):
            pictures.append(photo * spread + mean)
    return torch.stack(pictures)


def _correlate(first: Tensor, second: Tensor) -> Tensor:
    """Correlate two pictures (C, H, W), whose crops may differ a little."""
    coarse = [functional.adaptive_avg_pool2d(each, 8).mean(0) for each in (first, second)]
    return torch.corrcoef(torch.stack(coarse).flatten(1))[0, 1]


def tell_stand_ins(maps: Maps, references: Tensor | None, method: str) -> Maps:
    """Remark on maps whose background nobody chose."""
    if references is not None:
        return maps
    sentence = (
        f"{method} had no references, so the bundled photos, in the colours of the image, stand "
        "in for images of the data; give references=, a batch (R, C, H, W) of those"
    )
    remarks = [(image, sentence) for image in range(len(maps.raw))]
    return replace(maps, remarks=(*maps.remarks, *remarks))
