"""Average the images of a group: groups are the sample."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas


def number_groups(groups: "pandas.Series") -> np.ndarray:
    """Number the groups from 0, in the order in which they come; -1 where there is none."""
    import pandas

    codes: np.ndarray = pandas.factorize(groups)[0]
    return codes


def average_groups(values: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Average the values of each group.

    Args:
        values: (n,) of each image; NaN is left out.
        codes: (n,) the number of each image's group, as of :func:`number_groups`.

    Returns:
        The means of the groups that have any, by their numbers, and how many images they stand on.
    """
    sound = ~np.isnan(values) & (codes >= 0)
    counts = np.bincount(codes[sound])
    sums = np.bincount(codes[sound], weights=values[sound])
    return sums[counts > 0] / counts[counts > 0], int(sound.sum())


def average_rows(values: "pandas.DataFrame", groups: "pandas.Series") -> "pandas.DataFrame":
    """Average the rows of each group, column by column."""
    return values.groupby(groups.reindex(values.index).to_numpy()).mean()
