"""The columns of a run's tables."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# What became of a value: measured; undefined for this image; the method or metric failed on it; the
# image could not be read.
STATUSES = (OK, UNDEFINED, FAILED, SKIPPED) = ("ok", "nan", "failed", "skipped")


@dataclass(eq=False)
class Rows:
    """Tables that grow row by row, columns in the order of :data:`COLUMNS`."""

    scores: list[tuple[int, str, str, float, str, str | None]] = field(default_factory=list)
    remarks: list[tuple[int, str, str | None, str]] = field(default_factory=list)
    items: list[tuple[Any, ...]] = field(default_factory=list)
    costs: list[tuple[Any, ...]] = field(default_factory=list)
    maps: list[tuple[int, str, int, bool, bytes]] = field(default_factory=list)
    pictures: list[tuple[int, bytes]] = field(default_factory=list)


# Table → columns and their types; "name" is an entry of a dictionary, stored once.
COLUMNS = {
    "scores": "item int32, method name, metric name, value float, status name, reason string",
    "remarks": "item int32, method name, metric name, remark string",
    "items": "item int32, id string, group string, path string, target int32, label string, "
    "predicted int32, predicted_label string, confidence float, probability float, correct bool, "
    "reason string",
    "costs": "method name, metric name, images int32, forwards int64, backwards int64, "
    "seconds double, peak_bytes int64",
    "maps": "item int32, method name, side int16, signed bool, heatmap binary",
    "pictures": "item int32, jpeg binary",
}


def make_tables(rows: Rows, methods: Iterable[str], metrics: Iterable[str]) -> dict[str, Any]:
    """Make each ``pyarrow.Table``, sorted by item, method and metric."""
    import pyarrow as arrow

    method_order = {key: position for position, key in enumerate(methods)}
    metric_order: dict[str | None, int] = {key: position for position, key in enumerate(metrics)}
    metric_order[None] = -1  # of a map itself, which comes before its values
    rows.scores.sort(key=lambda row: (row[0], method_order[row[1]], metric_order[row[2]]))
    rows.remarks.sort(key=lambda row: (row[0], method_order[row[1]], metric_order[row[2]]))
    rows.items.sort(key=lambda row: row[0])
    rows.maps.sort(key=lambda row: (row[0], method_order[row[1]]))
    rows.pictures.sort(key=lambda row: row[0])
    tables = {}
    for name, columns in COLUMNS.items():
        fields = [column.split() for column in columns.split(", ")]
        schema = arrow.schema([(column, _make_type(kind)) for column, kind in fields])
        records = [dict(zip(schema.names, row, strict=True)) for row in getattr(rows, name)]
        tables[name] = arrow.Table.from_pylist(records, schema=schema)
    return tables


def _make_type(kind: str) -> Any:
    import pyarrow as arrow

    if kind == "name":
        return arrow.dictionary(arrow.int16(), arrow.string())
    return arrow.type_for_alias(kind)
