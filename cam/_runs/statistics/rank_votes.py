"""Sum up the ranks of many metrics: a family is one vote."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas

Facts = Mapping[str, Any]
"""What a run's configuration says of a metric: ``key``, ``name``, ``parameters``, ``family``."""
MEDIAN = "median rank"


def sum_up_ranks(ranks: "pandas.DataFrame", metrics: Sequence[Facts]) -> "pandas.DataFrame":
    """Sum up the ranks by all metrics, best first.

    Metrics that measure the same must not outvote the others: the ranks by one metric with other
    baselines or parameters are averaged, then those by the metrics of one family, and the median
    goes over the families.

    Args:
        ranks: A row a method, a column a metric; NaN where a method has no value.
        metrics: Of those columns.

    Returns:
        ``ranks`` with a column ``median rank`` before the others.
    """
    table = ranks.copy()
    table.insert(0, MEDIAN, vote_by_family({key: ranks[key].to_numpy() for key in ranks}, metrics))
    return table.sort_values(MEDIAN, kind="stable")


def vote_by_family(ranks: Mapping[str, np.ndarray], metrics: Sequence[Facts]) -> np.ndarray:
    """Average ranks by variants, then within families; return the families' median.

    Args:
        ranks: Metric → (…, methods) ranks, NaN where a method has no value.
        metrics: Of those metrics.

    Returns:
        (…, methods); NaN where a method has no rank.
    """
    families: dict[str, dict[str, list[np.ndarray]]] = {}
    for facts in metrics:
        by_name = families.setdefault(facts["family"], {})
        by_name.setdefault(facts["name"], []).append(ranks[facts["key"]])
    with warnings.catch_warnings():
        # Of a method without any rank the mean is NaN, as it should be.
        warnings.simplefilter("ignore", RuntimeWarning)
        votes = [
            np.nanmean([np.nanmean(variants, axis=0) for variants in by_name.values()], axis=0)
            for by_name in families.values()
        ]
        median: np.ndarray = np.nanmedian(votes, axis=0)
    return median


def describe_votes(metrics: Sequence[Facts]) -> str:
    """Say how the ranks were summed up, in one or two sentences."""
    families: dict[str, list[str]] = {}
    for facts in metrics:
        families.setdefault(facts["family"], []).append(facts["key"])
    several = [
        f"{family} ({', '.join(keys)})" for family, keys in families.items() if len(keys) > 1
    ]
    text = "1 is the best mean. The median is over families of metrics, a vote each"
    if several:
        text += f": ranks by the same metric, and then by metrics of {', '.join(several)}, "
        text += "are averaged first"
    return f"{text}. Where metrics disagree, a single winner says little."


def trace_ranks(ranks: "pandas.DataFrame", metrics: Sequence[Facts]) -> "pandas.DataFrame":
    """Trace each method's rank over the variants of each metric.

    A variant is the same metric with another baseline, polarity or other parameter. One choice of
    them decides many rankings, and none is the right one.

    Args:
        ranks: A row a method, a column a metric; NaN where a method has no value.
        metrics: Of those columns.

    Returns:
        A row for each variant of a metric that has several: ``metric``, ``variant`` (what it is
        set to), a column for each method's rank, and ``concordance``, Kendall's W of all variants
        of that metric (1: the same order, 0: none in common; NaN where it is not defined).
        ``attrs["remarks"]`` has a sentence for each method that wins under one variant only.
    """
    import pandas

    variants: dict[str, list[Facts]] = {}
    for facts in metrics:
        variants.setdefault(facts["name"], []).append(facts)
    rows: list[dict[str, Any]] = []
    remarks: list[str] = []
    for name, several in variants.items():
        if len(several) < 2:
            continue
        titles = _title_variants(several)
        part = ranks[[facts["key"] for facts in several]]
        concordance = measure_concordance(part.dropna().to_numpy().T)
        for facts, title in zip(several, titles, strict=True):
            column = part[facts["key"]].to_dict()
            rows.append({"metric": name, "variant": title, **column, "concordance": concordance})
        remarks += _remark_on_winners(name, part.set_axis(titles, axis=1))
    table = pandas.DataFrame(rows, columns=["metric", "variant", *ranks.index, "concordance"])
    table.attrs["remarks"] = remarks
    return table


def measure_concordance(ranks: np.ndarray) -> float:
    """Measure Kendall's W between m rankings of k methods.

    W = 12 Σ_j (R_j - m (k + 1) / 2)² / (m² (k³ - k) - m Σ (t³ - t)), R_j the sum of the ranks of
    method j, t the sizes of ties.

    Args:
        ranks: (m, k); ranked again, as methods may be missing.

    Returns:
        W in [0, 1]; NaN for fewer than two rankings or methods, or where all are tied.

    References:
        Kendall and Babington Smith, The problem of m rankings, Annals of Mathematical Statistics
        10, 1939; with ties: Kendall, Rank correlation methods, 1948, chapter 6
    """
    from scipy import stats

    judges, methods = ranks.shape
    if judges < 2 or methods < 2:
        return np.nan
    ranked = stats.rankdata(ranks, axis=1)
    spread = ((ranked.sum(0) - judges * (methods + 1) / 2) ** 2).sum()
    ties = sum(
        float((sizes**3 - sizes).sum())
        for sizes in (np.unique(row, return_counts=True)[1] for row in ranked)
    )
    most = judges**2 * (methods**3 - methods) - judges * ties
    return float(12 * spread / most) if most else np.nan


def _title_variants(variants: Sequence[Facts]) -> list[str]:
    """Title each variant by the parameters in which they differ."""
    every = [facts["parameters"] for facts in variants]
    names = dict.fromkeys(name for parameters in every for name in parameters)
    differ = [name for name in names if len({str(each.get(name)) for each in every}) > 1]
    return [", ".join(f"{name}={each.get(name)}" for name in differ) for each in every]


def _remark_on_winners(metric: str, ranks: "pandas.DataFrame") -> list[str]:
    """Say of each method that wins under one variant only how it fares under the others."""
    remarks = []
    for method, row in ranks.iterrows():
        first = row.index[row == 1]
        others = row.drop(first).dropna()
        if len(first) == 1 and len(others):
            low, high = others.min(), others.max()
            span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            remarks.append(
                f"{method} is the best by {metric} under {first[0]} only; under the other "
                f"{len(others)} it ranks {span}."
            )
    return remarks
