"""Advise which method to use for a run's model and data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cam._methods.base.method_registry import methods as known_methods
from cam._runs.results.run_tables import RunTables
from cam._runs.statistics.group_means import average_rows, number_groups
from cam._runs.statistics.intervals import FEWEST
from cam._runs.statistics.paired_differences import describe_differences, judge
from cam._runs.statistics.rank_votes import trace_ranks, vote_by_family

if TYPE_CHECKING:
    import pandas

# The family of metrics that look at the map alone, and not at the model.
COMPLEXITY = "complexity"
# Maps that know nothing of the model: whoever does not beat them shows nothing.
CHANCE = ("randomcam", "centre")
RESAMPLES = 1000
BLOCK_VALUES = 1_000_000
# Of the resamples: below this another method is the best too often for one name to be the answer.
CLEAR = 0.9


@dataclass(frozen=True)
class Advice:
    """Which method to use, why, how sure that is, and what would change it.

    Attributes:
        method: The key of the method that most families of metrics put first; None where the run
            allows no choice.
        layers: At which layers it explained; empty for a method of the pixels.
        confidence: In which share of resamples of the groups it is the best; NaN without a choice.
        equals: Methods that no metric puts behind it by more than noise, the cheapest first.
        reasons: Sentences on what the choice stands on.
        changes: Sentences on what would change it.
    """

    method: str | None
    layers: tuple[str, ...]
    confidence: float
    equals: tuple[str, ...]
    reasons: tuple[str, ...]
    changes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.reasons, *self.changes])


def advise(run: RunTables) -> Advice:
    """Advise which method to use for the run's model and data, and how sure that is.

    Each metric ranks the methods by their means over groups; ranks by variants of one metric, then
    by metrics of one family, are averaged, and the best median over the families is the choice. It
    is made again in 1,000 resamples of the groups, and the share that it wins is how sure it is
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8, for the resampling of
    groups).

    Args:
        run: A run with one metric and two methods at least that have values.

    Returns:
        Without a choice where there are fewer than 8 groups, no metric but of complexity, or no
        method that beats a map that knows nothing of the model.
    """
    tables = {metric: _read_groups(run, metric) for metric in run.metrics}
    tables = {metric: table for metric, table in tables.items() if not table.empty}
    every = sorted(set().union(*(table.index for table in tables.values())))
    tables = {metric: table.reindex(every) for metric, table in tables.items()}
    candidates = [
        method
        for method in run.methods
        if _name(run, method) not in CHANCE and all(method in table for table in tables.values())
    ]
    groups = len(every)
    if groups < FEWEST:
        lack = f"{groups} independent group{'' if groups == 1 else 's'}"
        return _decline(
            f"No method is recommended: the run has {lack}, and {FEWEST} are needed before a "
            "difference can be told from noise.",
            f"Run it over at least {FEWEST} independent images; 30 and more tell methods apart.",
        )
    if len(candidates) < 2:
        return _decline(
            "No method is recommended: the run has fewer than two methods with values.",
            "Run it with several methods, such as gradcam, layercam and integrated_gradients.",
        )
    facts = [facts for facts in run.config["metrics"] if facts["key"] in tables]
    if {metric["family"] for metric in facts} <= {COMPLEXITY}:
        return _decline(
            "No method is recommended: how sparse a map is does not say whether it is right, and "
            "the run measures nothing else.",
            "Measure faithfulness too, such as by deletion and insertion.",
        )
    shares = _resample(tables, candidates, facts, run.directions)
    best = candidates[
        int(vote_by_family(_mean_ranks(tables, candidates, run.directions), facts).argmin())
    ]
    tests = _test_against(run, best, tables)
    beaten = set(tests[tests["verdict"] == "better"]["other"])
    chance = [method for method in run.methods if _name(run, method) in CHANCE]
    if chance and not beaten.intersection(chance):
        return _decline(
            f"No method is recommended: {best} ranks first, but by no metric is it better than "
            f"{' or '.join(chance)}, which knows nothing of the model, by more than noise.",
            "Run it over more images, or look whether the model predicts them right.",
        )
    rest = [method for method in candidates if method != best and method not in beaten]
    return _describe(run, best, shares, rest, tests, tables, facts)


def _decline(reason: str, change: str) -> Advice:
    return Advice(None, (), np.nan, (), (reason,), (change,))


def _name(run: RunTables, key: str) -> str:
    """Return the registered name of a method's key."""
    return next(str(m["name"]) for m in run.config["methods"] if m["key"] == key)


