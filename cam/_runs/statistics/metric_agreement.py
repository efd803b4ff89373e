"""Measure whether metrics agree on the order of the methods."""

from typing import TYPE_CHECKING

import numpy as np

from cam._runs.statistics.group_means import average_groups, number_groups

if TYPE_CHECKING:
    import pandas


def measure_agreement(
    scores: dict[str, "pandas.DataFrame"], groups: "pandas.Series", directions: dict[str, int]
) -> "pandas.DataFrame":
    """Measure by Kendall's τ-b whether metrics agree on the better method.

    Tomsett et al. 2020, "Sanity Checks for Saliency Metrics": where metrics do not agree, a ranking
    by one of them says little.

    Args:
        scores: Metric → one row an image, one column a method.
        groups: The group of each image, by the same index.
        directions: Metric → +1 where higher is better, else -1.

    Returns:
        A DataFrame, metric by metric, of τ averaged over the images of a group, and then over
        the groups, where both metrics order the methods in some way; NaN where there is none. The
        attribute ``attrs["n"]`` has the number of images.
    """
    import pandas

    names = list(scores)
    codes = number_groups(groups.reindex(scores[names[0]].index))
    signs = {}
    for name in names:
        values = scores[name].to_numpy(np.float64) * directions[name]
        left, right = np.triu_indices(values.shape[1], 1)
        # τ-b is the cosine between the signs of all pairs' differences.
        signs[name] = np.sign(values[:, left] - values[:, right])
    table = pandas.DataFrame(np.nan, index=names, columns=names)
    counts = pandas.DataFrame(0, index=names, columns=names)
    for first in names:
        for second in names:
            a, b = signs[first], signs[second]
            sound = ~np.isnan(a) & ~np.isnan(b)
            a, b = np.where(sound, a, 0), np.where(sound, b, 0)
            lengths = np.sqrt((a * a).sum(1) * (b * b).sum(1))
            # A NaN anywhere in a row would make it a τ of fewer methods.
            use = (lengths > 0) & sound.all(1)
            if use.any():
                taus = np.full(len(use), np.nan)
                taus[use] = (a * b).sum(1)[use] / lengths[use]
                table.loc[first, second] = float(average_groups(taus, codes)[0].mean())
            counts.loc[first, second] = int(use.sum())
    table.attrs["n"] = counts
    return table
