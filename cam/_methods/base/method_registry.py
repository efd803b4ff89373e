"""List the methods: each a function of what was captured, with its needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from cam._registry.registry import (
    Agreement,
    Configured,
    Registry,
    description_of,
    parameters_of,
)
from cam.errors import MethodError
from cam.parameters import Rule, boolean
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
        rules: Parameter → what it must be.
        agreement: What the parameters must be to each other.
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
    rules: Mapping[str, Rule] = field(repr=False)
    agreement: Agreement | None = field(repr=False)
    function: MethodFunction = field(repr=False)


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
    needs: Needs,
    cost: str,
    citation: str,
    rules: Mapping[str, Rule] | None = None,
    agreement: Agreement | None = None,
    percentile: float = 100,
    fusion: str | None = None,
    sums: bool = True,
    full: bool = False,
) -> Callable[[MethodFunction], MethodFunction]:
    """Add a function to the list of methods.

    The function takes what ``needs`` asks for: a layer's capture where ``needs.layer`` is set, the
    capture of the whole call otherwise; then the passes where ``needs.passes`` is set. Its
    keyword-only arguments are the method's parameters, the first paragraph of its docstring
    describes it, and it returns :class:`cam.types.Maps`.

    A package of its own names the module that calls this in its entry points::

        [project.entry-points."cam.methods"]
        mine = "my_package.my_method"

    Args:
        name: As :func:`cam.attribute` takes it.
        title: The name that its paper gives it.
        family: "cam", "gradient", "attention" or "perturbation".
        needs: What has to be captured for it.
        cost: Passes through the network for a batch, in words.
        citation: Paper and equation.
        rules: Parameter → what it must be, of :mod:`cam.parameters`; one for each parameter.
        agreement: From all parameters to the sentence on what is wrong with them together, or None.
        percentile: Where the colours end when the map is shown.
        fusion: How the maps of several layers become one, where that is the method's own.
        sums: Whether its map is a sum over a layer's channels.
        full: Whether it always computes in float32.

    Returns:
        A decorator, which returns the function as it is.

    Raises:
        ValueError: The name is taken, or the rules are not those of the parameters.
    """

    def add(function: MethodFunction) -> MethodFunction:
        parameters, every = dict(parameters_of(function)), dict(rules or {})
        if family == "cam":
            # The wrappers of cam._methods.base.smoothing, which every CAM has.
            for smoothing in ("eigen_smooth", "aug_smooth") if sums else ("aug_smooth",):
                parameters[smoothing], every[smoothing] = False, boolean()
        METHODS.add(
            MethodInfo(
                name=name,
                title=title,
                description=description_of(function),
                family=family,
                needs=needs,
                cost=cost,
                citation=citation,
                parameters=MappingProxyType(parameters),
                percentile=percentile,
                fusion=fusion,
                sums=sums and family == "cam",
                full=full,
                rules=MappingProxyType(every),
                agreement=agreement,
                function=function,
            )
        )
        return function

    return add


def methods() -> dict[str, MethodInfo]:
    """Return every method: name → description, family, needs, cost, citation, parameters."""
    return METHODS.all()


def method(name: str, **parameters: Any) -> Method:
    """Set a method's parameters, for :func:`cam.attribute`.

    Raises:
        MethodError: There is no such method, it has no such parameter, or a value is out of range.
    """
    return Method(name, parameters)
