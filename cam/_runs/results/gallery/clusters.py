"""Average the maps of classes, and group maps that are alike.

A model that uses a watermark, a border or a background has pictures whose maps lie there and not on
the object. Their mean shows it; where only part of a class is so, they form a group.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cam._runs.results.gallery.stored_maps import (
    MAPS_AT_ONCE,
    decode_maps,
    read_maps,
    require_side,
    scale_maps,
)
from cam._runs.results.run_tables import RunTables
from cam.errors import RunError, nearest
from cam.parameters import integer, optional

if TYPE_CHECKING:
    import pandas

# With fewer images, neighbours say nothing.
FEWEST = 10
# An eigenvalue begins a gap if the next is more than this many times as large. Maps of an object
# that is now here, now there fill a line (4, as the eigenvalues are as 1 to 4 to 9) or a rectangle
# evenly, and are no groups; the widest absolute gap, the usual rule, finds 3 to 8 of them there.
GAP = 5.0
# What is smaller is rounding: as many eigenvalues are 0 as the graph has parts.
ZERO = 1e-9
# Graphs of more nodes are taken as sparse: 0.1 s instead of 15 s for 2,000.
DENSE = 200
RESTARTS = 10
RULES = {
    "count": optional(integer(1)),
    "neighbours": optional(integer(1)),
    "most": integer(1),
    "side": integer(2),
    "limit": integer(FEWEST),
    "seed": integer(0),
}
REPRESENTATIVES = 5


@dataclass(frozen=True, eq=False)
class ClassAverages:
    """The mean map of each class's images.

    Attributes:
        method: Whose maps.
        table: A DataFrame with a row a class, the largest first: ``label``, ``images`` (in the
            mean) and ``blank`` (left out, as their map is zero everywhere).
        maps: (classes, side, side) float32 in [0, 1], in the order of the table.
    """

    method: str
    table: "pandas.DataFrame"
    maps: np.ndarray


@dataclass(frozen=True, eq=False)
class Clusters:
    """Groups of images whose maps are alike.

    Attributes:
        method: Whose maps.
        label: Of which class; None: of all.
        items: A DataFrame with a row an image: ``item``, ``id``, ``label``, ``predicted_label``,
            ``correct``, ``confidence`` and ``cluster``.
        table: A DataFrame with a row a cluster, the largest first: ``cluster`` from 0, ``size``,
            ``share``, ``correct`` (share of right predictions), ``confidence`` (mean), ``apart``
            (0: its mean map is that of the other images; 1: the two share no place; NaN where
            there are no others), ``row`` and ``column`` (the highest point of its mean map, from 0
            at the top left to 1) and ``representatives`` (items, the most typical first).
        maps: (clusters, side, side) float32 in [0, 1], their mean maps.
        eigenvalues: Of the graph's Laplacian, from the smallest, which is 0; a second one near 0
            means that the images fall apart.
        total: Images that have a map; more than ``items`` has if they were sampled.
        blank: Of those looked at, left out as their map is zero everywhere.
    """

    method: str
    label: str | None
    items: "pandas.DataFrame"
    table: "pandas.DataFrame"
    maps: np.ndarray
    eigenvalues: np.ndarray
    total: int
    blank: int


def average_by_class(run: RunTables, method: str) -> ClassAverages:
    """Average the maps of each class, without maps of zeros.

    Raises:
        RunError: The run has no such method, or kept no heatmaps.
    """
    import pandas

    side = require_side(run, method)
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, list[int]] = {}
    for start in range(0, run.total, MAPS_AT_ONCE):
        stored = run.query(
            "SELECT coalesce(label, 'unknown') AS label, signed, heatmap "
            "FROM maps JOIN items USING (item) "
            "WHERE method = ? AND item >= ? AND item < ? ORDER BY item",
            [method, start, start + MAPS_AT_ONCE],
        )
        for label, rows in stored.groupby("label", observed=True):
            maps = decode_maps(rows, side)
            warm = maps.any((1, 2))
            total = sums.setdefault(str(label), np.zeros((side, side)))
            total += maps.sum(0, dtype=np.float64) / 255
            count = counts.setdefault(str(label), [0, 0])
            count[0] += int(warm.sum())
            count[1] += int((~warm).sum())
    order = sorted(counts, key=lambda label: (-counts[label][0], label))
    rows = [(label, *counts[label]) for label in order]
    means = [sums[label] / max(counts[label][0], 1) for label in order]
    return ClassAverages(
        method,
        pandas.DataFrame(rows, columns=["label", "images", "blank"]),
        np.stack(means).astype(np.float32) if means else np.zeros((0, side, side), np.float32),
    )


def find_clusters(
    run: RunTables,
    method: str,
    label: str | None = None,
    *,
    count: int | None = None,
    neighbours: int | None = None,
    most: int = 8,
    side: int = 14,
    limit: int = 2000,
    seed: int = 0,
) -> Clusters:
    """Group images whose maps are alike, by spectral relevance analysis.

    Maps are made smaller and scaled to length 1; each image is joined with its nearest; the
    eigenvalues of that graph's Laplacian say into how many groups it falls (as many as there
    are before the last that is more than 5 times the one before), and k-means on its
    eigenvectors, rows scaled to length 1, which they are. One cluster means that the images
    are alike, or pass into each other. A group of no more images than neighbours is not found.

    Args:
        run: Whose images.
        method: Whose maps.
        label: Only of images that were explained for this class. None: of all; then classes are
            what differs first.
        count: How many clusters. None: as many as the eigenvalues say.
        neighbours: With how many each image is joined. None: log n, and at least 2.
        most: The most clusters that the eigenvalues may say.
        side: Size in pixels at which maps are compared.
        limit: Of more images than these a sample is examined. Memory grows with its square
            (2,000 images: 70 MB).
        seed: Of the sample and of k-means; the same seed gives the same clusters.

    Raises:
        RunError: No such method or class, no heatmaps, fewer than 10 maps, or a number
            out of range.

    Source: Lapuschkin et al., Unmasking Clever Hans predictors and assessing what machines
    really learn, Nature Communications 2019, Methods, "Spectral relevance analysis"; Ng, Jordan
    and Weiss, NIPS 2001; log n and eigengaps: von Luxburg, A tutorial on spectral clustering,
    2007, section 8. They take the widest absolute gap, which splits maps of an object that is
    evenly here and there into 3 to 8 groups; a relative one is the library's own choice.
    """
    stored = require_side(run, method)
    numbers = {"count": count, "neighbours": neighbours, "most": most, "side": side}
    for name, value in {**numbers, "limit": limit, "seed": seed}.items():
        if not RULES[name].holds(value):
            raise RunError(f"{name} must be {RULES[name].words}, but is {value!r}")
    facts = run.query(
        "SELECT item, id, label, predicted_label, correct, confidence "
        "FROM maps JOIN items USING (item) WHERE method = ? ORDER BY item",
        [method],
    )
    if label is not None:
        labels = facts["label"].dropna().unique()
        if label not in labels:
            raise RunError(f"the run explained no class {label!r}; {nearest(label, labels)}")
        facts = facts[facts["label"] == label]
    total = len(facts)
    chance = np.random.default_rng(seed)
    if total > limit:
        facts = facts.iloc[np.sort(chance.choice(total, limit, replace=False))]
    maps = read_maps(run, method, facts["item"].tolist(), stored)
    warm = maps.any((1, 2))
    facts, maps = facts[warm].reset_index(drop=True), maps[warm]
    if len(facts) < FEWEST:
        raise RunError(
            f"{len(facts)} maps of {method} are too few for clusters; at least {FEWEST} are needed"
        )
    points = scale_maps(maps, min(side, stored))
    near = round(np.log(len(points))) if neighbours is None else neighbours
    values, vectors = compute_spectrum(
        points, min(max(near, 2), len(points) - 1), max(most, count or 1)
    )
    groups = count_groups(values[: most + 1]) if count is None else count
    parts = _run_k_means(vectors[:, :groups], chance)
    items = facts.assign(cluster=parts)
    rows, means = [], []
    for part in range(parts.max() + 1):
        inside = parts == part
        mean = maps[inside].mean(0, dtype=np.float64) / 255
        means.append(mean)
        rows.append(_describe(part, inside, mean, maps, points, items))
    import pandas

    average = np.stack(means).astype(np.float32)
    table = pandas.DataFrame(rows)
    return Clusters(method, label, items, table, average, values, total, int((~warm).sum()))


def describe_clusters(grouping: Clusters) -> str:
    """Say in one line what was grouped, and into what."""
    examined = len(grouping.items) + grouping.blank
    of = "all" if grouping.label is None else grouping.label
    text = f"{of}: {grouping.method} of {examined:,} images"
    text += f" (sampled from {grouping.total:,})" if examined < grouping.total else ""
    text += f", {grouping.blank:,} without a map" if grouping.blank else ""
    many = len(grouping.table)
    groups = "one group: they are alike, or pass into each other" if many == 1 else f"{many} groups"
    values = ", ".join(f"{0 if value < ZERO else value:.2g}" for value in grouping.eigenvalues[1:5])
    return f"{text}: {groups} (eigenvalues 0, {values}, …)"


def compute_spectrum(
    points: np.ndarray, neighbours: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the neighbour graph's smallest Laplacian eigenvalues, and their vectors.

    L = I - D^(-1/2) A D^(-1/2), A[i, j] = 1 if i is among j's nearest or j among i's, D its sums.

    Args:
        points: (n, d).
        neighbours: How many nearest others each point is joined with.
        most: One more eigenvalue than these is computed, if there are enough points.

    Returns:
        (k,) in ascending order, and (n, k).
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import cdist

    distance = cdist(points, points)
    np.fill_diagonal(distance, np.inf)
    # Stable: among equally near ones the first, the same in each run.
    nearest_ones = np.argsort(distance, axis=1, kind="stable")[:, :neighbours]
    rows = np.repeat(np.arange(len(points)), nearest_ones.shape[1])
    weights = np.ones(len(rows))
    joined = csr_array((weights, (rows, nearest_ones.ravel())), shape=distance.shape)
    joined = joined.maximum(joined.T)
    # Each part has its own eigenvalue 0. Lanczos' method may miss some of several equal ones,
    # so it sees one part at a time.
    values, vectors = [], []
    parts, part_of = connected_components(joined, directed=False)
    for part in range(parts):
        inside = np.flatnonzero(part_of == part)
        smallest, directions = _solve_smallest(
            joined[inside][:, inside], min(most + 1, len(inside))
        )
        values.append(smallest)
        wide = np.zeros((len(points), len(smallest)))
        wide[inside] = directions
        vectors.append(wide)
    every = np.concatenate(values)
    order = np.argsort(every, kind="stable")[: most + 1]
    return every[order], np.concatenate(vectors, axis=1)[:, order]


def _solve_smallest(joined: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute a graph's smallest normalised Laplacian eigenvalues, and their vectors."""
    from scipy.linalg import eigh
    from scipy.sparse import eye_array
    from scipy.sparse.csgraph import laplacian
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    size = joined.shape[0]
    matrix = laplacian(joined, normed=True)
    if size > DENSE:
        # The largest of 2I - L are found without a factorisation; a fixed start, so the same bits.
        turned = 2 * eye_array(size) - matrix
        start = np.random.default_rng(0).normal(size=size)
        try:
            values, vectors = eigsh(turned, k=count, which="LA", v0=start, ncv=60)
            order = np.argsort(-values, kind="stable")
            return 2 - values[order], vectors[:, order]
        except ArpackNoConvergence:
            pass
    values, vectors = eigh(matrix.toarray(), subset_by_index=[0, count - 1])
    return values, vectors


