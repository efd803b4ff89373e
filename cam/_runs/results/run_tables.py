"""Query the tables of a run's folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cam._runs.storage.store import TABLES, Store
from cam._runs.storage.tables import STATUSES
from cam.errors import RunError, nearest
from cam.polarity import POLARITY_WORDS

if TYPE_CHECKING:
    import pandas

# DuckDB spills to the disk beyond this.
MEMORY = "600MB"
RETRIES = 3
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
        store: The folder's tables.
        path: The folder.
        total: How many items the data have.
        config: Everything that determined the result.
        methods: The methods' keys, in the order of the call.
        metrics: The metrics' keys, in the order of the call.
        directions: Metric → +1 where higher is better, else -1.
        notes: Where it was made.
        parts: "class", "correct" or "confidence" → the only group of images that counts.
        numbers: Of the only images that count; None: all.
    """

    def __init__(
        self,
        store: Store,
        parts: Mapping[str, str] | None = None,
        numbers: frozenset[int] | None = None,
    ) -> None:
        self.store = store
        self.path: Path = store.path
        self.total: int = store.items
        self.parts = dict(parts or {})
        self.numbers = numbers
        self.config: dict[str, Any] = store.facts["config"]
        methods, metrics = self.config["methods"], self.config["metrics"]
        self.methods: list[str] = [method["key"] for method in methods]
        self.metrics: list[str] = [metric["key"] for metric in metrics]
        self.directions: dict[str, int] = {metric["key"]: metric["direction"] for metric in metrics}
        self.notes: dict[str, Any] = store.facts.get("notes", {})

    @property
    def done(self) -> int:
        """How many of them are stored."""
        return self.store.done()

    def require(self, kind: str, key: str) -> None:
        """Refuse a method or metric that the run has not.

        Args:
            kind: "method" or "metric".
            key: As of the call.

        Raises:
            RunError: There is none of that key.
        """
        keys = self.methods if kind == "method" else self.metrics
        if key not in keys:
            raise RunError(f"the run has no {kind} {key!r}; {nearest(key, keys)}")

    @property
    def polarity(self) -> str:
        """Say in a sentence how the metrics read signed maps."""
        read: dict[str, list[str]] = {}
        for facts in self.config["metrics"]:
            if polarity := facts["parameters"].get("polarity"):
                read.setdefault(polarity, []).append(facts["key"])
        if len(read) == 1:
            (polarity,) = read
            return f"Polarity {polarity}, the same for all methods: {POLARITY_WORDS[polarity]}."
        return " ".join(
            f"{', '.join(keys)}: polarity {polarity}, {POLARITY_WORDS[polarity]}."
            for polarity, keys in read.items()
        )

    def groups(self) -> "pandas.Series":
        """Read the group of each item, by its number: the unit of intervals and tests."""
        table = self.query('SELECT item, "group" FROM items ORDER BY item')
        return table.set_index("item")["group"]

    def query(self, sql: str, parameters: list[Any] | None = None) -> "pandas.DataFrame":
        """Query the tables by DuckDB; ``methods`` and ``metrics`` are enumerations.

        Raises:
            RunError: Nothing is done yet, or a file cannot be read.
        """
        import duckdb

        for attempt in range(RETRIES):
            try:
                with duckdb.connect() as database:
                    self._create_views(database, sql)
                    return database.execute(sql, parameters).df()
            except duckdb.Error as error:
                # The writer merges shards; what was listed may be part of a larger file by now.
                if not isinstance(error, duckdb.IOException) or attempt == RETRIES - 1:
                    reason = str(error).splitlines()[0]
                    raise RunError(f"the run {str(self.path)!r} cannot be read: {reason}") from None
        raise AssertionError("the last attempt returns or raises")

    def _create_views(self, database: Any, sql: str) -> None:
        """Make views of the tables that a query names.

        Costs, which are of batches, are of all images whatever the parts.
        """
        database.execute(f"SET memory_limit = '{MEMORY}'")
        database.execute("SET enable_progress_bar = false")
        enumerations = {"methods": self.methods, "metrics": self.metrics, "statuses": STATUSES}
        for kind, names in enumerations.items():
            database.execute(f"CREATE TYPE {kind} AS ENUM ({_quote(names)})")
        conditions = [f"{BY[by]} = {_quote([part])}" for by, part in self.parts.items()]
        if self.numbers is not None:
            conditions.append(f"list_contains({sorted(self.numbers)}::INTEGER[], i.item)")
        parts = " AND ".join(conditions)
        # A view is made after those that it reads.
        for name in sorted(TABLES, key=lambda name: name != "items"):
            if name not in sql and not (parts and name == "items"):
                continue
            files = self.store.files(name)
            if not files:
                raise RunError(f"the run {str(self.path)!r} has no image done yet")
            condition = "true"
            if parts and name != "costs":
                condition = parts if name == "items" else "i.item IN (SELECT item FROM items)"
            database.execute(
                f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{_quote(files)}]) i "
                f"WHERE {condition}"
            )


def _quote(names: Iterable[str]) -> str:
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)
