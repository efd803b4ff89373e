"""Compare ROAD's multigrid solver with SciPy's sparse solvers.

``python -m benchmarks.road_solver [--images N] [--rounds N] [--shares S …]`` fills in the pixels
that ROAD removes from photos at its default fractions, in both orders, for a smooth and a scattered
heatmap. All solvers run in this process, in turns, with one thread and with two; SciPy's take the
images of a batch in parallel. Times are medians over the rounds, building of the system included.
Errors are the largest ones of a pixel, as a share of the image's largest absolute value, against
the direct solution in float64; conjugate gradients stop at the loosest tolerance of a ladder whose
error is not above ROAD's.

Set ``OPENBLAS_NUM_THREADS=1``, or SciPy's threads compete with those of its BLAS. On a machine that
other programs use, also set ``OMP_WAIT_POLICY=PASSIVE``: torch's threads otherwise wait for each
other in a loop, on processors that the others need, and its small operations take up to 60 times
as long.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.sparse import linalg
from torch import Tensor
from torch.nn import functional

import cam
from cam._metrics.base.map_ranking import ranks
from cam._metrics.faithfulness.imputation import Imputer
from cam._metrics.faithfulness.road import SHARES

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
THREADS = (1, 2)
TOLERANCE = 1e-3
PHOTOS = ("chelsea", "coffee", "rocket", "motorcycle_left")
LADDER = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)


@dataclass(frozen=True)
class Row:
    """Medians of the solvers, ROAD's first, in milliseconds an image, and the largest errors."""

    milliseconds: list[float]
    error: float = 0.0
    scipy_error: float = 0.0

    @property
    def line(self) -> str:
        """The cells of a row of the table."""
        ours, *others = self.milliseconds
        cells = " | ".join(f"{other:.1f} ({other / ours:.1f}×)" for other in others)
        return f"{ours:.1f} | {cells} | {self.error:.1e} | {self.scipy_error:.1e} |"


def build_system(image: Array, removed: Mask) -> tuple[sparse.csc_matrix, Array]:
    """Build the sparse matrix and the right side of an image's removed pixels.

    Returns:
        (K, K) and (K, C).
    """
    height, width = removed.shape
    count = int(removed.sum())
    number = np.full((height + 2, width + 2), -2)  # beyond the picture
    number[1:-1, 1:-1] = np.where(removed, np.cumsum(removed).reshape(removed.shape) - 1, -1)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    y, x = np.nonzero(removed)
    rows = np.arange(count)
    diagonal, right = np.zeros(count), np.zeros((count, len(image)))
    entries = []
    for down in (-1, 0, 1):
        for along in (-1, 0, 1):
            if down == along == 0:
                continue
            weight = 1 / 6 if 0 in (down, along) else 1 / 12
            neighbour = number[y + 1 + down, x + 1 + along]
            diagonal += weight * (neighbour > -2)
            at_edge = neighbour == -1
            right[at_edge] += weight * padded[:, y[at_edge] + 1 + down, x[at_edge] + 1 + along].T
            unknown = neighbour >= 0
            entries.append((rows[unknown], neighbour[unknown], np.full(unknown.sum(), -weight)))
    entries.append((rows, rows, diagonal))
    i, j, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return sparse.csc_matrix((values, (i, j)), shape=(count, count)), right


def solve_directly(image: Array, removed: Mask) -> Array:
    """Fill an image in with ``spsolve``, as the authors' program does."""
    filled = image.copy()
    filled[:, removed] = linalg.spsolve(*build_system(image, removed)).T
    return filled


def solve_factorised(image: Array, removed: Mask) -> Array:
    """Fill an image in with ``splu``, ordered for a symmetric matrix."""
    matrix, right = build_system(image, removed)
    factors = linalg.splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True}
    )
    filled = image.copy()
    filled[:, removed] = factors.solve(right).T
    return filled


def solve_iteratively(tolerance: float, image: Array, removed: Mask) -> Array:
    """Fill an image in with ``cg``, from the mean of what is known."""
    matrix, right = build_system(image, removed)
    rows = matrix.tocsr()
    filled = image.copy()
    for channel, column in enumerate(right.T):
        start = np.full(len(column), image[channel][~removed].mean())
        filled[channel, removed] = linalg.cg(rows, column, start, rtol=tolerance)[0]
    return filled


