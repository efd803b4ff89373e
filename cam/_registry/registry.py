"""Register methods and metrics by name, and check their parameters."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from cam.errors import CamError, CamWarning, nearest
from cam.parameters import Rule


class Info(Protocol):
    """What every entry of a list has."""

    @property
    def name(self) -> str:
        """As callers write it."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameter → default."""

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Parameter → what it must be."""

    @property
    def agreement(self) -> "Agreement | None":
        """What the parameters must be to each other; None: anything."""


InfoT = TypeVar("InfoT", bound=Info)
Agreement = Callable[..., str | None]
"""From all parameters to the sentence on what is wrong with them together, or None."""


class Registry(Generic[InfoT]):
    """A list of methods or metrics by name; other packages add to it by entry points."""

    def __init__(self, kind: str, group: str, error: type[CamError]) -> None:
        self.kind = kind
        self.error = error
        self._group = group
        self._entries: dict[str, InfoT] = {}
        self._plugins_loaded = False

    def add(self, info: InfoT) -> None:
        """Add an entry; one that is there already is never replaced.

        Raises:
            ValueError: The name is taken, or the rules are not those of the parameters.
        """
        if info.name in self._entries:
            raise ValueError(f"a {self.kind} {info.name!r} is registered already")
        if info.rules.keys() != info.parameters.keys():
            raise ValueError(f"the rules of {info.name!r} are not those of its parameters")
        for parameter, default in info.parameters.items():
            if not info.rules[parameter].holds(default):
                raise ValueError(f"the default of {info.name!r}'s {parameter} breaks its rule")
        self._entries[info.name] = info

    def adopt(self, entries: Mapping[str, InfoT]) -> None:
        """Add another process's entries; replace none."""
        self._entries |= {name: info for name, info in entries.items() if name not in self._entries}

    def all(self) -> dict[str, InfoT]:
        """Return every entry by its name."""
        self._load_plugins()
        return dict(self._entries)

    def __getitem__(self, name: str) -> InfoT:
        if name not in self._entries:
            self._load_plugins()
        if name not in self._entries:
            raise self.error(f"there is no {self.kind} {name!r}; {nearest(name, self._entries)}")
        return self._entries[name]

    def _load_plugins(self) -> None:
        """Import what other packages name in this group, which registers it."""
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for plugin in entry_points(group=self._group):
            try:
                plugin.load()
            except Exception as error:  # noqa: BLE001 (somebody else's code may raise anything)
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                warnings.warn(
                    f"the {self.kind} {plugin.name!r} of the package "
                    f"{plugin.dist.name if plugin.dist else plugin.value!r} cannot be loaded: "
                    f"{reason}",
                    CamWarning,
                    stacklevel=4,
                )


@dataclass(frozen=True)
class Configured(Generic[InfoT]):
    """An entry of a list with parameters, checked when it is made.

    Raises:
        CamError: There is no such entry, it has no such parameter, or a value is out of range.
    """

    registry: ClassVar[Registry[Any]]

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        # A run's folder holds JSON, which has no tuples: what comes back is the same again.
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in self.parameters.items()}
        object.__setattr__(self, "parameters", plain)
        info, refuse = self.info, self.registry.error
        for parameter, value in plain.items():
            if not info.parameters:
                raise refuse(f"{self.name} has no parameters, so {parameter!r} cannot be set")
            if parameter not in info.parameters:
                near = nearest(parameter, info.parameters)
                raise refuse(f"{self.name} has no parameter {parameter!r}; {near}")
            rule = info.rules[parameter]
            if not rule.holds(value):
                raise refuse(
                    f"{possessive(self.name)} {parameter} must be {rule.words}, but is {value!r}"
                )
        if info.agreement and (sentence := info.agreement(**{**info.parameters, **plain})):
            raise refuse(f"{possessive(self.name)} {sentence}")

    @property
    def info(self) -> InfoT:
        """The registered entry."""
        entry: InfoT = self.registry[self.name]
        return entry

    def same(self, other: "Configured[InfoT]") -> bool:
        """Compare name and parameters, tensors by their values."""
        mine, theirs = self.parameters, other.parameters
        return (
            self.name == other.name
            and mine.keys() == theirs.keys()
            and all(_equal(mine[key], theirs[key]) for key in mine)
        )

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        listed = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"{self.name}({listed})"


def parameters_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Read parameter → default of a function's keyword-only arguments."""
    signature = inspect.signature(function).parameters.values()
    return MappingProxyType({p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY})


def description_of(function: Callable[..., Any]) -> str:
    """Read the first paragraph of a function's docstring as one line."""
    return (inspect.getdoc(function) or "").split("\n\n", 1)[0].replace("\n", " ")


def references_of(function: Callable[..., Any]) -> str:
    """Read the section "References:" of a function's docstring as one line.

    Raises:
        ValueError: There is none.
    """
    _, heading, section = (inspect.getdoc(function) or "").partition("\nReferences:\n")
    if not heading:
        raise ValueError(f"the docstring of {function.__name__} has no section 'References:'")
    return " ".join(section.split("\n\n", 1)[0].split())


def possessive(name: str) -> str:
    """Write the genitive of a name."""
    return f"{name}'" if name.endswith("s") else f"{name}'s"


def _equal(value: Any, other: Any) -> bool:
    if isinstance(value, Tensor) or isinstance(other, Tensor):
        both = isinstance(value, Tensor) and isinstance(other, Tensor)
        return both and value.device == other.device and torch.equal(value, other)
    # Arrays compare element by element, and without all their elements have no truth.
    return value is other or bool(np.array_equal(value, other))
