"""Read a run: scores, leaderboard, images, failures, costs."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cam._extras import require
from cam._runs.plan.run_call import Call
from cam._runs.results.advice import advise
from cam._runs.results.gallery.clusters import average_by_class, find_clusters
from cam._runs.results.gallery.confusions import count_confusions, list_confused
from cam._runs.results.gallery.image_measures import measure_images
from cam._runs.results.gallery.placement import place_images
from cam._runs.results.gallery.stored_maps import average_maps
from cam._runs.results.leaderboard import rank_methods
from cam._runs.results.run_images import RunImage, list_extremes, list_in_order, load_images
from cam._runs.results.run_tables import BY, RunTables
from cam._runs.statistics.metric_agreement import measure_agreement
from cam._runs.statistics.paired_differences import compare_pairs
from cam._runs.statistics.rank_votes import sum_up_ranks, trace_ranks
from cam._runs.statistics.ranks import compare_ranks
from cam._runs.storage.store import Store
from cam.errors import RunError, nearest

if TYPE_CHECKING:
    import pandas

# Names as enumerations, which sort in the order of the call and are small in memory.
NAMED = "method::methods AS method, metric::metrics AS metric"
STATUS = "status::statuses AS status"
# In remarks: 12, -0.5, 3e-07, nan.
NUMBER = r"-?\b([0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?|nan)\b"


class Run(RunTables):
    """A run's folder, finished or not; nothing is written to it."""

    leaderboard = rank_methods
    advice = advise
    extremes = list_extremes
    ordered = list_in_order
    pictures = load_images
    class_averages = average_by_class
    clusters = find_clusters
    image_measures = measure_images
    placement = place_images
    mean_map = average_maps
    confusions = count_confusions
    confused = list_confused

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """Read a folder that :func:`cam.evaluate` wrote.

        Raises:
            RunError: There is no run, it cannot be read, or a file is not what was written.
            MissingExtraError: The extra "evaluate" is not installed.
        """
        require("evaluate", "reading a run")
        store = Store.open(path)
        store.require_whole()
        return cls(store)

    def __repr__(self) -> str:
        return f"cam.Run({str(self.path)!r}, {self.done} of {self.total} images)"

    @property
    def call(self) -> Call:
        """What starts it again.

        Raises:
            RunError: Its model or its data were in memory.
        """
        return Call.of_facts(self.notes.get("call") or {})

    def only(
        self, parts: Mapping[str, str] | None = None, items: Iterable[int] | None = None
    ) -> "Run":
        """Restrict every table and test to some of the images.

        Args:
            parts: "class", "correct" or "confidence" → one of the groups that
                :meth:`leaderboard` names.
            items: Numbers of images; None: all.

        Raises:
            RunError: It cannot be taken apart so.
        """
        for by in parts or {}:
            if by not in BY:
                raise RunError(f"a run cannot be taken apart by {by!r}; {nearest(by, BY)}")
        numbers = self.numbers
        if items is not None:
            members = frozenset(map(int, items))
            numbers = members if numbers is None else numbers & members
        return Run(self.store, {**self.parts, **(parts or {})}, numbers)

    def scores(self) -> "pandas.DataFrame":
        """Read one row an image, method and metric, in that order.

        Columns: ``item``, ``id``, ``method``, ``metric``, ``value`` (float32), ``status`` ("ok";
        "nan": undefined for this image; "failed": the method or metric failed on it; "skipped": the
        image could not be read) and ``reason``.
        """
        import pandas

        table = self.query(f"SELECT item, {NAMED}, value, {STATUS}, reason FROM scores")
        names = self.query("SELECT item, id FROM items").set_index("item")["id"]
        # A category for each item: the name is stored once, not once a row.
        codes = names.index.get_indexer(table["item"])
        table.insert(1, "id", pandas.Categorical.from_codes(codes, categories=names))
        return table

    def values(self, metric: str) -> "pandas.DataFrame":
        """Read a metric's values: a row an item, a column a method."""
        self.require("metric", metric)
        rows = self.query(
            "SELECT item, method::methods AS method, value FROM scores WHERE metric = ?", [metric]
        )
        table = rows.pivot(index="item", columns="method", values="value")
        return table.reindex(columns=self.methods)

    def comparisons(self, metric: str) -> "pandas.DataFrame":
        """Compare each pair of methods by one metric.

        See :func:`cam._runs.statistics.paired_differences.compare_pairs`.
        """
        return compare_pairs(self.values(metric), self.groups(), self.directions[metric])

    def ranks(self, metric: str) -> dict[str, Any]:
        """Average the methods' ranks by one metric.

        See :func:`cam._runs.statistics.ranks.compare_ranks`.
        """
        return compare_ranks(self.values(metric), self.groups(), self.directions[metric])

    def rank_overview(self, board: "pandas.DataFrame | None" = None) -> "pandas.DataFrame":
        """Rank the methods by every metric, with the median over families of metrics.

        Args:
            board: A :meth:`leaderboard` that is there already; None: a new one.

        See :func:`cam._runs.statistics.rank_votes.sum_up_ranks`.
        """
        return sum_up_ranks(self._ranks_by_mean(board), self.config["metrics"])

    def rank_stability(self, board: "pandas.DataFrame | None" = None) -> "pandas.DataFrame":
        """Trace the ranks over the baselines and other variants of each metric.

        Args:
            board: A :meth:`leaderboard` that is there already; None: a new one.

        See :func:`cam._runs.statistics.rank_votes.trace_ranks`.
        """
        return trace_ranks(self._ranks_by_mean(board), self.config["metrics"])

    def _ranks_by_mean(self, board: "pandas.DataFrame | None") -> "pandas.DataFrame":
        board = self.leaderboard() if board is None else board
        ranks = board.pivot(index="method", columns="metric", values="rank")
        ranks.index, ranks.columns = ranks.index.astype(str), ranks.columns.astype(str)
        return ranks.reindex(index=self.methods, columns=self.metrics)

    def agreement(self) -> "pandas.DataFrame":
        """Measure Kendall's τ-b between the metrics.

        See :func:`cam._runs.statistics.metric_agreement.measure_agreement`.
        """
        values = {metric: self.values(metric) for metric in self.metrics}
        return measure_agreement(values, self.groups(), self.directions)

    def items(self) -> "pandas.DataFrame":
        """Read one row an image, with its group and the model's prediction."""
        return self.query("SELECT * FROM items")

    def image(self, number: int) -> RunImage:
        """Load what the run knows of one item.

        Raises:
            RunError: It is not stored.
        """
        number = int(number)
        if self.query("SELECT item FROM items WHERE item = ?", [number]).empty:
            raise RunError(
                f"the run has no image {number}; it has {self.done} of {self.total}, from 0"
            )
        scores = self.query(
            f"SELECT {NAMED}, value, {STATUS}, reason FROM scores WHERE item = ?", [number]
        )
        return replace(self.pictures([number])[number], scores=scores)

    def failures(self) -> "pandas.DataFrame":
        """List every missing value with its item, method, metric and reason.

        A picture that could not be read has one row, without a method and a metric.
        """
        return self.query(
            """
            SELECT item, id, NULL::VARCHAR AS method, NULL::VARCHAR AS metric,
                   'skipped' AS status, reason FROM items WHERE reason IS NOT NULL
            UNION ALL
            SELECT s.item, id, method, metric, status, s.reason
            FROM scores s JOIN items USING (item) WHERE status IN ('failed', 'nan')
            ORDER BY item, method NULLS FIRST, metric
            """
        )

    def problems(self) -> "pandas.DataFrame":
        """List the reasons of :meth:`failures`, each once.

        Columns: ``status``, ``method`` and ``metric`` (missing for a picture that could not be
        read), ``reason``, ``images`` and ``example``, the first of them.
        """
        return self.query(
            """
            SELECT 'skipped' AS status, NULL::VARCHAR AS method, NULL::VARCHAR AS metric, reason,
                   count(*) AS images, arg_min(id, item) AS example
            FROM items WHERE reason IS NOT NULL GROUP BY ALL
            UNION ALL
            SELECT status, method, metric, s.reason, count(*),
                   arg_min(id, s.item)
            FROM scores s JOIN items USING (item) WHERE status IN ('failed', 'nan') GROUP BY ALL
            ORDER BY images DESC, reason, method, metric
            """
        )

    def remarks(self) -> "pandas.DataFrame":
        """List what methods say of their maps and metrics of their values.

        Those that differ only in numbers are one row, in the words of the first image.

        Columns: ``method``, ``metric`` (missing for what is said of the maps themselves),
        ``remark``, ``images``, how many it concerns, ``wordings``, how many different remarks these
        have, and ``example``, the first of them.
        """
        return self.query(
            f"""
            SELECT {NAMED}, arg_min(remark, r.item) AS remark, count(*) AS images,
                   count(DISTINCT remark) AS wordings, arg_min(id, r.item) AS example
            FROM remarks r JOIN items USING (item)
            GROUP BY r.method, r.metric, regexp_replace(remark, '{NUMBER}', '0', 'g')
            ORDER BY metric NULLS FIRST, method, images DESC, remark
            """
        )

    def costs(self) -> "pandas.DataFrame":
        """Sum what each method took, and each metric of its maps.

        Columns: ``method``, ``metric`` (missing for the maps themselves), ``images``, ``forwards``
        and ``backwards`` (batches through the network; those that methods share count for each),
        ``seconds``, ``images_per_second`` and ``peak_bytes`` (of a GPU's memory).
        """
        return self.query(
            f"""
            SELECT {NAMED}, sum(images)::BIGINT AS images,
                   sum(forwards)::BIGINT AS forwards, sum(backwards)::BIGINT AS backwards,
                   sum(seconds) AS seconds, sum(images) / nullif(sum(seconds), 0)
                   AS images_per_second, max(peak_bytes) AS peak_bytes
            FROM costs GROUP BY ALL ORDER BY metric NULLS FIRST, method
            """
        )

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the scores as ``.csv`` or ``.parquet``.

        Raises:
            RunError: Another ending, or it cannot be written.
        """
        target = Path(path)
        if target.suffix not in (".csv", ".parquet"):
            raise RunError(f"scores are exported as .csv or .parquet, not {target.suffix!r}")
        how = "HEADER" if target.suffix == ".csv" else "FORMAT parquet, COMPRESSION zstd"
        temporary = target.with_name(f".{target.name}.writing")
        name = str(temporary).replace("'", "''")
        try:
            self.query(
                f"""
                COPY (SELECT item, id, {NAMED}, value, status, s.reason FROM scores s
                      JOIN (SELECT item, id FROM items) USING (item)
                      ORDER BY item, method, metric) TO '{name}' ({how})
                """
            )
            temporary.replace(target)
        except (OSError, RunError) as error:
            temporary.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error)
            raise RunError(f"cannot write {str(target)!r}: {reason}") from None
        return target
