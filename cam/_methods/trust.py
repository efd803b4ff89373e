"""Say what a method's maps were measured to be good for.

``trust.json`` is written by ``python -m benchmarks.axioms``: for each method and axiom the figure
that was measured, and whether the axiom holds. ``docs/validation.md`` explains both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent / "trust.json"

STATEMENTS: Mapping[str, tuple[str, str]] = {
    "completeness": (
        "its values add up to the change of the score",
        "its values do not add up to the change of the score",
    ),
    "conservation": (
        "its values add up to the whole score",
        "its values do not add up to the score",
    ),
    "linearity": (
        "maps of two classes can be added",
        "maps of two classes cannot be added",
    ),
    "dummy": (
        "pixels that the network ignores get nothing",
        "pixels that the network ignores may get something",
    ),
    "symmetry": (
        "pixels that do the same get the same",
        "pixels that do the same may get different values",
    ),
    "scale": (
        "a network written with other factors has the same map",
        "a network written with other factors has another map",
    ),
    "seeds": ("another seed gives the same map", "another seed gives another map"),
    "batch": ("the same map in any batch", "another map in another batch"),
}
"""Axiom → what holds, and what does not, as a clause for a person."""

# Those that a reader of one map can make use of.
_SPOKEN = ("completeness", "conservation", "dummy", "symmetry", "seeds")


@dataclass(frozen=True)
class Finding:
    """What was measured of a method.

    Attributes:
        figure: An error, or a correlation.
        holds: Whether the axiom does.
    """

    figure: float
    holds: bool


@dataclass(frozen=True)
class Trust:
    """A method's row of the bench of axioms.

    Attributes:
        axioms: Axiom → finding; None where it does not apply.
        agreement: Network with known answers → correlation with the exact attribution; None where
            the method does not run.
    """

    axioms: Mapping[str, Finding | None]
    agreement: Mapping[str, float | None]

    @property
    def sentence(self) -> str:
        """What to trust the method for, and what not."""
        held = {name: finding.holds for name, finding in self.axioms.items() if finding}
        good = [STATEMENTS[name][0] for name in _SPOKEN if held.get(name) is True]
        bad = [STATEMENTS[name][1] for name in _SPOKEN if held.get(name) is False]
        parts = []
        if good:
            parts.append(f"Trust it for this: {'; '.join(good)}.")
        if bad:
            parts.append(f"Not for this: {'; '.join(bad)}.")
        measured = [value for value in self.agreement.values() if value is not None]
        if measured:
            mean = sum(measured) / len(measured)
            parts.append(
                f"Its maps correlate with the exact attribution of {len(measured)} networks by "
                f"{mean:.2f} on average."
            )
        return " ".join(parts)


def find_trust(method: str) -> Trust | None:
    """Look up what was measured of a method; None where nothing was."""
    facts = _table().get(method)
    if facts is None:
        return None
    axioms = {
        name: None if value is None else Finding(**value) for name, value in facts["axioms"].items()
    }
    return Trust(axioms, facts["agreement"])


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(TABLE.read_text())
    return table
