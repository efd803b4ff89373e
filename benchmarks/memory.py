"""Measure Score-CAM's memory above the model's, each time in a new process.

``python -m benchmarks.memory NETWORK WHOSE`` prints the peak of one picture; on a CPU that of the
process less what it held before, on a GPU what the allocator counted.
"""

import re
import statistics
import subprocess
import sys
from pathlib import Path

import torch

import cam

PROCESSES = 5


def peak_megabytes(network: str, whose: str) -> float:
    """The median of several new processes, which no earlier work has grown.

    How many freed pages the C library keeps differs between processes: the same call took from 66
    to 234 MB.
    """

    def measure() -> float:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", network, whose],
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout.split()[-1])

    return statistics.median(measure() for _ in range(PROCESSES))


def _start() -> float:
    """Return the memory in use, and count the peak anew from here."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e6
    # A new process may count its parent's peak as its own, so Linux has to forget it.
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    line = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line is not None
    return int(line[1]) * 1024 / 1e6


def main() -> None:
    """Warm up with a batch of the size that is used, then measure what is taken beyond it."""
    network, whose = sys.argv[1:3]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    module = cam.load_model(network, weights=None, device=device).module
    batch = torch.randn(1, 3, 224, 224, device=device)
    with torch.no_grad():
        module(batch)
    if whose == "grad-cam":
        from pytorch_grad_cam import ScoreCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        before = _start()
        with ScoreCAM(module, [module.layer4]) as explainer:
            explainer(batch, [ClassifierOutputTarget(0)])
    else:
        # A small one first: what is imported on the way is not the method's.
        cam.attribute(module, batch[:, :, :64, :64], "eigencam", 0, "layer4")
        before = _start()
        cam.attribute(module, batch, "scorecam", 0, "layer4")
    print(_peak() - before)


if __name__ == "__main__":
    main()
