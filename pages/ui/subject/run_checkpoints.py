"""Keep uploaded weights as long as the runs that need them.

What visitors upload goes with the server (``own_weights``). A run with it must go on
after a restart, and from the command line too, so its file is copied into the folder of runs as
the run is started: ``.checkpoints/SHA-256/NAME``, once for the same content.
"""

import shutil
import uuid
from pathlib import Path

import cam
from cam._data.dataset import require_inside
from cam._models.model import ModelOrigin
from cam.pages.ui.server import allowed_roots
from cam.pages.ui.state.choices import PUBLISHED, RANDOM, ModelChoice, Weights
from cam.pages.ui.subject import own_weights

FOLDER = ".checkpoints"


def make_origin(choice: ModelChoice) -> ModelOrigin:
    """Write a model down as a run does; of an upload, where that will lie."""
    weights, prompts = choice.weights, choice.prompts or None
    if weights.upload is not None and weights.path is not None:
        labels = weights.labels_path and make_lasting_path(weights.labels_path)
        return ModelOrigin(choice.name, make_lasting_path(weights.path), labels, prompts)
    source = None if weights.random else weights.path or "DEFAULT"
    return ModelOrigin(choice.name, source, None, prompts)


def read_weights(origin: ModelOrigin) -> Weights | None:
    """Read a run's weights as the pages have them; None where its labels were in memory."""
    if isinstance(origin.labels, tuple):
        return None
    if origin.weights is None or origin.weights == "DEFAULT":
        weights = RANDOM if origin.weights is None else PUBLISHED
        return weights if origin.labels is None else None
    if origin.labels is None and not _is_kept(origin.weights):
        return Weights(path=origin.weights)
    path, labels = _locate(origin.weights), origin.labels and _locate(origin.labels)
    names = (labels.name, str(labels)) if labels else (None, None)
    return Weights(False, str(path), path.name, *names)


def require_weights(origin: ModelOrigin) -> Weights:
    """Return a run's weights for other pages to show.

    Raises:
        DataError: They lie neither in the folder of runs nor in one that the operator allows.
        RunError: Its classes' names were in memory.
    """
    weights = read_weights(origin)
    if weights is None:
        raise cam.RunError("the names of its model's classes were in memory")
    for path in filter(None, (weights.path, weights.labels_path)):
        require_inside(path, (*allowed_roots.read_checkpoint_roots(), _get_folder()))
    return weights


def keep(origin: ModelOrigin) -> None:
    """Copy what was uploaded for a run to where the run says that it lies.

    Raises:
        RunError: It is not on this server any more, or cannot be written.
    """
    for path in (origin.weights, origin.labels):
        if not isinstance(path, str) or not _is_kept(path) or Path(path).exists():
            continue
        target, source = Path(path), _locate(path)
        # Another visitor may start a run with the same file at this moment.
        half = target.with_name(f".{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, half)
            half.replace(target)
        except FileNotFoundError:
            raise cam.RunError(f"{target.name} is not kept any more: upload it again") from None
        except OSError as error:
            half.unlink(missing_ok=True)
            raise cam.RunError(
                f"{target.name} cannot be kept in {str(_get_folder())!r}: {error.strerror}"
            ) from None


def make_lasting_path(upload: str) -> str:
    """Return where an upload lies once a run names it."""
    path = Path(upload)
    return str(_get_folder() / path.parent.name / path.name)


def _locate(path: str) -> Path:
    """Locate a run's file: before the run is started, it lies where it was uploaded."""
    file = Path(path)
    if file.exists() or not _is_kept(path):
        return file
    return own_weights.get_store().folder / file.parent.name / file.name


def _is_kept(path: str) -> bool:
    return Path(path).is_relative_to(_get_folder())


def _get_folder() -> Path:
    return allowed_roots.get_runs_folder().absolute() / FOLDER
