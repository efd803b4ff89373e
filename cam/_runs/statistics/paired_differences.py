"""Test paired differences: direction and p by the mean of the groups."""

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from cam._runs.statistics.group_means import average_groups, number_groups
from cam._runs.statistics.intervals import (
    FEWEST,
    describe_lack,
    estimate_interval,
    name_interval,
)

if TYPE_CHECKING:
    import pandas

# Below this, after Holm's correction, a difference counts as more than noise.
NOISE = 0.05
# Every way to flip the signs is gone through of up to 14 differences, and of more only those of the
# 10 largest: 9 ms instead of 150.
EXACT, LARGEST = 14, 10


def compare_pairs(
    values: "pandas.DataFrame", groups: "pandas.Series", direction: int = 1
) -> "pandas.DataFrame":
    """Compare each pair of methods by the mean of their paired differences.

    Args:
        values: One row an image, one column a method; NaN where undefined.
        groups: The group of each of those images, by the same index.
        direction: +1 where higher is better, else -1.

    Returns:
        One row a pair: ``better`` and ``worse`` (by the mean difference), and the columns of
        :func:`judge`, with ``wins`` and ``losses`` of ``better``.
    """
    rows = []
    codes = number_groups(groups.reindex(values.index))
    for better, worse in combinations(values.columns, 2):
        difference = values[better].to_numpy(np.float64) - values[worse].to_numpy(np.float64)
        facts = describe_differences(difference, codes, direction, "wins", "losses")
        if facts["difference"] * direction < 0:
            better, worse = worse, better
            facts = describe_differences(-difference, codes, direction, "wins", "losses")
        rows.append({"better": better, "worse": worse, **facts})
    return judge(rows, ["better", "worse"], "wins", "losses")


def describe_differences(
    differences: np.ndarray, codes: np.ndarray, direction: int, wins: str, losses: str
) -> dict[str, Any]:
    """Summarise paired differences by their mean over groups, its interval and its test.

    Args:
        differences: (n,) of each image; NaN where one of the two is undefined.
        codes: (n,) the number of each image's group.
        direction: +1 where higher is better, else -1.
        wins: What the number of groups for the better is called.
        losses: What the number of the other groups that are not 0 is called.
    """
    means, images = average_groups(differences, codes)
    count = len(means)
    low, high = estimate_interval(means)
    difference = float(means.mean()) if count else np.nan
    for_better, for_worse = int((means * direction > 0).sum()), int((means * direction < 0).sum())
    unit = "images" if images == count else "groups"
    return {
        "n": images,
        "groups": count,
        "difference": difference,
        "low": low,
        "high": high,
        "interval": name_interval(count, bool(np.isin(means, (0, 1)).all())),
        wins: for_better,
        losses: for_worse,
        "p": flip_signs(means) if count >= FEWEST else np.nan,
        "direction": direction,
        "remark": _contrast(difference * direction, for_better, for_worse, f"{count:,} {unit}"),
    }


def _contrast(gain: float, for_better: int, for_worse: int, of_all: str) -> str:
    """Tell where the mean says one thing and most of the groups, by more than chance, another."""
    from scipy import stats

    several = for_better + for_worse
    if not several or stats.binomtest(for_better, several).pvalue >= NOISE:
        return ""
    if gain > 0 and for_worse > for_better:
        return f"better by the mean, but worse on {for_worse:,} of {of_all}"
    if gain < 0 and for_better > for_worse:
        return f"worse by the mean, but better on {for_better:,} of {of_all}"
    return ""


