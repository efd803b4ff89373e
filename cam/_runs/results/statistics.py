"""Is a difference more than noise? Intervals, paired tests, ranks, agreement.

Images are the sample: an interval or a test says what other images of the same kind would give with
this model. SciPy, statsmodels and scikit-posthocs compute; NaN is left out pair by pair or row by
row, and every table says how many values it stands on.
"""

from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas

LEVEL = 0.95
# Up to here the images are drawn again; beyond, the same interval follows from three moments.
EXACT = 256
RESAMPLES = 2_000


def estimate_interval(values: np.ndarray) -> tuple[float, float]:
    """Estimate a mean's 95 % interval by the BCa bootstrap.

    Args:
        values: (n,) without NaN.

    Returns:
        (low, high), the mean itself where all values are one, NaN for fewer than two.

    Up to 256 values ``scipy.stats.bootstrap`` draws 2,000 resamples. For more it is
    :func:`interval_from_moments`: by then that agrees with the limit of many resamples better than
    2,000 of them do, and it is read from one pass over a table of any size.
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    count = len(values)
    if count < 2:
        return (np.nan, np.nan)
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    if not deviation > 1e-12 * max(abs(mean), 1e-300):
        return (mean, mean)
    if count > EXACT:
        low, high = estimate_interval_from_moments(
            count, mean, deviation, float(stats.skew(values))
        )
        return (float(low), float(high))
    ends = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return (float(ends.low), float(ends.high))


def estimate_interval_from_moments(
    count: Any, mean: Any, deviation: Any, skewness: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the limit of the BCa interval, up to order 1/n.

    mean + s / √n · (z + γ (2z² + 1) / (6 √n)) at z = ±1.96: Hall 1992, "The Bootstrap and
    Edgeworth Expansion", section 3.10 (the second-order correct end points).

    Args:
        count: n, any shape.
        mean: The sample's mean.
        deviation: Its standard deviation s.
        skewness: Its skewness γ.
    """
    root = np.sqrt(np.asarray(count, np.float64))
    ends = []
    for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        z = NormalDist().inv_cdf(share)
        ends.append(mean + deviation / root * (z + skewness * (2 * z * z + 1) / (6 * root)))
    return (ends[0], ends[1])


def compare_pairs(values: "pandas.DataFrame", direction: int = 1) -> "pandas.DataFrame":
    """Compare each pair of methods by Wilcoxon's test with Holm's correction.

    Args:
        values: One row an image, one column a method; NaN where undefined.
        direction: +1 where higher is better, else -1.

    Returns:
        One row a pair: ``better`` and ``worse`` (by the mean difference), ``n`` images that have
        both, ``difference`` (of ``better`` from ``worse``, in the metric's own sign) with its 95 %
        interval ``low``, ``high``, ``wins`` and ``losses`` of ``better``, ``p`` two-sided, ``holm``
        corrected for the number of pairs. With no difference at all p is 1.
    """
    rows = []
    for better, worse in combinations(values.columns, 2):
        both = values[[better, worse]].dropna().to_numpy(np.float64)
        difference = both[:, 0] - both[:, 1]
        if len(difference) and difference.mean() * direction < 0:
            better, worse, difference = worse, better, -difference
        facts = describe_differences(difference, direction, "wins", "losses")
        rows.append({"better": better, "worse": worse, **facts})
    columns = ["better", "worse", "n", "difference", "low", "high", "wins", "losses", "p"]
    return correct_for_many(rows, columns)


def describe_differences(
    differences: np.ndarray, direction: int, wins: str, losses: str
) -> dict[str, Any]:
    """Summarise paired differences by their mean, its interval and Wilcoxon's test.

    Args:
        differences: (n,) without NaN.
        direction: +1 where higher is better, else -1.
        wins: What the number of those for the better is called.
        losses: What the number of the others that are not 0 is called.
    """
    from scipy import stats

    low, high = estimate_interval(differences)
    p = 1.0 if len(differences) else np.nan
    if differences.any():
        p = float(stats.wilcoxon(differences).pvalue)
    return {
        "n": len(differences),
        "difference": float(differences.mean()) if len(differences) else np.nan,
        "low": low,
        "high": high,
        wins: int((differences * direction > 0).sum()),
        losses: int((differences * direction < 0).sum()),
        "p": p,
    }


def correct_for_many(rows: list[dict[str, Any]], columns: list[str]) -> "pandas.DataFrame":
    """Make a table of tests, with ``holm``: their p-values after Holm's correction."""
    import pandas
    from statsmodels.stats.multitest import multipletests

    table = pandas.DataFrame(rows, columns=columns)
    table["holm"] = np.nan
    sound = table["p"].notna()
    if sound.any():
        table.loc[sound, "holm"] = multipletests(table.loc[sound, "p"], method="holm")[1]
    return table


def compare_ranks(values: "pandas.DataFrame", direction: int = 1) -> dict[str, Any]:
    """Test whether methods differ at all, and which of them.

    Friedman's test, then Nemenyi's (Demšar 2006, "Statistical Comparisons of Classifiers over
    Multiple Data Sets"): two methods differ if their average ranks do by the critical difference
    q √(k (k + 1) / (6 n)), q being the studentised range's quantile over √2.

    Args:
        values: One row an image, one column a method; rows with a NaN are left out.
        direction: +1 where higher is better, else -1.

    Returns:
        ``n`` images, ``statistic`` and ``p`` (NaN for fewer than three methods), ``ranks`` (method
        → average rank, 1 best), ``critical_difference`` and ``nemenyi`` (k, k) p-values, a
        DataFrame (None for fewer than two methods or images).
    """
    from scipy import stats

    whole = values.dropna()
    count, methods = whole.shape
    ranks = stats.rankdata(-direction * whole.to_numpy(np.float64), axis=1)
    result: dict[str, Any] = {
        "n": count,
        "statistic": np.nan,
        "p": np.nan,
        "ranks": {
            name: float(column.mean()) if count else np.nan
            for name, column in zip(whole.columns, ranks.T, strict=True)
        },
        "critical_difference": np.nan,
        "nemenyi": None,
    }
    if count < 2 or methods < 2:
        return result
    quantile = stats.studentized_range.ppf(LEVEL, methods, np.inf) / np.sqrt(2)
    result["critical_difference"] = float(quantile * np.sqrt(methods * (methods + 1) / (6 * count)))
    # Where every image ranks all methods alike, nothing is left to test.
    if methods > 2 and (ranks != ranks[:, :1]).any():
        test = stats.friedmanchisquare(*whole.to_numpy().T)
        result["statistic"], result["p"] = map(float, test)
    import scikit_posthocs

    result["nemenyi"] = scikit_posthocs.posthoc_nemenyi_friedman(whole)
    return result


def measure_agreement(
    scores: dict[str, "pandas.DataFrame"], directions: dict[str, int]
) -> "pandas.DataFrame":
    """Measure by Kendall's τ-b whether metrics agree on the better method.

    Tomsett et al. 2020, "Sanity Checks for Saliency Metrics": where metrics do not agree, a ranking
    by one of them says little.

    Args:
        scores: Metric → one row an image, one column a method.
        directions: Metric → +1 where higher is better, else -1.

    Returns:
        A DataFrame, metric by metric, of τ averaged over the images where both metrics order the
        methods in some way; NaN where there is none. The attribute ``attrs["n"]`` has their number.
    """
    import pandas

    names = list(scores)
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
                table.loc[first, second] = float(((a * b).sum(1)[use] / lengths[use]).mean())
            counts.loc[first, second] = int(use.sum())
    table.attrs["n"] = counts
    return table
