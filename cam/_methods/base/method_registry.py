"""The list of methods: each a function of what was captured, with a declaration of its needs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cam.errors import MethodError, nearest
from cam.types import Maps, Needs

MethodFunction = Callable[..., Maps]


@dataclass(frozen=True)
class MethodInfo:
    """What a method is.

    Attributes:
        name: As :func:`cam.attribute` takes it.
        title: The name that its paper gives it.
        description: One sentence on what its map shows.
        family: ``cam`` (a layer's feature maps), ``gradient`` (the pixels' gradient),
            ``attention`` (a transformer's) or ``perturbation`` (what the score does when parts of
            the picture are hidden).
        needs: What has to be captured for it.
        cost: Passes through the network for a batch, in words.
        citation: Paper and equation.
        parameters: Parameter → default.
        percentile: Where the colours end when the map is shown. 100 is its maximum; a map with a
            few bright pixels among many dark ones is read better up to 99.
        full: It computes in full precision whatever is asked for, since it calculates inside the
            backward pass, where autocast does not reach.
        fusion: How the maps of several layers become one, where that is the method's own; None: as
            the caller of :func:`cam.attribute` says.
        sums: Whether its map is a sum over a layer's channels, so that ``eigen_smooth`` is one of
            its parameters.
        function: From a layer's or the pixels' capture to maps.
    """

    name: str
    title: str
    description: str
    family: str
    needs: Needs
    cost: str
    citation: str
    parameters: Mapping[str, Any]
    percentile: float
    fusion: str | None
    full: bool
    sums: bool
    function: MethodFunction = field(repr=False)


@dataclass(frozen=True)
class Method:
    """A method with its parameters, checked when it is made.

    Raises:
        MethodError: There is no such method, or it has no such parameter.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        # A run's folder holds JSON, which knows no tuples: what comes back is the same again.
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in self.parameters.items()}
        object.__setattr__(self, "parameters", plain)
        if self.name not in _METHODS:
            raise MethodError(f"there is no method {self.name!r}; {nearest(self.name, _METHODS)}")
        known = self.info.parameters
        for parameter, value in self.parameters.items():
            if parameter == "eigen_smooth" and self.info.family == "cam" and not self.info.sums:
                raise MethodError(
                    f"{self.name} takes no eigen_smooth: its map is no sum over a layer's channels "
                    "that a principal component could replace"
                )
            if not known:
                raise MethodError(f"{self.name} has no parameters, so {parameter!r} cannot be set")
            if parameter not in known:
                raise MethodError(
                    f"{self.name} has no parameter {parameter!r}; {nearest(parameter, known)}"
                )
            if parameter in ("eigen_smooth", "aug_smooth") and not isinstance(value, bool):
                raise MethodError(
                    f"{self.name}'s {parameter} must be True or False, but is {value!r}"
                )

    @property
    def info(self) -> MethodInfo:
        """The registered method."""
        return _METHODS[self.name]

    def same(self, other: "Method") -> bool:
        """Whether another gives the same maps: name and parameters are equal, tensors too."""
        mine, theirs = self.parameters, other.parameters
        return (
            self.name == other.name
            and mine.keys() == theirs.keys()
            and all(_equal(mine[key], theirs[key]) for key in mine)
        )

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        told = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"{self.name}({told})"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        both = isinstance(one, Tensor) and isinstance(other, Tensor)
        return both and one.device == other.device and torch.equal(one, other)
    # Arrays compare element by element, and without all their elements have no truth.
    return one is other or bool(np.array_equal(one, other))


_METHODS: dict[str, MethodInfo] = {}


def register(
    name: str,
    *,
    title: str,
    family: str,
    needs: Needs,
    cost: str,
    citation: str,
    percentile: float = 100,
    fusion: str | None = None,
    sums: bool = True,
    full: bool = False,
) -> Callable[[MethodFunction], MethodFunction]:
    """Add a function to the list of methods; its docstring's first line describes it."""

    def add(function: MethodFunction) -> MethodFunction:
        if name in _METHODS:
            raise ValueError(f"a method {name!r} is registered already")
        parameters = {
            key: parameter.default
            for key, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        if family == "cam":
            # The wrappers of cam._methods.base.smoothing, which every CAM has.
            parameters |= {"eigen_smooth": False} if sums else {}
            parameters |= {"aug_smooth": False}
        description = (inspect.getdoc(function) or "").split("\n\n", 1)[0].replace("\n", " ")
        _METHODS[name] = MethodInfo(
            name=name,
            title=title,
            description=description,
            family=family,
            needs=needs,
            cost=cost,
            citation=citation,
            parameters=MappingProxyType(parameters),
            percentile=percentile,
            fusion=fusion,
            sums=sums and family == "cam",
            full=full,
            function=function,
        )
        return function

    return add


def adopt(known: Mapping[str, MethodInfo]) -> None:
    """Know another process's methods too; those that are here already stay as they are."""
    for name, info in known.items():
        _METHODS.setdefault(name, info)


def methods() -> dict[str, MethodInfo]:
    """Every method: name → description, family, needs, cost, citation, parameters."""
    return dict(_METHODS)


def method(name: str, **parameters: Any) -> Method:
    """A method with parameters of its own, for :func:`cam.attribute`.

    Raises:
        MethodError: There is no such method, or it has no such parameter.
    """
    return Method(name, parameters)
