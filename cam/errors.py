"""Errors, whose messages say what was wrong and what would be right."""

from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches


class CamError(Exception):
    """Anything that this library refuses; the message is one sentence for a person."""


class ImageError(CamError):
    """A picture that cannot be read, or that is not what its name says."""


class ModelError(CamError):
    """A model that is unknown, cannot be loaded, or does not behave like a classifier."""


class CheckpointError(ModelError):
    """A weights file that is unsafe, damaged, or made for another model."""


class NoGradientError(ModelError):
    """No gradient comes back from the score to the pixels."""


class LayerError(CamError):
    """A layer that does not exist, was not used, or has no feature maps."""


class MethodError(CamError):
    """A method that does not exist, or was given parameters it does not have."""


class MetricError(CamError):
    """A metric that does not exist, or that lacks what it needs."""


class TargetError(CamError):
    """A target that the model's output does not hold."""


class InputError(CamError):
    """A batch that is no (B, 3, H, W) float tensor on the model's device."""


class DataError(CamError):
    """A data set that cannot be opened, or whose annotation does not fit its pictures."""


class RunError(CamError):
    """A run that cannot be started, continued, written or read."""


class MissingExtraError(CamError, ImportError):
    """Packages of an extra that are not installed; the message has the command that does it."""


class Cancelled(CamError):
    """The caller's progress callback answered that the work is not wanted any more."""


class CamWarning(UserWarning):
    """A handled problem that the user should know of."""


def nearest(name: str, candidates: Iterable[str], how_many: int = 3) -> str:
    """Suggest the names closest to a mistyped one, or list a few.

    Returns:
        A clause such as ``did you mean 'gradcam'?``, without a leading capital.
    """
    names = list(candidates)
    folded = {candidate.lower(): candidate for candidate in reversed(names)}
    query = name.lower()
    # A dotted or namespaced name is often right but for its prefix.
    close = [key for key in folded if query and key.endswith((f"/{query}", f".{query}"))]
    close = sorted(close[:how_many], reverse=True)
    if not close:
        close = get_close_matches(query, folded, n=how_many, cutoff=0.5)
    if not close:
        tail = query.rsplit("/", 1)[-1]
        close = [key for key in folded if tail and tail in key][:how_many]
    if close:
        return f"did you mean {' or '.join(repr(folded[key]) for key in close)}?"
    if not names:
        return "there is none to choose from"
    listed = ", ".join(names[:12])
    return f"known: {listed}{', …' if len(names) > 12 else ''}"


def require_known(
    name: str, names: Collection[str], kind: str, error: Callable[[str], Exception] = InputError
) -> None:
    """Refuse a name that is not among those that there are.

    Raises:
        error: Of the caller's kind; the message has the nearest names.
    """
    if name not in names:
        raise error(f"there is no {kind} {name!r}; {nearest(name, names)}")
