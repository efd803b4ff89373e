"""Compare two runs over the same images, as of two checkpoints."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cam._runs.plan.run_plan import list_differences
from cam._runs.results.run import Run
from cam._runs.results.statistics import correct_for_many, describe_differences
from cam.errors import RunError

if TYPE_CHECKING:
    import pandas

# Below this, after Holm's correction, a change counts as more than noise.
NOISE = 0.05


def compare(before: Run, after: Run) -> "pandas.DataFrame":
    """Compare two runs image by image, with tests against noise.

    Images are matched by their ids, methods and metrics by their keys.

    Returns:
        One row a method and metric that both runs have: ``n`` images with both values, the means
        ``before`` and ``after`` on them, their ``difference`` with its 95 % interval ``low``,
        ``high``, ``improved`` and ``worsened`` images, ``p`` of Wilcoxon's signed-rank test,
        ``holm`` corrected for all rows, and ``verdict``: "better", "worse", or "noise" where
        ``holm`` is not below 0.05. ``attrs`` has ``configuration`` (what differs between the runs)
        and ``images`` (how many are in both, or in one; how many are predicted differently).

    Raises:
        RunError: They have no image, or no method and metric, in common.
    """
    old, new = (run.items().set_index("id") for run in (before, after))
    common = old.index.intersection(new.index)
    if common.empty:
        raise RunError(
            f"{str(before.path)!r} and {str(after.path)!r} have no image in common; compare runs "
            "over the same data"
        )
    methods = [key for key in before.methods if key in after.methods]
    metrics = [key for key in before.metrics if after.directions.get(key) == before.directions[key]]
    if not methods or not metrics:
        what = "metric" if methods else "method"
        raise RunError(f"{str(before.path)!r} and {str(after.path)!r} have no {what} in common")
    rows = []
    for metric in metrics:
        direction = before.directions[metric]
        first = before.values(metric).reindex(old.loc[common, "item"])
        second = after.values(metric).reindex(new.loc[common, "item"])
        for method in methods:
            was, now = first[method].to_numpy(np.float64), second[method].to_numpy(np.float64)
            both = ~np.isnan(was) & ~np.isnan(now)
            was, now = was[both], now[both]
            means = {
                "before": was.mean() if len(was) else np.nan,
                "after": now.mean() if len(now) else np.nan,
            }
            facts = describe_differences(now - was, direction, "improved", "worsened")
            rows.append({"method": method, "metric": metric, **means, **facts})
    columns = ["method", "metric", "n", "before", "after", "difference", "low", "high"]
    table = correct_for_many(rows, [*columns, "improved", "worsened", "p"])
    signed = table["difference"] * table["metric"].map(before.directions)
    table["verdict"] = np.where(
        ~(table["holm"] < NOISE), "noise", np.where(signed > 0, "better", "worse")
    )
    first_class = old.loc[common, "predicted"].astype("Int64")
    second_class = new.loc[common, "predicted"].astype("Int64")
    images: dict[str, Any] = {
        "common": len(common),
        "only_before": len(old) - len(common),
        "only_after": len(new) - len(common),
        "predicted_differently": int((first_class != second_class).fillna(False).sum()),
    }
    table.attrs["configuration"] = list(list_differences(before.config, after.config))
    table.attrs["images"] = images
    return table
