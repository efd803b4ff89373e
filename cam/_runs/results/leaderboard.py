"""Rank methods by each metric, in one pass over the scores."""

from typing import TYPE_CHECKING

from cam._runs.results.run_tables import BY, RunTables
from cam._runs.statistics.intervals import estimate_intervals, name_interval
from cam.errors import RunError, nearest

if TYPE_CHECKING:
    import pandas


def rank_methods(run: RunTables, by: str | None = None) -> "pandas.DataFrame":
    """Rank each method by each metric.

    Args:
        run: Whose scores.
        by: None, or "class", "correct" or "confidence": apart for the groups of images with
            that class, with a right or wrong prediction, with so much confidence in it.

    Returns:
        Columns ``method``, ``metric``, ``mean`` (over groups, each the mean of its images), ``low``
        and ``high`` (its 95 % interval) and ``interval`` (how that was found, or "too few (3
        groups)": there is none below 8), ``median`` of the groups, ``n`` (values it stands on),
        ``groups`` (of which they are), ``nan`` (undefined), ``failed``, ``skipped`` (pictures that
        could not be read) and ``rank`` (1 is the best mean of that metric); with ``by`` a column of
        that name before them.
    """
    import pandas

    if by is not None and by not in BY:
        raise RunError(f"a leaderboard cannot be taken apart by {by!r}; {nearest(by, BY)}")
    table = run.query(
        f"""
        SELECT part, metric, method, avg(value) AS mean, stddev_samp(value) AS deviation,
               skewness(value) AS skew, median(value) AS median,
               sum(n)::BIGINT AS n, count(value) AS groups,
               count(*) FILTER (value IN (0, 1)) = count(value) AS whole,
               sum(nan)::BIGINT AS nan, sum(failed)::BIGINT AS failed,
               sum(skipped)::BIGINT AS skipped
        FROM ({_select_group_means(run, by)}) GROUP BY ALL
        """
    )
    # In the order of the call. The names are cast here and not in the query: of ten million
    # rows that would take longer than their means.
    for column, names in (("method", run.methods), ("metric", run.metrics)):
        table[column] = pandas.Categorical(table[column], names, ordered=True)
    table = table.sort_values(["part", "metric", "method"], ignore_index=True)
    # Without a skewness there is one value, or all are alike.
    mean, deviation, skewness = (table[name].fillna(0) for name in ("mean", "deviation", "skew"))
    table["low"], table["high"] = estimate_intervals(
        table["groups"], mean, deviation, skewness, table["whole"]
    )
    table["interval"] = [
        name_interval(row.groups, row.whole) for row in table[["groups", "whole"]].itertuples()
    ]
    signed = table["mean"] * -table["metric"].astype(str).map(run.directions)
    table["rank"] = signed.groupby([table["part"], table["metric"]], observed=True).rank()
    columns = ["mean", "low", "high", "interval", "median", "n", "groups"]
    columns += ["nan", "failed", "skipped", "rank"]
    board = table[["part", "method", "metric", *columns]]
    return board.rename(columns={"part": by}) if by else board.drop(columns="part")


def _select_group_means(run: RunTables, by: str | None) -> str:
    """Write the query of a row a group, method and metric.

    Where each image is its own group, that is a row an image, and nothing is joined.
    """
    part = f"{BY[by]} AS part" if by else "'' AS part"
    groups = run.query('SELECT count("group") - count(DISTINCT "group") AS shared FROM items')
    if not groups["shared"].any():
        joined = "scores s JOIN items i USING (item)" if by else "scores s"
        return f"""
        SELECT {part}, metric, method, CASE WHEN status = 'ok' THEN value::DOUBLE END AS value,
               (status = 'ok')::INT AS n, (status = 'nan')::INT AS nan,
               (status = 'failed')::INT AS failed, (status = 'skipped')::INT AS skipped
        FROM {joined}
        """
    return f"""
    SELECT {part}, metric, method, avg(value::DOUBLE) FILTER (status = 'ok') AS value,
           count(*) FILTER (status = 'ok') AS n, count(*) FILTER (status = 'nan') AS nan,
           count(*) FILTER (status = 'failed') AS failed,
           count(*) FILTER (status = 'skipped') AS skipped
    FROM scores s JOIN items i USING (item) GROUP BY part, metric, method, i."group"
    """
