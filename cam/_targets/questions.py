"""Ask several things of an image: a list of targets for each."""

from collections.abc import Sequence
from typing import Any, TypeGuard

from cam.errors import TargetError


def list_questions(targets: Any, images: int) -> tuple[Any, list[int] | None]:
    """Join the lists of targets of all images.

    Args:
        targets: Of a call; lists of targets, one list an image, or anything else.
        images: How many there are.

    Returns:
        All targets in turn and the image of each; what was given and None where no image has a
        list.

    Raises:
        TargetError: Some images have a list and others none, a list is empty, or lists are missing.
    """
    if not _is_list(targets) or not any(map(_is_list, targets)):
        return targets, None
    if not all(map(_is_list, targets)):
        raise TargetError(
            "targets mixes lists with single targets; give a list of targets for each image"
        )
    if len(targets) != images:
        raise TargetError(
            f"{len(targets)} lists of targets were given for {images} images; give one for each"
        )
    empty = [image for image, several in enumerate(targets) if not several]
    if empty:
        raise TargetError(
            f"image {empty[0]} has an empty list of targets, so there is nothing to explain in it; "
            "leave it out of the batch, or name a target"
        )
    owners = [image for image, several in enumerate(targets) for _ in several]
    return [target for several in targets for target in several], owners


def _is_list(targets: object) -> TypeGuard[Sequence[Sequence[object]]]:
    return isinstance(targets, Sequence) and not isinstance(targets, str)