def judge(
    rows: list[dict[str, Any]], names: list[str], wins: str, losses: str
) -> "pandas.DataFrame":
    """Make a table of tests with Holm's correction and a verdict each.

    Args:
        rows: As :func:`describe_differences` gives them, with more columns before.
        names: Those columns.
        wins: As in the rows.
        losses: As in the rows.

    Returns:
        The columns ``names``, then ``n`` images that have both values, ``groups`` of them,
        ``difference`` (the mean over groups, in the metric's own sign) with its 95 % interval
        ``low``, ``high`` and how it was found, ``interval``; ``wins`` and ``losses`` in groups;
        ``p``, two-sided, of :func:`flip_signs`; ``holm``, corrected for the number of rows;
        ``verdict``: "better" or "worse" by that mean, "noise" where ``holm`` is not below 0.05, or
        "too few (3 groups)"; ``remark``: where most groups say the opposite of the mean.
    """
    import pandas
    from statsmodels.stats.multitest import multipletests

    columns = ["n", "groups", "difference", "low", "high", "interval", wins, losses, "p"]
    table = pandas.DataFrame(rows, columns=[*names, *columns, "direction", "remark"])
    holm = np.full(len(table), np.nan)
    sound = table["p"].notna().to_numpy()
    if sound.any():
        holm[sound] = multipletests(table["p"][sound], method="holm")[1]
    verdicts = []
    for row, corrected in zip(table.itertuples(), holm, strict=True):
        if row.groups < FEWEST:
            verdicts.append(describe_lack(row.groups))
        elif not corrected < NOISE:
            verdicts.append("noise")
        else:
            verdicts.append("better" if row.difference * row.direction > 0 else "worse")
    remarks = table.pop("remark")
    return table.drop(columns="direction").assign(holm=holm, verdict=verdicts, remark=remarks)


def flip_signs(differences: np.ndarray) -> float:
    """Compute the two-sided p of a mean by flipping the signs of the differences.

    Where two methods are equally good, each difference could as well have had the other sign. p is
    the share of all 2ⁿ ways to set the signs whose mean is at least as far from 0: an exact test
    of the very mean whose sign is the verdict. All ways are gone through for up to 14 differences
    that are not 0, and where all are of one size their signs are binomial. Of more the 10 largest
    are gone through, and the sum S of the rest has Pitman's distribution: S² / (m Σ d²) is a beta
    variable of 1/2 and (m - 1) / 2, with m = 3 (Σ d²)² / Σ d⁴ - 2, whose variance and kurtosis are
    those of S.

    Args:
        differences: (n,) without NaN.

    Returns:
        p; 1 where all differences are 0.

    References:
        Fisher, The design of experiments, 1935, section 21; Pitman, Significance tests which may be
        applied to samples from any populations, Supplement to the JRSS 4, 1937
    """
    from scipy import special, stats

    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    sizes = np.sort(np.abs(moved))[::-1] / np.abs(moved).max()
    if np.ptp(sizes) < 1e-9:
        return float(stats.binomtest(int((moved > 0).sum()), len(moved)).pvalue)
    total = abs(float(moved.sum())) / np.abs(moved).max()
    # Adding up in another order must not make a sum smaller than itself.
    total *= 1 - 1e-12
    if len(sizes) <= EXACT:
        return float((np.abs(_list_signs(len(sizes)) @ sizes) >= total).mean())
    least = 2.0 ** (1 - len(sizes))
    if total >= sizes.sum() * (1 - 1e-9):
        return least
    squares = sizes[LARGEST:] ** 2
    freedom = 3 * squares.sum() ** 2 / (squares**2).sum() - 2
    far = total - _list_signs(LARGEST) @ sizes[:LARGEST]
    share = np.minimum(far**2 / (freedom * squares.sum()), 1)
    beyond = special.betaincc(0.5, (freedom - 1) / 2, share) / 2
    tail = float(np.where(far > 0, beyond, 1 - beyond).mean())
    return min(1.0, max(2 * tail, least))


@cache
def _list_signs(count: int) -> np.ndarray:
    """List all ways to set n signs, (2ⁿ, n)."""
    ways = np.arange(2**count)[:, None] >> np.arange(count) & 1
    return 2.0 * ways - 1
