"""Prepare images that were given in place of a batch."""

import os
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor, nn

from cam._media.images import ImageSource, Photo, read_image
from cam._models.model import Model
from cam.errors import CamWarning, InputError


def prepare_images(
    model: Model | nn.Module, source: Tensor | ImageSource | Sequence[ImageSource]
) -> tuple[Tensor, tuple[Photo, ...]]:
    """Prepare images by the model's transform; a batch stays as it is.

    Args:
        model: Whose transform prepares them.
        source: A batch, an image, or several; see :func:`cam.attribute`.

    Returns:
        The batch (B, C, H, W), and the images that it was prepared from: none where it was given.

    Raises:
        ImageError: An image cannot be read.
        InputError: The model does not say how images are prepared, or what was given is no image.
    """
    if isinstance(source, Tensor):
        return source, ()
    images = _list_images(source)
    if images is None:
        raise InputError(
            f"the batch is a {_name_kind(source)}, neither images nor a tensor (B, C, H, W); "
            "model.prepare(images) makes one"
        )
    if not isinstance(model, Model):
        raise InputError(
            "a network alone does not say how its images are prepared; wrap it as "
            "cam.Model(network, transform), or give a tensor"
        )
    photos = tuple(read_image(image) for image in images)
    for photo in photos:
        for note in photo.notes:
            warnings.warn(f"{photo.name}: {note}", CamWarning, stacklevel=3)
    return model.prepare(photos), photos


def _list_images(source: object) -> list[ImageSource] | None:
    """List what was given; None where one of it is no image."""
    several = [source] if _is_image(source) else source
    if not isinstance(several, Sequence) or not all(map(_is_image, several)):
        return None
    return list(several)


def _is_image(source: object) -> bool:
    kinds = (str, bytes, os.PathLike, Image.Image, np.ndarray, Photo)
    return isinstance(source, kinds) or hasattr(source, "read")


def _name_kind(source: object) -> str:
    """Name the type of what was given, and of its first element that is no image."""
    if isinstance(source, Sequence):
        other = next((each for each in source if not _is_image(each)), None)
        return f"{type(source).__name__} of {type(other).__name__}"
    return type(source).__name__
