"""Ask several things of an image: a list of targets for each."""

from collections.abc import Sequence
from typing import Any, TypeGuard

from cam._targets.spelling import read_target
from cam.errors import TargetError


def list_questions(targets: Any, images: int) -> tuple[Any, list[int] | None]:
    """Join the lists of targets of all images, and read those that are written as text.

    Args:
        targets: Of a call; lists of targets, one list an image, or anything else.
        images: How many there are.

    Returns:
        All targets in turn and the image of each; what was given, but for its texts, and None
        where no image has a list.

    Raises:
        TargetError: Some images have a list and others none, a list is empty, lists are missing, or
            a text cannot be read.
    """
    if not _is_list(targets) or not any(map(_is_list, targets)):
        return _read(targets), None
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
    return _read([target for several in targets for target in several]), owners


def _read(targets: Any) -> Any:
    """Replace ``segment:3@10,20`` and its like by what they mean; a label stays."""
    if isinstance(targets, str):
        spelled = read_target(targets)
        return targets if spelled is None else spelled
    if isinstance(targets, list | tuple):
        return [_read(target) for target in targets]
    return targets


def _is_list(targets: object) -> TypeGuard[Sequence[Sequence[object]]]:
    return isinstance(targets, Sequence) and not isinstance(targets, str)