def count_groups(values: np.ndarray) -> int:
    """Count the groups of a graph by its Laplacian's last wide gap.

    Args:
        values: Its smallest eigenvalues in ascending order.

    Returns:
        The largest k with λ[k + 1] > 5 λ[k], counted from 1, where there is one from 2 on, else 1.
    """
    above = np.maximum(values, ZERO)
    wide = np.flatnonzero(above[2:] > GAP * above[1:-1])
    return int(wide[-1]) + 2 if len(wide) else 1


def _run_k_means(vectors: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Cluster by the best of several starts, largest first; (n,)."""
    from scipy.cluster.vq import kmeans2

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = vectors / np.where(lengths == 0, 1, lengths)
    count = min(vectors.shape[1], len(np.unique(rows.round(8), axis=0)))
    best, parts = np.inf, np.zeros(len(rows), int)
    for _ in range(RESTARTS if count > 1 else 0):
        centres, assigned = kmeans2(rows, count, iter=50, minit="++", rng=chance)
        loss = float(((rows - centres[assigned]) ** 2).sum())
        if loss < best:
            best, parts = loss, assigned
    order = np.argsort(-np.bincount(parts), kind="stable")
    return np.asarray(np.argsort(order)[parts])


def _describe(
    part: int,
    inside: np.ndarray,
    mean: np.ndarray,
    maps: np.ndarray,
    points: np.ndarray,
    items: "pandas.DataFrame",
) -> dict[str, Any]:
    members = items[inside]
    apart = np.nan
    if not inside.all():
        others = maps[~inside].mean(0, dtype=np.float64)
        apart = float(np.abs(mean / mean.sum() - others / others.sum()).sum() / 2)
    row, column = np.unravel_index(mean.argmax(), mean.shape)
    from_middle = np.linalg.norm(points[inside] - points[inside].mean(0), axis=1)
    typical = members["item"].to_numpy()[np.argsort(from_middle, kind="stable")[:REPRESENTATIVES]]
    return {
        "cluster": part,
        "size": int(inside.sum()),
        "share": float(inside.mean()),
        "correct": float(members["correct"].astype(float).mean()),
        "confidence": float(members["confidence"].astype(float).mean()),
        "apart": apart,
        "row": (int(row) + 0.5) / len(mean),
        "column": (int(column) + 0.5) / len(mean),
        "representatives": typical.tolist(),
    }
