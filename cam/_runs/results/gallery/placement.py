"""Place images with alike maps near each other on a plane."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cam._runs.results.gallery.clusters import compute_spectrum
from cam._runs.results.gallery.stored_maps import read_maps, require_side, scale_maps
from cam._runs.results.run_tables import RunTables
from cam.errors import RunError, require_known

if TYPE_CHECKING:
    import pandas

FEWEST = 3
SIDE = 14
LIMIT = 2000
PCA, SPECTRAL = "pca", "spectral"
WAYS = (PCA, SPECTRAL)


@dataclass(frozen=True, eq=False)
class Placement:
    """Where each image lies on a plane.

    Attributes:
        method: By whose maps.
        items: A DataFrame with a row an image: ``item``, ``id``, ``label``, ``predicted_label``,
            ``correct``, ``confidence``, ``x`` and ``y``.
        axes: What x and y are.
        total: Images that have a map; more than ``items`` has if they were sampled.
        blank: Left out, as their map is zero everywhere.
    """

    method: str
    items: "pandas.DataFrame"
    axes: tuple[str, str]
    total: int
    blank: int


def place_images(
    run: RunTables, method: str, way: str = PCA, *, limit: int = LIMIT, seed: int = 0
) -> Placement:
    """Place images near those whose maps are alike.

    Maps are made smaller (14 × 14) and scaled to length 1.

    Args:
        run: One that kept heatmaps.
        method: Whose maps.
        way: "pca": the two directions in which the maps vary most; "spectral": the second and
            third eigenvectors of the graph that joins each image with its nearest, as
            :meth:`cam.Run.clusters` takes it, which tells groups apart.
        limit: Of more images a sample is placed.
        seed: Of the sample.

    Raises:
        RunError: No such method, no heatmaps, or fewer than 3 maps.
        InputError: Another way.

    Source: Pearson, On lines and planes of closest fit, Philosophical Magazine 1901; Belkin and
    Niyogi, Laplacian eigenmaps, Neural Computation 2003.
    """
    require_known(way, WAYS, "way")
    stored = require_side(run, method)
    facts = run.query(
        "SELECT item, id, label, predicted_label, correct, confidence "
        "FROM maps JOIN items USING (item) WHERE method = ? ORDER BY item",
        [method],
    )
    total = len(facts)
    if total > limit:
        chance = np.random.default_rng(seed)
        facts = facts.iloc[np.sort(chance.choice(total, limit, replace=False))]
    maps = read_maps(run, method, facts["item"].tolist(), stored)
    warm = maps.any((1, 2))
    facts = facts[warm].reset_index(drop=True)
    if len(facts) < FEWEST:
        raise RunError(
            f"{len(facts)} maps of {method} are too few to be placed; at least {FEWEST} are needed"
        )
    points = scale_maps(maps[warm], min(SIDE, stored))
    reduce = project if way == PCA else spread
    positions, axes = reduce(points)
    return Placement(
        method, facts.assign(x=positions[:, 0], y=positions[:, 1]), axes, total, int((~warm).sum())
    )


def project(points: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Project points (n, d) on their two principal components; (n, 2), and what the axes are.

    Signs are such that the largest loading of each component is positive.
    """
    centred = points - points.mean(0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(right[np.arange(2), np.abs(right[:2]).argmax(1)])
    variance = float((sizes**2).sum())
    shares = sizes[:2] ** 2 / variance if variance > 0 else np.zeros(2)
    names = ("1st", "2nd")
    axes = [
        f"{name} principal component ({share:.0%} of the variance)"
        for name, share in zip(names, shares, strict=True)
    ]
    return left[:, :2] * sizes[:2] * signs, (axes[0], axes[1])


def spread(points: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Place points (n, d) by the eigenvectors of their neighbour graph; (n, 2), and the axes."""
    near = min(max(round(np.log(len(points))), 2), len(points) - 1)
    _, vectors = compute_spectrum(points, near, 2)
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    positions = (vectors * signs)[:, 1:3]
    return positions, ("2nd eigenvector of the graph", "3rd eigenvector of the graph")
