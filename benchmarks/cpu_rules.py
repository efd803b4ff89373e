"""Compare the rules on a CPU with plain torch, in turns.

``python -m benchmarks.cpu_rules [--write]`` prints for each layer the milliseconds of
`kernels.fused_cam` and of `kernels.inspection.traffic.plain_maps`, one rule at a time and all six
together, and their ratio: medians of calls that take turns in one process.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.result_files import write_results
from cam import kernels
from cam._performance.timing import machine
from cam.kernels.inspection.examples import LAYOUTS
from cam.kernels.inspection.traffic import plain_maps

LAYERS = ((2048, 7, 7), (1280, 7, 7), (1024, 14, 14), (64, 112, 112))
BATCHES = (1, 4, 16)
CASES = {**{rule: (rule,) for rule in kernels.RULES}, "all six": kernels.RULES}
SECONDS = 0.3  # of each case
LEAST_ROUNDS = 7


def medians(*calls: Callable[[], Tensor]) -> list[float]:
    """Measure calls in turns; the median of each, in milliseconds."""
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + SECONDS
    while len(times[0]) <= LEAST_ROUNDS or time.perf_counter() < end:
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(taken[1:]) for taken in times]


def measure(shape: Sequence[int], layout: str, rules: Sequence[str]) -> dict[str, float]:
    """Measure both ways on one layer, float32."""
    a, g = (torch.randn(*shape).to(memory_format=LAYOUTS[layout]) for _ in range(2))
    fused, plain = medians(lambda: kernels.fused_cam(a, g, rules), lambda: plain_maps(a, g, rules))
    return {"fused": fused, "plain": plain, "ratio": fused / plain}


def table(rows: Sequence[dict[str, Any]], threads: int) -> str:
    """Write the ratios as a table in Markdown."""
    lines = [
        f"{machine()}; {threads} threads; milliseconds of `kernels.fused_cam` / plain torch\n",
        f"| layer | layout | {' | '.join(CASES)} |",
        f"| --- | --- |{' --: |' * len(CASES)}",
    ]
    for row in rows:
        cells = (f"{case['fused']:.2f} / {case['plain']:.2f}" for case in row["cases"].values())
        lines.append(f"| {row['layer']} | {row['layout']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table; with ``--write`` also into ``results``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [
        {
            "layer": "×".join(map(str, (batch, *layer))),
            "layout": layout,
            "cases": {name: measure((batch, *layer), layout, CASES[name]) for name in CASES},
        }
        for layer in LAYERS
        for batch in BATCHES
        for layout in LAYOUTS
    ]
    text = table(rows, options.threads)
    print(text, end="")
    if options.write:
        command = f"python -m benchmarks.cpu_rules --threads {options.threads} --write"
        write_results("cpu-rules", command, {"rows": rows}, text)


if __name__ == "__main__":
    main()
