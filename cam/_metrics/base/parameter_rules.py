"""What a metric's parameter may be, told in words and checked when the metric is made."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """A condition on one parameter.

    Attributes:
        words: What follows "must be".
        holds: Whether a value keeps it.
        choices: All values that do, where they are a few words; else none.
        mixed: Whether values of several types do, so that a form takes them as text.
    """

    words: str
    holds: Callable[[object], bool]
    choices: tuple[str, ...] = ()
    mixed: bool = False


def whole(least: int = 0) -> Rule:
    """An integer that is large enough."""

    def holds(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    return Rule(f"a whole number of at least {least}", holds)


def number(
    above: float = -math.inf, *, least: float = -math.inf, most: float = math.inf, words: str
) -> Rule:
    """A finite number in an interval, which ``words`` describe."""
    return Rule(words, lambda value: _is_number(value) and value > above and least <= value <= most)  # type: ignore[operator]


def one_of(*choices: str) -> Rule:
    """One of a few words."""
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices, choices)


def fractions() -> Rule:
    """Shares of the picture, growing, each above 0 and below 1."""

    def holds(value: object) -> bool:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            return False
        numbers = all(_is_number(one) and 0 < one < 1 for one in value)
        return numbers and list(value) == sorted(set(value))

    return Rule("growing numbers above 0 and below 1", holds)


def colour() -> Rule:
    """What hidden pixels show."""

    def holds(value: object) -> bool:
        if isinstance(value, str):
            return value == "blur"
        if isinstance(value, Tensor):
            return bool(value.is_floating_point() and torch.isfinite(value).all())
        several = value if isinstance(value, Sequence) else [value]
        return len(several) > 0 and all(_is_number(one) for one in several)

    words = "a number, one a channel, a tensor of a picture's shape, or 'blur'"
    return Rule(words, holds, mixed=True)


def flag() -> Rule:
    """True or False."""
    return Rule("True or False", lambda value: isinstance(value, bool))


SEED = Rule(
    "a whole number of at least 0 and below 2⁶³",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63,
)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
