"""Measure each image of a run, to sort a gallery."""

from typing import TYPE_CHECKING

import numpy as np

from cam._runs.results.gallery.stored_maps import MAPS_AT_ONCE, read_maps, require_side
from cam._runs.results.run_tables import RunTables

if TYPE_CHECKING:
    import pandas

# Of a map's side, the width of the ring that counts as its border.
BORDER = 1 / 8
# What images are sorted by → its title, and what it is.
MEASURES = {
    "border": ("Evidence on the border", "Share of the evidence within an eighth of the side."),
    "disagreement": (
        "Disagreement of methods",
        "1 − the mean rank correlation (Spearman) of the methods' maps, pair by pair.",
    ),
    "entropy": (
        "Entropy of the map",
        "Of the evidence's distribution over the pixels: 1 where it is even, 0 at a single pixel.",
    ),
    "error": ("Error of the prediction", "1 − the probability of the class that is explained."),
    "confidence": ("Confidence", "The probability of the predicted class."),
}


def measure_images(run: RunTables, method: str) -> "pandas.DataFrame":
    """Measure what may be wrong with each image's map or prediction.

    Columns: ``item``, ``id``, ``label``, ``predicted_label``, ``correct``, ``confidence``, and

    - ``border``: share of the evidence in the ring of an eighth of the side;
    - ``entropy``: Shannon entropy of the evidence, over that of an even map, in [0, 1];
    - ``disagreement``: 1 less the mean Spearman correlation of the maps of each two methods,
      baselines left out, in [0, 2];
    - ``error``: 1 less the probability of the explained class.

    NaN where it is not defined: of maps without evidence, or of less than two methods. Images that
    have no map of the method are left out.

    Args:
        run: One that kept heatmaps.
        method: Whose maps ``border`` and ``entropy`` are of.

    Raises:
        RunError: It has no such method, or kept no heatmaps.
    """
    import pandas

    side = require_side(run, method)
    facts = run.query(
        "SELECT item, id, label, predicted_label, correct, confidence, probability "
        "FROM maps JOIN items USING (item) WHERE method = ? ORDER BY item",
        [method],
    )
    measured = [facts.iloc[:0].assign(border=[], entropy=[], disagreement=[])]
    for start in range(0, len(facts), MAPS_AT_ONCE):
        part = facts.iloc[start : start + MAPS_AT_ONCE]
        maps = read_maps(run, method, part["item"].tolist(), side)
        measured.append(
            part.assign(
                border=measure_border(maps),
                entropy=measure_entropy(maps),
                disagreement=_measure_disagreement(run, part["item"].tolist(), side),
            )
        )
    table = pandas.concat(measured, ignore_index=True)
    table["error"] = 1 - table.pop("probability").astype(float)
    return table


def measure_border(maps: np.ndarray) -> np.ndarray:
    """Measure the share of each map's evidence on its border; (n,), NaN where there is none."""
    width = max(1, round(maps.shape[-1] * BORDER))
    inner = maps[:, width:-width, width:-width].sum((1, 2), dtype=np.float64)
    total = maps.sum((1, 2), dtype=np.float64)
    return np.asarray(1 - _divide(inner, total))


def measure_entropy(maps: np.ndarray) -> np.ndarray:
    """Measure the entropy of each map's evidence, over that of an even map; (n,)."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    shares = _divide(flat, flat.sum(1, keepdims=True))  # (n, pixels)
    logs = np.log(np.where(shares > 0, shares, 1))
    return np.asarray(-(shares * logs).sum(1) / np.log(flat.shape[1]))


def correlate_ranks(maps: np.ndarray) -> np.ndarray:
    """Average the rank correlations of each two methods' maps.

    Args:
        maps: (methods, n, side, side).

    Returns:
        (n,); NaN where a map is the same everywhere, or there is one method only.
    """
    from scipy.stats import rankdata

    count, images = maps.shape[:2]
    if count < 2:
        return np.full(images, np.nan)
    ranks = rankdata(maps.reshape(count, images, -1), axis=-1)
    centred = ranks - ranks.mean(-1, keepdims=True)
    units = _divide(centred, np.linalg.norm(centred, axis=-1, keepdims=True))
    # The sum over all ordered pairs is the square of the sum, less the maps with themselves.
    total = (units.sum(0) ** 2).sum(-1)
    return np.asarray((total - count) / (count * (count - 1)))


def _measure_disagreement(run: RunTables, items: list[int], side: int) -> np.ndarray:
    """Measure it for images that have a map of each method; NaN for the others."""
    facts = run.config["methods"]
    methods = [method["key"] for method in facts if not method.get("baseline")]
    stored = run.query(
        "SELECT item FROM maps WHERE item IN (SELECT unnest(?)) AND method IN (SELECT unnest(?)) "
        "GROUP BY item HAVING count(*) = ?",
        [items, methods, len(methods)],
    )
    whole = sorted(stored["item"].tolist())
    agreement = np.full(len(items), np.nan)
    # A map in ranks takes eight bytes a pixel: few images at once.
    for start in range(0, len(whole), 256):
        some = whole[start : start + 256]
        maps = np.stack([read_maps(run, method, some, side) for method in methods])
        agreement[np.searchsorted(items, some)] = correlate_ranks(maps)
    return np.asarray(1 - agreement)


def _divide(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Divide; NaN where that is by 0."""
    return np.asarray(np.divide(values, np.where(by == 0, np.nan, by)))
