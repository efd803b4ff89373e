"""Query the tables of a run's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cam._runs.storage.query import query
from cam._runs.storage.store import Store

if TYPE_CHECKING:
    import pandas

# What a leaderboard can be taken apart by; each is a column made from an item's facts.
BY = {
    "class": "coalesce(i.label, 'unknown')",
    "correct": "CASE WHEN i.correct THEN 'correct' WHEN NOT i.correct THEN 'wrong' "
    "ELSE 'unknown' END",
    "confidence": "CASE WHEN i.confidence IS NULL THEN 'unknown' "
    "WHEN i.confidence < 0.25 THEN '0.00–0.25' WHEN i.confidence < 0.5 THEN '0.25–0.50' "
    "WHEN i.confidence < 0.75 THEN '0.50–0.75' ELSE '0.75–1.00' END",
}


class RunTables:
    """The tables of a run, and what it was set to.

    Attributes:
        store: The folder.
        config: Everything that determined the result.
        notes: Where it was made.
        parts: "class", "correct" or "confidence" → the only group of images that counts.
    """

    def __init__(self, store: Store, parts: Mapping[str, str] | None = None) -> None:
        self.store = store
        self.parts = dict(parts or {})
        self.config: dict[str, Any] = store.facts["config"]
        self.notes: dict[str, Any] = store.facts.get("notes", {})

    @property
    def path(self) -> Path:
        """The folder."""
        return self.store.path

    @property
    def total(self) -> int:
        """How many items the data have."""
        return self.store.items

    @property
    def done(self) -> int:
        """How many of them are stored."""
        return self.store.done()

    @property
    def methods(self) -> list[str]:
        """The methods' keys, in the order of the call."""
        return [one["key"] for one in self.config["methods"]]

    @property
    def metrics(self) -> list[str]:
        """The metrics' keys, in the order of the call."""
        return [one["key"] for one in self.config["metrics"]]

    @property
    def directions(self) -> dict[str, int]:
        """Metric → +1 where higher is better, else -1."""
        return {one["key"]: one["direction"] for one in self.config["metrics"]}

    def query(self, sql: str, parameters: list[Any] | None = None) -> "pandas.DataFrame":
        """Ask DuckDB; the tables are views of the shards' files."""
        chosen = {BY[by]: part for by, part in self.parts.items()}
        return query(self.store, self.methods, self.metrics, sql, parameters, chosen)
