"""Rank methods by each metric, in one pass over the scores."""

from typing import TYPE_CHECKING

import numpy as np

from cam._runs.results import statistics
from cam._runs.results.run_tables import BY, RunTables
from cam.errors import RunError, nearest

if TYPE_CHECKING:
    import pandas

# Groups of few images that are drawn again, at 3 to 10 ms each; where there are more, as with a
# thousand classes, their intervals come from moments as well.
DRAWN = 500


def rank_methods(run: RunTables, by: str | None = None) -> "pandas.DataFrame":
    """Rank each method by each metric.

    Args:
        run: Whose scores.
        by: None, or "class", "correct" or "confidence": apart for the groups of images with
            that class, with a right or wrong prediction, with so much confidence in it.

    Returns:
        Columns ``method``, ``metric``, ``mean``, ``low`` and ``high`` (95 % interval of the
        mean), ``median``, ``n`` (values it stands on), ``nan`` (undefined), ``failed``,
        ``skipped`` (pictures that could not be read) and ``rank`` (1 is the best mean of that
        metric); with ``by`` a column of that name before them.
    """
    import pandas

    if by is not None and by not in BY:
        raise RunError(f"a leaderboard cannot be taken apart by {by!r}; {nearest(by, BY)}")
    group = f"{BY[by]} AS part" if by else "'' AS part"
    joined = "scores s JOIN items i USING (item)" if by else "scores s"
    table = run.query(
        f"""
        SELECT {group}, metric, method,
               avg(value::DOUBLE) FILTER (status = 'ok') AS mean,
               stddev_samp(value::DOUBLE) FILTER (status = 'ok') AS deviation,
               skewness(value::DOUBLE) FILTER (status = 'ok') AS skew,
               median(value) FILTER (status = 'ok') AS median,
               count(*) FILTER (status = 'ok') AS n,
               count(*) FILTER (status = 'nan') AS nan,
               count(*) FILTER (status = 'failed') AS failed,
               count(*) FILTER (status = 'skipped') AS skipped
        FROM {joined} GROUP BY ALL
        """
    )
    # In the order of the call. The names are cast here and not in the query: of ten million
    # rows that would take longer than their means.
    for column, names in (("method", run.methods), ("metric", run.metrics)):
        table[column] = pandas.Categorical(table[column], names, ordered=True)
    table = table.sort_values(["part", "metric", "method"], ignore_index=True)
    low, high = statistics.estimate_interval_from_moments(
        table["n"].clip(lower=1), table["mean"], table["deviation"].fillna(0), table["skew"]
    )
    table["low"], table["high"] = low, high
    # One value, or all alike: no skewness, and an interval only where there is more than one.
    flat = table["skew"].isna() & (table["n"] > 1)
    table.loc[flat, ["low", "high"]] = table.loc[flat, ["mean", "mean"]].to_numpy()
    few = table["n"].between(2, statistics.EXACT)
    if 0 < few.sum() <= DRAWN:
        _draw_again(run, table, few, group, joined)
    signed = table["mean"] * -table["metric"].astype(str).map(run.directions)
    table["rank"] = signed.groupby([table["part"], table["metric"]], observed=True).rank()
    columns = ["mean", "low", "high", "median", "n", "nan", "failed", "skipped", "rank"]
    board = table[["part", "method", "metric", *columns]]
    return board.rename(columns={"part": by}) if by else board.drop(columns="part")


def _draw_again(
    run: RunTables, table: "pandas.DataFrame", few: "pandas.Series", group: str, joined: str
) -> None:
    """Bootstrap the groups that are small, in place."""
    indices = {(row.part, row.metric, row.method): row.Index for row in table[few].itertuples()}
    values = run.query(
        f"""
        WITH named AS (SELECT {group}, metric, method, item, value, status FROM {joined})
        SELECT part, metric, method, list(value::DOUBLE ORDER BY item) AS drawn
        FROM named WHERE status = 'ok' GROUP BY ALL
        HAVING count(*) BETWEEN 2 AND {statistics.EXACT}
        """
    )
    for row in values.itertuples():
        index = indices[(row.part, row.metric, row.method)]
        table.loc[index, ["low", "high"]] = statistics.estimate_interval(np.asarray(row.drawn))
