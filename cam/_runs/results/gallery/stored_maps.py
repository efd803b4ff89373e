"""Read the maps that a run kept."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from cam._runs.results.run_tables import RunTables
from cam._runs.storage.map_levels import decode_evidence
from cam.errors import RunError

if TYPE_CHECKING:
    import pandas

# Maps that are in memory at once, 3 kB each.
MAPS_AT_ONCE = 4096


def scale_maps(maps: np.ndarray, side: int) -> np.ndarray:
    """Shrink maps and scale them to length 1; (n, side²)."""
    small = [
        functional.interpolate(
            torch.from_numpy(part[:, None].astype(np.float32)), size=(side, side), mode="area"
        )
        for part in np.split(maps, range(MAPS_AT_ONCE, len(maps), MAPS_AT_ONCE))
    ]
    flat = torch.cat(small).flatten(1).double()
    return np.asarray(functional.normalize(flat, dim=1))


def read_maps(run: RunTables, method: str, numbers: list[int], side: int) -> np.ndarray:
    """Read maps as (n, side, side) uint8."""
    parts = [np.zeros((0, side, side), np.uint8)]
    for start in range(0, len(numbers), MAPS_AT_ONCE):
        stored = run.query(
            "SELECT signed, heatmap FROM maps WHERE method = ? AND item IN (SELECT unnest(?)) "
            "ORDER BY item",
            [method, numbers[start : start + MAPS_AT_ONCE]],
        )
        parts.append(decode_maps(stored, side))
    return np.concatenate(parts)


def decode_maps(rows: "pandas.DataFrame", side: int) -> np.ndarray:
    """Decode what speaks for the class, (n, side, side) uint8."""
    # All maps of a method have signs, or none.
    signed = bool(rows["signed"].any())
    return decode_evidence(b"".join(map(bytes, rows["heatmap"])), signed).reshape(-1, side, side)


def require_side(run: RunTables, method: str) -> int:
    """Return the side of a method's maps.

    Raises:
        RunError: The run has no such method, or kept no heatmaps.
    """
    run.require("method", method)
    side = int(run.config.get("heatmaps", 0))
    if not side:
        raise RunError("the run kept no heatmaps; evaluate into another folder with heatmaps=56")
    return side


def average_maps(run: RunTables, method: str) -> np.ndarray | None:
    """Average the maps of the run's images, without maps of zeros.

    Returns:
        (side, side) float32 in [0, 1]; None where no map has evidence.

    Raises:
        RunError: The run has no such method, or kept no heatmaps.
    """
    side = require_side(run, method)
    items = run.query("SELECT item FROM maps WHERE method = ? ORDER BY item", [method])["item"]
    total, count = np.zeros((side, side)), 0
    for start in range(0, len(items), MAPS_AT_ONCE):
        maps = read_maps(run, method, items[start : start + MAPS_AT_ONCE].tolist(), side)
        total += maps.sum(0, dtype=np.float64)
        count += int(maps.any((1, 2)).sum())
    return (total / 255 / count).astype(np.float32) if count else None
