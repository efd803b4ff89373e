"""Parameters of methods: what makes no sense is refused in one sentence."""

import math

from cam.errors import MethodError


def whole(method: str, name: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number of at least ``least``, and at most ``most``.

    Raises:
        MethodError: It is none.
    """
    sound = isinstance(value, int) and not isinstance(value, bool)
    if not sound or value < least or (most is not None and value > most):  # type: ignore[operator]
        limit = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise MethodError(f"{_of(method)} {name} must be a whole number {limit}, but is {value!r}")
    return value  # type: ignore[return-value]


def seeded(method: str, value: object) -> int:
    """A seed that torch's generators take.

    Raises:
        MethodError: It is none.
    """
    found = whole(method, "seed", value, 0)
    if found >= 2**63:
        raise MethodError(f"{_of(method)} seed must be below 2⁶³, but is {value!r}")
    return found


def number(
    method: str, name: str, value: object, least: float = -math.inf, most: float = math.inf
) -> float:
    """A finite number between two limits, which belong to it.

    Raises:
        MethodError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MethodError(f"{_of(method)} {name} must be a number, but is {value!r}")
    if not math.isfinite(value):
        raise MethodError(f"{_of(method)} {name} must be finite, but is {value!r}")
    if not least <= value <= most:
        limits = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        limits = f"at most {most:g}" if least == -math.inf else limits
        raise MethodError(f"{_of(method)} {name} must be {limits}, but is {value!r}")
    return float(value)


def positive(method: str, name: str, value: object, most: float = math.inf) -> float:
    """A finite number above 0.

    Raises:
        MethodError: It is none.
    """
    found = number(method, name, value, most=most)
    if found <= 0:
        raise MethodError(f"{_of(method)} {name} must be above 0, but is {value!r}")
    return found


def _of(method: str) -> str:
    """The genitive of a name."""
    return f"{method}'" if method.endswith("s") else f"{method}'s"
