"""Register the methods: each a function of what it reads."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Concatenate, TypeVar

from cam._engine.method_sources import (
    Attention,
    LayerActivations,
    Source,
    TransformerBlocks,
)
from cam._methods.base.smoothing import with_smoothing
from cam._registry.registry import (
    Agreement,
    Configured,
    Registry,
    description_of,
    parameters_of,
    references_of,
)
from cam.errors import MethodError, nearest
from cam.parameters import Rule, boolean
from cam.polarity import KINDS
from cam.types import Maps

S = TypeVar("S", bound=Source)
MethodFunction = Callable[Concatenate[S, ...], Maps]
"""From what a method reads, and its parameters, to maps."""


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
        kind: What the numbers of its maps are: "contribution", "sensitivity" or "evidence", of
            :data:`cam.polarity.KINDS`.
        reads: What it is called with: a class of :mod:`cam.sources`.
        passes: Whether it runs further passes, on inputs that it makes.
        cost: Passes through the network for a batch, in words.
        citation: Paper and equation.
        parameters: Parameter → default.
        percentile: Where the colours end when the map is shown. 100 is its maximum; a map with a
            few bright pixels among many dark ones is read better up to 99.
        fusion: How the maps of several layers are fused, where the method fixes it; None: as the
            caller of :func:`cam.attribute` says.
        full: It always computes in float32, since it calculates inside the backward pass, out of
            autocast's reach.
        sums: Whether its map is a sum over a layer's channels, so that ``eigen_smooth`` is one of
            its parameters.
        kernel_rules: Rules of :func:`kernels.fused_cam` whose maps it reads.
        rules: Parameter → what it must be.
        agreement: What the parameters must be to each other.
        needs_gradients: Whether the network must let gradients through.
        volumes: Whether it explains volumes and clips too, (B, C, D, H, W).
        function: From what it reads to maps.
    """

    name: str
    title: str
    description: str
    family: str
    kind: str
    reads: type[Source]
    passes: bool
    cost: str
    citation: str
    parameters: Mapping[str, Any]
    percentile: float
    fusion: str | None
    full: bool
    sums: bool
    kernel_rules: tuple[str, ...]
    rules: Mapping[str, Rule] = field(repr=False)
    agreement: Agreement | None = field(repr=False)
    needs_gradients: bool
    volumes: bool
    function: Callable[..., Maps] = field(repr=False)

    @property
    def layer(self) -> bool:
        """Whether it explains at a layer, so that the caller may choose which."""
        return issubclass(self.reads, LayerActivations)

    @property
    def attention(self) -> bool:
        """Whether it reads a transformer's attention."""
        return issubclass(self.reads, Attention | TransformerBlocks)


METHODS: Registry[MethodInfo] = Registry("method", "cam.methods", MethodError)


@dataclass(frozen=True)
class Method(Configured[MethodInfo]):
    """A method with its parameters, checked when it is made.

    Raises:
        MethodError: There is no such method, it has no such parameter, or a value is out of range.
    """

    registry: ClassVar[Registry[Any]] = METHODS

    def __post_init__(self) -> None:
        info = self.info
        if "eigen_smooth" in self.parameters and info.family == "cam" and not info.sums:
            raise MethodError(
                f"{self.name} takes no eigen_smooth: its map is no sum over a layer's channels "
                "that a principal component could replace"
            )
        super().__post_init__()


def register_method(
    name: str,
    *,
    title: str,
    family: str,
    kind: str,
    reads: type[S],
    cost: str,
    rules: Mapping[str, Rule] | None = None,
    agreement: Agreement | None = None,
    percentile: float | None = None,
    fusion: str | None = None,
    sums: bool = True,
    full: bool = False,
    kernel_rules: tuple[str, ...] = (),
    needs_gradients: bool = True,
    volumes: bool = False,
) -> Callable[[MethodFunction[S]], MethodFunction[S]]:
    """Add a function to the methods.

    The function takes one of what it ``reads``, a class of :mod:`cam.sources`: once for each layer
    where that is a layer's, else once for the batch. A second argument gets
    :class:`cam.sources.Passes`, by which it runs further passes. Its keyword-only arguments are the
    method's parameters, and it returns :class:`cam.Maps`. The first paragraph of its docstring
    describes it, the section "References:" names paper and equation.

    Another package names the module that calls this in its entry points::

        [project.entry-points."cam.methods"]
        mine = "my_package.my_method"

    Args:
        name: As :func:`cam.attribute` takes it.
        title: The name that its paper gives it.
        family: "cam", "gradient", "attention" or "perturbation".
        kind: "contribution", "sensitivity" or "evidence", of :data:`cam.polarity.KINDS`.
        reads: What it is called with.
        cost: Passes through the network for a batch, in words.
        rules: Parameter → what it must be, of :mod:`cam.parameters`; one for each parameter.
        agreement: From all parameters to the sentence on what is wrong with them together, or None.
        percentile: Where the colours end when the map is shown; None: 99 for gradients, of which a
            few are far larger than the rest, and 100 for all others.
        fusion: How the maps of several layers are fused, where the method fixes it.
        sums: Whether its map is a sum over a layer's channels.
        full: Whether it always computes in float32.
        kernel_rules: Rules of :func:`kernels.fused_cam` whose maps it reads; only with
            :class:`cam.sources.LayerGradients`.
        needs_gradients: Whether the network must let gradients through; False for a method that
            asks for nothing but scores.
        volumes: Whether it takes batches (B, C, D, H, W) and feature maps (B, C, d, h, w) of
            volumes and clips too, and returns maps with that axis.

    Returns:
        A decorator, which returns the function as it is.

    Raises:
        ValueError: The name is taken, there is no such kind, or the rules are not those of the
            parameters.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r}; {nearest(kind, KINDS)}")

    def add(function: MethodFunction[S]) -> MethodFunction[S]:
        parameters, every = dict(parameters_of(function)), dict(rules or {})
        run: Callable[..., Maps] = function
        if family == "cam":
            for smoothing in ("eigen_smooth", "aug_smooth") if sums else ("aug_smooth",):
                parameters[smoothing], every[smoothing] = False, boolean()
            run = with_smoothing(function, fused=fusion is not None)
        METHODS.add(
            MethodInfo(
                name=name,
                title=title,
                description=description_of(function),
                family=family,
                kind=kind,
                reads=reads,
                passes=takes_passes(function),
                cost=cost,
                citation=references_of(function),
                parameters=MappingProxyType(parameters),
                percentile=percentile or (99 if family == "gradient" else 100),
                fusion=fusion,
                full=full,
                sums=sums and family == "cam",
                kernel_rules=kernel_rules,
                rules=MappingProxyType(every),
                agreement=agreement,
                needs_gradients=needs_gradients,
                volumes=volumes,
                function=run,
            )
        )
        return function

    return add


def takes_passes(function: Callable[..., Maps]) -> bool:
    """Test whether a function has a second positional argument, for further passes."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    return kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) > 1


def methods() -> dict[str, MethodInfo]:
    """Return every method by its name: description, family, reads, cost, citation."""
    return METHODS.all()


def method(name: str, **parameters: Any) -> Method:
    """Set a method's parameters, for :func:`cam.attribute`.

    Raises:
        MethodError: There is no such method, it has no such parameter, or a value is out of range.
    """
    return Method(name, parameters)
