"""Hold the models and data that this server was started with.

They are the caller's objects (``cam.serve``) or what a project file names, opened when a visitor
first asks for them. Visitors name them and nothing else: no address makes the server import code.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import cam
from cam._data.dataset import Dataset
from cam._models.black_box import names_program
from cam._models.own_code import names_code

# What a run's data are called in an address, before their name.
PREFIX = "served:"


class Shelf:
    """Objects by name, each made once."""

    def __init__(self) -> None:
        self._makers: dict[str, Callable[[], Any]] = {}
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

    def fill(self, makers: Mapping[str, Callable[[], Any]]) -> None:
        """Take the objects of a server's start in place of those before."""
        with self._lock:
            self._makers, self._made = dict(makers), {}

    def list_names(self) -> tuple[str, ...]:
        """List the names, in the caller's order."""
        return tuple(self._makers)

    def take(self, name: str) -> Any:
        """Return an object, made now if it is the first time; an error is not kept."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._makers[name]()
            return self._made[name]


models, data = Shelf(), Shelf()


def has_model(name: str) -> bool:
    """Return whether the server was started with a model of that name."""
    return name in models.list_names()


def open_data(source: str) -> Dataset:
    """Return the data that ``served:NAME`` names.

    Raises:
        DataError: The server was not started with such data.
    """
    name = source.removeprefix(PREFIX)
    if name not in data.list_names():
        raise cam.DataError(f"this server was not started with the data {name!r}")
    opened: Dataset = data.take(name)
    return opened


def refuse_code(name: str) -> None:
    """Refuse a model that an address or a run's file says to import or to open.

    Raises:
        ModelError: It names a function or a file, and the server was not started with it.
    """
    if (names_code(name) or names_program(name)) and not has_model(name):
        raise cam.ModelError(
            f"this server was not started with the model {name!r}, and imports no code that a "
            "visitor names"
        )
