"""Read a run: scores, leaderboard, images, failures, costs."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cam._extras import require
from cam._runs.plan.run_call import Call
from cam._runs.results import clusters, run_images, statistics
from cam._runs.results.leaderboard import leaderboard
from cam._runs.results.run_images import RunImage
from cam._runs.results.run_tables import BY, RunTables
from cam._runs.storage.store import Store
from cam.errors import RunError, nearest

if TYPE_CHECKING:
    import pandas

# Names as enumerations, which sort in the order of the call and are small in memory.
NAMED = "method::methods AS method, metric::metrics AS metric"
STATUS = "status::statuses AS status"


class Run(RunTables):
    """A run's folder, finished or not; nothing is written to it."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """Read a folder that :func:`cam.evaluate` wrote.

        Raises:
            RunError: There is no run, or it cannot be read.
            MissingExtraError: The extra "evaluate" is not installed.
        """
        require("evaluate", "reading a run")
        return cls(Store.open(path))

    def __repr__(self) -> str:
        return f"cam.Run({str(self.path)!r}, {self.done} of {self.total} images)"

    @property
    def call(self) -> Call:
        """What starts it again.

        Raises:
            RunError: Its model or its data were in memory.
        """
        return Call.of_facts(self.notes.get("call") or {})

    def only(self, parts: Mapping[str, str]) -> "Run":
        """The same run as if it had these images only: every table and test is of them.

        Args:
            parts: "class", "correct" or "confidence" → one of the groups that
                :meth:`leaderboard` names.

        Raises:
            RunError: It cannot be taken apart so.
        """
        for by in parts:
            if by not in BY:
                raise RunError(f"a run cannot be taken apart by {by!r}; {nearest(by, BY)}")
        return Run(self.store, {**self.parts, **parts})

    def scores(self) -> "pandas.DataFrame":
        """One row an image, method and metric, in that order.

        Columns: ``item``, ``id``, ``method``, ``metric``, ``value`` (float32), ``status`` ("ok";
        "nan": undefined for this image; "failed": the method or metric failed on it; "skipped": the
        image could not be read) and ``reason``.
        """
        import pandas

        found = self.query(f"SELECT item, {NAMED}, value, {STATUS}, reason FROM scores")
        names = self.query("SELECT item, id FROM items").set_index("item")["id"]
        # A category for each item: the name is stored once, not once a row.
        places = names.index.get_indexer(found["item"])
        found.insert(1, "id", pandas.Categorical.from_codes(places, categories=names))
        return found

    def leaderboard(self, by: str | None = None) -> "pandas.DataFrame":
        """Each method by each metric.

        Args:
            by: None, or "class", "correct" or "confidence": apart for the groups of images with
                that class, with a right or wrong prediction, with so much confidence in it.

        Returns:
            Columns ``method``, ``metric``, ``mean``, ``low`` and ``high`` (95 % interval of the
            mean), ``median``, ``n`` (values it stands on), ``nan`` (undefined), ``failed``,
            ``skipped`` (pictures that could not be read) and ``rank`` (1 is the best mean of that
            metric); with ``by`` a column of that name before them.
        """
        return leaderboard(self, by)

    def values(self, metric: str) -> "pandas.DataFrame":
        """One row an item, one column a method; NaN where there is no value."""
        if metric not in self.metrics:
            raise RunError(f"the run has no metric {metric!r}; {nearest(metric, self.metrics)}")
        found = self.query(
            "SELECT item, method::methods AS method, value FROM scores WHERE metric = ?", [metric]
        )
        table = found.pivot(index="item", columns="method", values="value")
        return table.reindex(columns=self.methods)

    def comparisons(self, metric: str) -> "pandas.DataFrame":
        """Every pair of methods by one metric; see :func:`cam._runs.results.statistics.paired`."""
        return statistics.paired(self.values(metric), self.directions[metric])

    def ranks(self, metric: str) -> dict[str, Any]:
        """Average ranks by one metric; see :func:`cam._runs.results.statistics.friedman`."""
        return statistics.friedman(self.values(metric), self.directions[metric])

    def agreement(self) -> "pandas.DataFrame":
        """Kendall's τ-b between the metrics; see :func:`cam._runs.results.statistics.agreement`."""
        found: pandas.DataFrame = statistics.agreement(
            {metric: self.values(metric) for metric in self.metrics}, self.directions
        )
        return found

    def items(self) -> "pandas.DataFrame":
        """One row an image: what it is, and what the model said of it."""
        return self.query("SELECT * FROM items")

    def image(self, number: int) -> RunImage:
        """What the run knows of one item.

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
        """Every value that is missing, with its reason: item, id, method, metric, status, reason.

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
        """The reasons of :meth:`failures`, each once.

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

    def extremes(self, metric: str, count: int = 3) -> "pandas.DataFrame":
        """The best and worst images of each method by one metric.

        Returns:
            Columns ``method``, ``end`` ("best" or "worst"), ``place`` from 1, ``item``, ``id``,
            ``value``, ``label`` and ``predicted_label``.
        """
        return run_images.extremes(self, metric, count)

    def ordered(
        self,
        metric: str,
        method: str,
        *,
        worst: bool = False,
        start: int = 0,
        count: int = 12,
    ) -> "pandas.DataFrame":
        """The images with a value, the best first or the worst first, ``count`` from ``start`` on.

        Returns:
            Columns ``item``, ``id``, ``value``, ``label``, ``predicted_label``, ``correct`` and
            ``confidence``.

        Raises:
            RunError: The run has no such metric or method.
        """
        return run_images.ordered(self, metric, method, worst, start, count)

    def pictures(self, numbers: list[int]) -> dict[int, RunImage]:
        """:meth:`image` for several at once, without their scores."""
        return run_images.pictures(self, numbers)

    def costs(self) -> "pandas.DataFrame":
        """What each method took, and each metric of its maps.

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

    def class_averages(self, method: str) -> clusters.ClassAverages:
        """The mean map of each class's images, whatever their number; maps of zeros are left out.

        Raises:
            RunError: The run has no such method, or kept no heatmaps.
        """
        return clusters.class_averages(self, method)

    def clusters(
        self,
        method: str,
        label: str | None = None,
        *,
        count: int | None = None,
        neighbours: int | None = None,
        most: int = 8,
        side: int = 14,
        limit: int = 2000,
        seed: int = 0,
    ) -> clusters.Clusters:
        """Groups of images whose maps are alike, as spectral relevance analysis finds them.

        Maps are made smaller and scaled to length 1; each image is joined with its nearest; the
        eigenvalues of that graph's Laplacian say into how many groups it falls (as many as there
        are before the last that is more than 5 times the one before), and k-means on its
        eigenvectors, rows scaled to length 1, which they are. One cluster means that the images
        are alike, or pass into each other. A group of no more images than neighbours is not found.

        Args:
            method: Whose maps.
            label: Only of images that were explained for this class. None: of all; then classes are
                what differs first.
            count: How many clusters. None: as many as the eigenvalues say.
            neighbours: With how many each image is joined. None: log n, and at least 2.
            most: The most clusters that the eigenvalues may say.
            side: Size in pixels at which maps are compared.
            limit: Beyond so many images a sample of them is looked at. Memory grows with its square
                (2,000 images: 70 MB).
            seed: Of the sample and of k-means; the same seed gives the same clusters.

        Raises:
            RunError: No such method or class, no heatmaps, fewer than 10 maps, or a number that
                makes no sense.

        Source: Lapuschkin et al., Unmasking Clever Hans predictors and assessing what machines
        really learn, Nature Communications 2019, Methods, "Spectral relevance analysis"; Ng, Jordan
        and Weiss, NIPS 2001; log n and eigengaps: von Luxburg, A tutorial on spectral clustering,
        2007, section 8. They take the widest absolute gap, which splits maps of an object that is
        evenly here and there into 3 to 8 groups; a relative one is the library's own choice.
        """
        return clusters.clusters(
            self, method, label, count=count, neighbours=neighbours, most=most, side=side,
            limit=limit, seed=seed,
        )  # fmt: skip

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
