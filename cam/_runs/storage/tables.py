"""The columns of a run's tables."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# What became of a value: measured; undefined for this image; the method or metric failed on it; the
# image could not be read.
STATUSES = (OK, UNDEFINED, FAILED, SKIPPED) = ("ok", "nan", "failed", "skipped")


@dataclass(eq=False)
class Rows:
    """Tables that grow row by row, columns in the order of the schemas below."""

    scores: list[tuple[int, str, str, float, str, str | None]] = field(default_factory=list)
    items: list[tuple[Any, ...]] = field(default_factory=list)
    costs: list[tuple[Any, ...]] = field(default_factory=list)
    maps: list[tuple[int, str, int, bytes]] = field(default_factory=list)
    pictures: list[tuple[int, bytes]] = field(default_factory=list)


def as_tables(rows: Rows, methods: Iterable[str], metrics: Iterable[str]) -> dict[str, Any]:
    """Name → ``pyarrow.Table``, sorted by item, method and metric in the plan's order."""
    import pyarrow as arrow

    names = arrow.dictionary(arrow.int16(), arrow.string())
    schemas = {
        "scores": [
            ("item", arrow.int32()),
            ("method", names),
            ("metric", names),
            ("value", arrow.float32()),
            ("status", names),
            ("reason", arrow.string()),
        ],
        "items": [
            ("item", arrow.int32()),
            ("id", arrow.string()),
            ("path", arrow.string()),
            ("target", arrow.int32()),
            ("label", arrow.string()),
            ("predicted", arrow.int32()),
            ("predicted_label", arrow.string()),
            ("confidence", arrow.float32()),
            ("probability", arrow.float32()),
            ("correct", arrow.bool_()),
            ("reason", arrow.string()),
        ],
        "costs": [
            ("method", names),
            ("metric", names),
            ("images", arrow.int32()),
            ("forwards", arrow.int64()),
            ("backwards", arrow.int64()),
            ("seconds", arrow.float64()),
            ("peak_bytes", arrow.int64()),
        ],
        "maps": [
            ("item", arrow.int32()),
            ("method", names),
            ("side", arrow.int16()),
            ("heatmap", arrow.binary()),
        ],
        "pictures": [("item", arrow.int32()), ("jpeg", arrow.binary())],
    }
    order_way = {key: place for place, key in enumerate(methods)}
    order_what = {key: place for place, key in enumerate(metrics)}
    rows.scores.sort(key=lambda row: (row[0], order_way[row[1]], order_what[row[2]]))
    rows.items.sort(key=lambda row: row[0])
    rows.maps.sort(key=lambda row: (row[0], order_way[row[1]]))
    rows.pictures.sort(key=lambda row: row[0])
    tables = {}
    for name, columns in schemas.items():
        schema = arrow.schema(columns)
        found = getattr(rows, name)
        arrays = [
            arrow.array([row[place] for row in found], type=column.type)
            for place, column in enumerate(schema)
        ]
        tables[name] = arrow.Table.from_arrays(arrays, schema=schema)
    return tables