def _read_groups(run: RunTables, metric: str) -> "pandas.DataFrame":
    """Read a metric's means of groups, a column each method that has values."""
    rows = run.query(
        "SELECT item, method::methods AS method, value FROM scores WHERE metric = ?", [metric]
    )
    values = rows.pivot(index="item", columns="method", values="value").astype(float)
    values.columns = values.columns.astype(str)
    values = values.reindex(columns=run.methods).dropna(axis=1, how="all")
    return average_rows(values, run.groups()).dropna(how="all")


def _mean_ranks(
    tables: Mapping[str, "pandas.DataFrame"],
    methods: Sequence[str],
    directions: Mapping[str, int],
    draw: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Rank the methods by each metric's mean over the groups, or over each of several draws.

    Args:
        tables: Metric → its means of the groups.
        methods: Those that are ranked.
        directions: Metric → +1 where higher is better, else -1.
        draw: (draws, groups) numbers of groups.

    Returns:
        Metric → (methods,), or (draws, methods).
    """
    from scipy import stats

    ranks = {}
    for metric, table in tables.items():
        values = table[list(methods)].to_numpy()
        if draw is not None:
            values = values[draw]
        sound = ~np.isnan(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(sound, values, 0).sum(-2) / sound.sum(-2) * -directions[metric]
        ranks[metric] = stats.rankdata(np.nan_to_num(means, nan=np.inf), axis=-1)
    return ranks


def _resample(
    tables: Mapping[str, "pandas.DataFrame"],
    methods: Sequence[str],
    facts: Sequence[Mapping[str, Any]],
    directions: Mapping[str, int],
) -> dict[str, float]:
    """Return the share of resamples of the groups in which each method is the best."""
    generator = np.random.default_rng(0)
    groups = len(next(iter(tables.values())))
    wins = np.zeros(len(methods))
    # Many at once are quick, and few of many groups fit into memory.
    block = max(1, BLOCK_VALUES // (groups * len(methods)))
    for start in range(0, RESAMPLES, block):
        draw = generator.integers(groups, size=(min(block, RESAMPLES - start), groups))
        votes = vote_by_family(_mean_ranks(tables, methods, directions, draw), facts)
        first = votes == votes.min(-1, keepdims=True)
        wins += (first / first.sum(-1, keepdims=True)).sum(0)
    return dict(zip(methods, wins / RESAMPLES, strict=True))


def _test_against(
    run: RunTables, best: str, tables: Mapping[str, "pandas.DataFrame"]
) -> "pandas.DataFrame":
    """Test the best method against every other by every metric, corrected for all of them."""
    rows = []
    for metric, table in tables.items():
        for other in table.columns.drop(best):
            differences = (table[best] - table[other]).to_numpy()
            codes = number_groups(table.index.to_series())
            facts = describe_differences(
                differences, codes, run.directions[metric], "wins", "losses"
            )
            rows.append({"metric": metric, "other": other, **facts})
    return judge(rows, ["metric", "other"], "wins", "losses")


def _describe(
    run: RunTables,
    best: str,
    shares: Mapping[str, float],
    rest: Sequence[str],
    tests: "pandas.DataFrame",
    tables: Mapping[str, "pandas.DataFrame"],
    facts: Sequence[Mapping[str, Any]],
) -> Advice:
    """Put the choice into sentences."""
    seconds = run.query(
        "SELECT method::methods AS method, sum(seconds) / sum(images) AS seconds FROM costs "
        "WHERE metric IS NULL GROUP BY ALL"
    )
    cost = dict(zip(seconds["method"].astype(str), seconds["seconds"], strict=True))
    equals = tuple(sorted(rest, key=lambda method: cost.get(method, np.inf)))
    groups = len(next(iter(tables.values())))
    layers = tuple(run.config.get("layers", ())) if _reads_layer(_name(run, best)) else ()
    at = f" at {', '.join(layers)}" if layers else ""
    won = tests[(tests["verdict"] == "better") & ~tests["other"].isin(CHANCE)]
    lost = tests[tests["verdict"] == "worse"]
    reasons = [
        f"{'Use' if shares[best] >= CLEAR else 'Not settled, but first is'} {best}{at}: it has the "
        f"best median rank over {_count_families(facts)} on "
        f"{groups:,} independent groups.",
        f"It is the best in {shares[best]:.0%} of {RESAMPLES:,} resamples of the groups"
        + (
            "."
            if shares[best] >= CLEAR
            else ": which method is the best is not settled by this run."
        ),
        f"It is better than another method by more than noise in {len(won)} of "
        f"{len(tests[~tests['other'].isin(CHANCE)])} tests, and worse in {len(lost)} (sign-flip "
        "tests of the mean, Holm's correction).",
    ]
    if equals:
        reasons.append(
            f"By no metric is it better than {', '.join(equals)} by more than noise"
            + (
                f"; {equals[0]} takes {cost[equals[0]] / cost[best]:.0%} of its time."
                if equals[0] in cost and best in cost and cost[equals[0]] < cost[best]
                else "."
            )
        )
    changes = [
        f"By {row.metric} {row.other} is better ({abs(row.difference):.3g}, p = {row.holm:.2g})."
        for row in lost.itertuples()
    ]
    left_out = [
        method
        for method in run.methods
        if _name(run, method) not in CHANCE and method not in shares
    ]
    if left_out:
        changes.append(f"{', '.join(left_out)} did not count: some metric has no value of it.")
    changes += _drop_families(run, best, list(shares), tables, facts)
    ranks = _mean_ranks(tables, list(shares), run.directions)
    changes += trace_ranks(_as_table(ranks, list(shares)), facts).attrs["remarks"]
    if shares[best] < CLEAR:
        runner_up = max((m for m in shares if m != best), key=shares.__getitem__)
        changes.append(
            f"{runner_up} is the best in {shares[runner_up]:.0%} of the resamples; four times as "
            "many groups halve the noise."
        )
    if not changes:
        changes = ["No family of metrics and no variant of a metric puts another method first."]
    return Advice(best, layers, shares[best], equals, tuple(reasons), tuple(changes))


def _reads_layer(name: str) -> bool:
    """Test whether a method explains at a layer; one that is not registered here may not."""
    info = known_methods().get(name)
    return info is not None and info.layer


def _count_families(facts: Sequence[Mapping[str, Any]]) -> str:
    families = dict.fromkeys(metric["family"] for metric in facts)
    word = "family" if len(families) == 1 else "families"
    return f"{len(families)} {word} of metrics ({', '.join(families)})"


def _drop_families(
    run: RunTables,
    best: str,
    methods: Sequence[str],
    tables: Mapping[str, "pandas.DataFrame"],
    facts: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Say which method each family of metrics alone would choose, where it is another one."""
    ranks = _mean_ranks(tables, methods, run.directions)
    families = dict.fromkeys(metric["family"] for metric in facts)
    if len(families) < 2:
        return []
    winners: dict[str, list[str]] = {}
    for family in families:
        votes = vote_by_family(ranks, [metric for metric in facts if metric["family"] == family])
        first = methods[int(votes.argmin())]
        if first != best and votes[methods.index(best)] > votes.min():
            winners.setdefault(first, []).append(family)
    return [
        f"If {' and '.join(names)} alone counted, {first} would be first."
        for first, names in winners.items()
    ]


def _as_table(ranks: Mapping[str, np.ndarray], methods: Sequence[str]) -> "pandas.DataFrame":
    import pandas

    return pandas.DataFrame(ranks, index=list(methods))
