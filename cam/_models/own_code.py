"""Load a model that a function of the caller's code makes."""

import importlib
import re
import sys
from pathlib import Path

from torch import nn

from cam._models.model import Model
from cam.errors import ModelError, nearest

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def names_code(name: str) -> bool:
    """Return whether a name is that of a function, as in ``package.module:function``."""
    return _NAME.fullmatch(name) is not None


def load_code(name: str) -> Model:
    """Import a module and call its function, which returns the model.

    The folder in which the program runs is searched first, as ``python -m`` does.

    Args:
        name: ``package.module:function``; the function takes nothing.

    Returns:
        What it returns; a network becomes a :class:`cam.Model` with the usual preprocessing.

    Raises:
        ModelError: There is no such module or function, it fails, or it returns something else.
    """
    module_name, _, path = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        made = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(
            f"the module {module_name!r} of {name!r} cannot be imported: {error}"
        ) from error
    for part in path.split("."):
        if not hasattr(made, part):
            offered = [public for public in vars(made) if not public.startswith("_")]
            raise ModelError(f"{name!r} names no {part!r}; {nearest(part, offered)}")
        made = getattr(made, part)
    if callable(made) and not isinstance(made, nn.Module | Model):
        try:
            made = made()
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"{name} failed with {type(error).__name__}: {reason}") from error
    model = Model(made) if isinstance(made, nn.Module) else made
    if not isinstance(model, Model):
        raise ModelError(
            f"{name} returned a {type(made).__name__}; it must return a cam.Model, or a "
            "torch.nn.Module"
        )
    # What its maker did not name is called as it was asked for.
    if model.name == type(model.module).__name__:
        model.name = name
    return model
