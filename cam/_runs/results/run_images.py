"""Find and load the images of a run."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cam._runs.results.run_tables import RunTables
from cam._runs.storage.map_levels import decode_map

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class RunImage:
    """What a run knows of one item.

    Attributes:
        facts: Number, id, path, target, label, prediction, confidence, and why it was skipped.
        scores: A DataFrame of method, metric, value, status, reason.
        heatmaps: Method → (side, side) float32 in [0, 1], or in [-1, 1] of contributions; empty
            where none were kept.
        signed: The methods whose maps are in [-1, 1].
        picture: What the model saw, small; None where none was kept.
        jpeg: The picture as it was kept.
    """

    facts: dict[str, Any]
    scores: "pandas.DataFrame"
    heatmaps: dict[str, np.ndarray]
    signed: frozenset[str]
    picture: Image.Image | None
    jpeg: bytes | None


def load_images(run: RunTables, numbers: list[int]) -> dict[int, RunImage]:
    """Load what the run knows of several items, without their scores."""
    several = sorted({int(number) for number in numbers})
    facts = run.query("SELECT * FROM items WHERE item IN (SELECT unnest(?))", [several])
    maps = run.query("SELECT * FROM maps WHERE item IN (SELECT unnest(?))", [several])
    stored = run.query("SELECT * FROM pictures WHERE item IN (SELECT unnest(?))", [several])
    jpegs = dict(zip(stored["item"], stored["jpeg"], strict=True))
    images = {}
    for number in several:
        of_item = maps[maps["item"] == number]
        images[number] = RunImage(
            _to_mapping(facts[facts["item"] == number]),
            of_item.iloc[:0],
            {
                row.method: decode_map(row.heatmap, row.side, row.signed)
                for row in of_item.itertuples()
            },
            frozenset(of_item.loc[of_item["signed"], "method"]),
            Image.open(io.BytesIO(jpegs[number])) if number in jpegs else None,
            bytes(jpegs[number]) if number in jpegs else None,
        )
    return images


def list_extremes(run: RunTables, metric: str, count: int = 3) -> "pandas.DataFrame":
    """List each method's best and worst images by one metric.

    Returns:
        Columns ``method``, ``end`` ("best" or "worst"), ``place`` from 1, ``item``, ``id``,
        ``value``, ``label`` and ``predicted_label``.
    """
    direction = run.directions[metric]
    return run.query(
        f"""
        WITH ordered AS (
            SELECT method::methods AS method, item, value,
                   row_number() OVER (PARTITION BY method ORDER BY value * {-direction}, item)
                   AS from_best,
                   row_number() OVER (PARTITION BY method ORDER BY value * {direction}, item)
                   AS from_worst
            FROM scores WHERE metric = ? AND status = 'ok'
        ), chosen AS (
            SELECT method, 'best' AS end, from_best AS place, item, value FROM ordered
            WHERE from_best <= {count}
            UNION ALL
            SELECT method, 'worst', from_worst, item, value FROM ordered
            WHERE from_worst <= {count} AND from_best > {count}
        )
        SELECT c.*, id, label, predicted_label FROM chosen c JOIN items USING (item)
        ORDER BY method, c.end, place
        """,
        [metric],
    )


def list_in_order(
    run: RunTables,
    metric: str,
    method: str,
    *,
    worst: bool = False,
    start: int = 0,
    count: int = 12,
) -> "pandas.DataFrame":
    """List images in the order of their values, ``count`` from ``start``.

    Returns:
        Columns ``item``, ``id``, ``value``, ``label``, ``predicted_label``, ``correct`` and
        ``confidence``.

    Raises:
        RunError: The run has no such metric or method.
    """
    run.require("metric", metric)
    run.require("method", method)
    sign = run.directions[metric] if worst else -run.directions[metric]
    return run.query(
        f"""
        SELECT item, id, value, label, predicted_label, correct, confidence
        FROM scores s JOIN items USING (item)
        WHERE metric = ? AND method = ? AND status = 'ok'
        ORDER BY value * {sign}, item LIMIT ? OFFSET ?
        """,
        [metric, method, int(count), int(start)],
    )


def _to_mapping(row: "pandas.DataFrame") -> dict[str, Any]:
    """Convert one row to a mapping, with None for missing values."""
    import pandas

    return {
        key: None if pandas.isna(value) else value
        for key, value in row.astype(object).iloc[0].items()
    }
