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
from cam.pages.ui.server.resources import OwnWeights, Weights
from cam.pages.ui.subject import allowed_files, own_weights

FOLDER = ".checkpoints"


def origin(name: str, trained: Weights) -> ModelOrigin:
    """A model as a run writes it down; of an upload, where that will lie."""
    if isinstance(trained, OwnWeights):
        labels = trained.labels_path and lasting(trained.labels_path)
        return ModelOrigin(name, lasting(trained.path), labels)
    weights = trained if isinstance(trained, str) else "DEFAULT" if trained else None
    return ModelOrigin(name, weights, None)


def weights_of(found: ModelOrigin) -> Weights | None:
    """The same as the pages know it; None for what they do not: names of classes in memory."""
    if found.weights in (None, "DEFAULT"):
        return found.weights is not None if found.labels is None else None
    if isinstance(found.labels, tuple):
        return None
    if found.labels is None and not _is_kept(found.weights):
        return found.weights
    labels = found.labels and str(_here(found.labels))
    path = str(_here(found.weights))
    return OwnWeights(Path(path).name, path, labels and Path(labels).name, labels)


def allowed(found: ModelOrigin) -> Weights:
    """A run's weights for other pages to show.

    Raises:
        DataError: They lie neither in the folder of runs nor in one that the operator allows.
        RunError: Its classes' names were in memory.
    """
    trained = weights_of(found)
    if trained is None:
        raise cam.RunError("the names of its model's classes were in memory")
    paths = [trained] if isinstance(trained, str) else []
    if isinstance(trained, OwnWeights):
        paths = [trained.path, *filter(None, [trained.labels_path])]
    for path in paths:
        require_inside(path, (*allowed_files.checkpoint_roots(), _folder()))
    return trained


def keep(found: ModelOrigin) -> None:
    """Copy what was uploaded for a run to where the run says that it lies.

    Raises:
        RunError: It is not on this server any more, or cannot be written.
    """
    for path in (found.weights, found.labels):
        if not isinstance(path, str) or not _is_kept(path) or Path(path).exists():
            continue
        target, source = Path(path), _here(path)
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
                f"{target.name} cannot be kept in {str(_folder())!r}: {error.strerror}"
            ) from None


def lasting(upload: str) -> str:
    """Where an upload lies once a run names it."""
    path = Path(upload)
    return str(_folder() / path.parent.name / path.name)


def _here(path: str) -> Path:
    """Where a run's file lies now: before the run is started, where it was uploaded."""
    kept = Path(path)
    if kept.exists() or not _is_kept(path):
        return kept
    return own_weights.store().folder / kept.parent.name / kept.name


def _is_kept(path: str) -> bool:
    return Path(path).is_relative_to(_folder())


def _folder() -> Path:
    return allowed_roots.runs_folder().absolute() / FOLDER
