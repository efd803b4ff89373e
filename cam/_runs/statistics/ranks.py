"""Rank methods group by group, and test whether the ranks differ."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cam._runs.statistics.group_means import average_rows
from cam._runs.statistics.intervals import FEWEST, LEVEL, describe_lack

if TYPE_CHECKING:
    import pandas

# Images that lack a value of some method are left out. They are no random ones, so ranks over the
# rest are tested only where they are at most this share.
MOST_DROPPED = 0.1


def compare_ranks(
    values: "pandas.DataFrame", groups: "pandas.Series", direction: int = 1
) -> dict[str, Any]:
    """Test whether methods differ at all, and which of them.

    Friedman's test, then Nemenyi's (Demšar 2006, "Statistical Comparisons of Classifiers over
    Multiple Data Sets"): two methods differ if their average ranks do by the critical difference
    q √(k (k + 1) / (6 n)), q being the studentised range's quantile over √2. What is ranked are the
    means of the groups, n is their number.

    Args:
        values: One row an image, one column a method. Methods without any value are left out, and
            so are images that lack a value of one of the others.
        groups: The group of each image, by the same index.
        direction: +1 where higher is better, else -1.

    Returns:
        ``n`` images and their ``groups``; ``dropped`` images that lack a value of some method,
        ``undefined`` (method → of how many images it has none where others have), ``absent``
        methods without any value; ``statistic`` and ``p`` (NaN for fewer than three methods),
        ``ranks`` (method → average rank, 1 best), ``critical_difference`` and ``nemenyi`` (k, k)
        p-values, a DataFrame. ``note`` says what was dropped, and why there is no test: fewer than
        two methods or eight groups, or more than a tenth of the images dropped; then ``nemenyi`` is
        None.
    """
    from scipy import stats

    present = values.dropna(axis=1, how="all")
    some = present.dropna(how="all")
    whole = some.dropna()
    undefined = some.isna().sum()
    means = average_rows(whole, groups)
    count, methods = means.shape
    ranks = stats.rankdata(-direction * means.to_numpy(np.float64), axis=1)
    result: dict[str, Any] = {
        "n": len(whole),
        "groups": count,
        "dropped": len(some) - len(whole),
        "undefined": {str(name): int(number) for name, number in undefined.items() if number},
        "absent": [str(name) for name in values.columns if name not in present],
        "statistic": np.nan,
        "p": np.nan,
        "ranks": {
            name: float(column.mean()) if count else np.nan
            for name, column in zip(means.columns, ranks.T, strict=True)
        },
        "critical_difference": np.nan,
        "nemenyi": None,
    }
    lack = _refuse(result, len(some), methods)
    result["note"] = " ".join(filter(None, [_describe_dropped(result, len(some)), lack]))
    if lack:
        return result
    quantile = stats.studentized_range.ppf(LEVEL, methods, np.inf) / np.sqrt(2)
    result["critical_difference"] = float(quantile * np.sqrt(methods * (methods + 1) / (6 * count)))
    # Where every group ranks all methods alike, nothing is left to test.
    if methods > 2 and (ranks != ranks[:, :1]).any():
        test = stats.friedmanchisquare(*means.to_numpy().T)
        result["statistic"], result["p"] = map(float, test)
    import scikit_posthocs

    result["nemenyi"] = scikit_posthocs.posthoc_nemenyi_friedman(means.reset_index(drop=True))
    return result


def _describe_dropped(result: dict[str, Any], images: int) -> str:
    """Say which methods and images were left out; "" where none were."""
    absent = ", ".join(result["absent"])
    text = f"Without {absent}, of which no image has a value." if absent else ""
    if result["dropped"]:
        of = ", ".join(f"{name} on {number:,}" for name, number in result["undefined"].items())
        text += (
            f"{' ' if text else ''}{result['dropped']:,} of {images:,} images were left out, as "
            f"some method has no value there ({of})."
        )
    return text


def _refuse(result: dict[str, Any], images: int, methods: int) -> str:
    """Say why the ranks are not tested; "" where they are."""
    if methods < 2:
        return "Ranks are not tested: fewer than two methods have values."
    if result["dropped"] > MOST_DROPPED * images:
        return (
            "Ranks are not tested: that is more than a tenth, and images on which a method has no "
            "value are no random ones; compare without that method, or pair by pair."
        )
    if result["groups"] < FEWEST:
        return f"Ranks are not tested: {describe_lack(result['groups'])}, and {FEWEST} are needed."
    return ""
