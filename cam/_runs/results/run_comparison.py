"""Compare two runs over the same images, as of two checkpoints."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cam._runs.plan.run_plan import list_differences
from cam._runs.results.run import Run
from cam._runs.statistics.group_means import average_groups, number_groups
from cam._runs.statistics.paired_differences import describe_differences, judge
from cam.errors import RunError

if TYPE_CHECKING:
    import pandas


def compare(before: Run, after: Run) -> "pandas.DataFrame":
    """Compare two runs image by image, with tests against noise.

    Images are matched by their ids, methods and metrics by their keys, groups are those of
    ``before``.

    Returns:
        One row a method and metric that both runs have: the means ``before`` and ``after`` over
        the groups, of the images that have both values, and the columns of
        :func:`cam._runs.statistics.paired_differences.judge`, with the groups that ``improved`` and
        ``worsened``. ``attrs`` has ``configuration`` (what differs between the runs)
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
    codes = number_groups(old.loc[common, "group"])
    rows = []
    for metric in metrics:
        direction = before.directions[metric]
        first = before.values(metric).reindex(old.loc[common, "item"])
        second = after.values(metric).reindex(new.loc[common, "item"])
        for method in methods:
            was, now = first[method].to_numpy(np.float64), second[method].to_numpy(np.float64)
            change = now - was
            means = {
                name: _average(np.where(np.isnan(change), np.nan, values), codes)
                for name, values in (("before", was), ("after", now))
            }
            facts = describe_differences(change, codes, direction, "improved", "worsened")
            rows.append({"method": method, "metric": metric, **means, **facts})
    table = judge(rows, ["method", "metric", "before", "after"], "improved", "worsened")
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


def _average(values: np.ndarray, codes: np.ndarray) -> float:
    means, _ = average_groups(values, codes)
    return float(means.mean()) if len(means) else np.nan
