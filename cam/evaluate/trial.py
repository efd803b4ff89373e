"""What each method and metric of a run will take, measured on one image rather than guessed."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cam.data.dataset import Dataset
from cam.evaluate.evaluate import evaluate
from cam.evaluate.progress import Report
from cam.models.model import Model

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Trial:
    """What one image took, alone.

    Attributes:
        table: A DataFrame of ``method``, ``metric`` (missing for the map itself) and ``seconds``.
        images: How many the run has.
    """

    table: "pandas.DataFrame"
    images: int

    @property
    def seconds(self) -> float:
        """Of the whole run. Images that share a batch take less each, so it is rather too much."""
        return float(self.table["seconds"].sum()) * self.images


def trial(
    model: Model, data: Dataset, arguments: dict[str, Any], progress: Report | None = None
) -> Trial:
    """Run the first two images into a temporary folder; the second one is what counts.

    The first one also pays for what is done once.

    Args:
        model: As of :func:`cam.evaluate`.
        data: Opened already.
        arguments: The others of :func:`cam.evaluate`.
        progress: As of :func:`cam.evaluate`.

    Raises:
        CamError: What the run itself would raise.
    """
    limit = arguments.get("limit")
    images = len(data) if limit is None else min(limit, len(data))
    with tempfile.TemporaryDirectory(prefix="cam-trial-") as folder:
        own = {**arguments, "limit": min(2, images), "shard_size": 1, "heatmaps": 0}
        run = evaluate(model, data, out=Path(folder) / "run", progress=progress, **own)
        costs = run.query("SELECT method, metric, seconds FROM costs")
    last = costs.groupby(["method", "metric"], dropna=False, observed=True, sort=False).last()
    return Trial(last.reset_index(), images)