def fill_batch(
    solve: Callable[[Array, Mask], Array],
    images: Tensor,
    removed: Tensor,
    threads: int,
) -> Tensor:
    """Fill in a batch image by image, as many at once as there are threads."""
    with ThreadPoolExecutor(threads) as pool:
        filled = pool.map(solve, images.double().numpy(), removed.numpy())
        return torch.from_numpy(np.stack(list(filled)))


def largest_error(filled: Tensor, exact: Tensor, images: Tensor) -> float:
    """Return the largest error of a pixel, as a share of its image's largest value."""
    difference = (filled.double() - exact).abs().flatten(1).amax(1)
    return float((difference / images.abs().flatten(1).amax(1)).max())


def heatmaps(kind: str, images: Tensor) -> Tensor:
    """Make heatmaps that are smooth, as CAMs are, or scattered, as gradients are."""
    draws = torch.Generator().manual_seed(0)
    side = 7 if kind == "smooth" else images.shape[-1]
    maps = torch.rand(len(images), 1, side, side, generator=draws)
    return functional.interpolate(maps, images.shape[-2:], mode="bicubic")[:, 0]


def compare(images: Tensor, removed: Tensor, rounds: int) -> dict[int, Row]:
    """Time all solvers in turns, and return for each number of threads what came of it."""
    exact = fill_batch(solve_factorised, images, removed, 2)
    impute = Imputer(images.shape[1:], images.dtype, images.device)  # kept, as in a run
    error = largest_error(impute(images, removed, TOLERANCE), exact, images)
    for tolerance in LADDER:
        iterative = partial(solve_iteratively, tolerance)
        scipy_error = largest_error(fill_batch(iterative, images, removed, 2), exact, images)
        if scipy_error <= max(error, TOLERANCE):
            break
    rows = {}
    for threads in THREADS:
        torch.set_num_threads(threads)
        solvers: list[Callable[[], Tensor]] = [
            partial(impute, images, removed, TOLERANCE),
            *(
                partial(fill_batch, solve, images, removed, threads)
                for solve in (solve_directly, solve_factorised, iterative)
            ),
        ]
        seconds: list[list[float]] = [[] for _ in solvers]
        for _ in range(rounds):
            for solver, times in zip(solvers, seconds, strict=True):
                start = time.perf_counter()
                solver()
                times.append(time.perf_counter() - start)
        milliseconds = [1e3 * statistics.median(times) / len(images) for times in seconds]
        rows[threads] = Row(milliseconds, error, scipy_error)
    return rows


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4, help="images of a batch (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES, help="removed")
    arguments = parser.parse_args()
    model = cam.load_model("efficientnet_lite0")
    photos = model.prepare([f"sample:{name}" for name in PHOTOS])
    images = photos[torch.arange(arguments.images) % len(photos)]
    print(f"Milliseconds an image of {images.shape[-1]} × {images.shape[-2]}, three channels\n")
    print(
        "| heatmap, order | removed | threads | ROAD's multigrid | spsolve | splu, symmetric | cg "
        "| error of multigrid | error of cg |\n|---|---|---|---|---|---|---|---|---|"
    )
    for kind in ("smooth", "scattered"):
        order = ranks(heatmaps(kind, images))
        pixels = order[0].numel()
        sums = {threads: torch.zeros(4) for threads in THREADS}
        for share in arguments.shares:
            count = round(share * pixels)
            for name, removed in (("MoRF", order < count), ("LeRF", order >= pixels - count)):
                for threads, row in compare(images, removed, arguments.rounds).items():
                    print(f"| {kind}, {name} | {share:.0%} | {threads} | {row.line}", flush=True)
                    sums[threads] += torch.tensor(row.milliseconds)
        for threads, total in sums.items():
            print(f"| {kind}, both | in all | {threads} | {Row(total.tolist()).line}", flush=True)


if __name__ == "__main__":
    main()
