"""Constraints on parameters, with the text for error messages.

Methods and metrics declare one for each of their parameters (:func:`cam.register_method`,
:func:`cam.register_metric`); it is checked when they are made, and forms take their limits from it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

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
        least: The smallest value of a number, where it has one.
        most: The largest value of a number, where it has one.
    """

    words: str
    holds: Callable[[object], bool]
    choices: tuple[str, ...] = ()
    mixed: bool = False
    least: float | None = None
    most: float | None = None


def integer(least: int = 0, most: int | None = None) -> Rule:
    """Require an integer between two limits, which belong to it."""

    def holds(value: object) -> bool:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return value >= least and (most is None or value <= most)

    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Rule(f"a whole number {limits}", holds, least=least, most=most)


def number(
    least: float | None = None, most: float | None = None, *, above: float | None = None
) -> Rule:
    """Require a finite number between limits, both allowed but ``above``."""

    def holds(value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (
            math.isfinite(value)
            and (least is None or value >= least)
            and (most is None or value <= most)
            and (above is None or value > above)
        )

    if least is not None and most is not None:
        words = f"a number from {least:g} to {most:g}"
    else:
        limits = [
            f"{name} {limit:g}"
            for name, limit in (("of at least", least), ("above", above), ("at most", most))
            if limit is not None
        ]
        words = f"a number {' and '.join(limits)}" if limits else "a finite number"
    return Rule(words, holds, least=above if least is None else least, most=most)


def one_of(choices: Iterable[str]) -> Rule:
    """Require one of a few words."""
    words = tuple(choices)
    return Rule(f"one of {', '.join(words)}", lambda value: value in words, words)


def fractions(growing: bool = True) -> Rule:
    """Require shares of the picture, each above 0 and below 1."""
    share = number(above=0)

    def holds(value: object) -> bool:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            return False
        if not all(share.holds(part) and part < 1 for part in value):
            return False
        return not growing or list(value) == sorted(set(value))

    return Rule(f"one or more {'growing ' if growing else ''}numbers above 0 and below 1", holds)


def colour() -> Rule:
    """Require a fill for hidden pixels."""
    plain = number()

    def holds(value: object) -> bool:
        if isinstance(value, Tensor):
            return bool(value.is_floating_point() and torch.isfinite(value).all())
        if isinstance(value, str):
            return False
        several = value if isinstance(value, Sequence) else [value]
        return len(several) > 0 and all(plain.holds(channel) for channel in several)

    return Rule("a number, one a channel or a tensor of an image's shape", holds, mixed=True)


def boolean() -> Rule:
    """Require True or False."""
    return Rule("True or False", lambda value: isinstance(value, bool))


def tensor(words: str) -> Rule:
    """Require a tensor; its shape is checked beside the picture."""
    return Rule(words, lambda value: isinstance(value, Tensor))


def optional(rule: Rule) -> Rule:
    """Allow None beside what a rule allows."""
    return replace(
        rule,
        words=f"{rule.words}, or None",
        holds=lambda value: value is None or rule.holds(value),
    )


SEED = replace(integer(0, 2**63 - 1), words="a whole number of at least 0 and below 2⁶³", most=None)
