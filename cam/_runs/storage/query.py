"""DuckDB over a run's Parquet files."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cam._runs.storage.store import TABLES, Store
from cam._runs.storage.tables import STATUSES
from cam.errors import RunError

if TYPE_CHECKING:
    import pandas

# DuckDB spills to the disk beyond this.
MEMORY = "600MB"
_RETRIES = 3


def query(
    store: Store,
    methods: list[str],
    metrics: list[str],
    sql: str,
    parameters: list[Any] | None = None,
    chosen: Mapping[str, str] | None = None,
) -> "pandas.DataFrame":
    """Ask about a run; its tables are views, ``methods`` and ``metrics`` enumerations.

    ``chosen`` keeps the images alone for which each expression of an item ``i`` has that value;
    costs, which are of batches, are left whole.

    Raises:
        RunError: Nothing is done yet, or a file cannot be read.
    """
    import duckdb

    for attempt in range(_RETRIES):
        try:
            with duckdb.connect() as database:
                _prepare(database, store, methods, metrics, sql, chosen or {})
                return database.execute(sql, parameters).df()
        except duckdb.Error as error:
            # The writer merges shards; what was listed may be part of a larger file by now.
            if not isinstance(error, duckdb.IOException) or attempt == _RETRIES - 1:
                told = str(error).splitlines()[0]
                raise RunError(f"the run {str(store.path)!r} cannot be read: {told}") from None
    raise AssertionError("the last attempt returns or raises")


def _prepare(
    database: Any,
    store: Store,
    methods: list[str],
    metrics: list[str],
    sql: str,
    chosen: Mapping[str, str],
) -> None:
    database.execute(f"SET memory_limit = '{MEMORY}'")
    database.execute("SET enable_progress_bar = false")
    enumerations = {"methods": methods, "metrics": metrics, "statuses": STATUSES}
    for kind, names in enumerations.items():
        database.execute(f"CREATE TYPE {kind} AS ENUM ({_quoted(names)})")
    # A view is made after those that it reads.
    for name in sorted(TABLES, key=lambda one: one != "items"):
        if name not in sql and not (chosen and name == "items"):
            continue
        files = store.files(name)
        if not files:
            raise RunError(f"the run {str(store.path)!r} has no image done yet")
        where = ""
        if chosen and name == "items":
            where = " AND ".join(f"{one} = {_quoted([part])}" for one, part in chosen.items())
        elif chosen and name != "costs":
            where = "i.item IN (SELECT item FROM items)"
        database.execute(
            f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{_quoted(files)}]) i"
            + (f" WHERE {where}" if where else "")
        )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)
