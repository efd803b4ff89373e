"""Measure the cost of metrics beyond the model's forwards: deletion, insertion, ROAD.

``python -m benchmarks.metrics [--images N] [--method NAME …]`` runs the three for the maps of four
methods on the bundled model, times what happens inside the model's forward, and prints both, and
the share of the rest. At the full size it writes ``benchmarks/results/metrics-DEVICE.md`` and
``.json``.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

import cam
from benchmarks.result_files import default_device, write_results
from cam._performance.timing import machine

METRICS = ("deletion", "insertion", "road")
METHODS = ("gradcam", "layercam", "saliency", "eigencam")
IMAGES = 64
GOAL = 0.10


@dataclass(frozen=True)
class Share:
    """Seconds inside the model's forward, and beyond it."""

    metric: str
    model: float
    beyond: float

    @property
    def line(self) -> str:
        """A row of the table in Markdown."""
        return (
            f"| {self.metric} | {self.model:.2f} s | {self.beyond:.2f} s | "
            f"{self.beyond / self.model:.1%} |"
        )


class ForwardClock:
    """Counts the seconds inside a module's forward."""

    def __init__(self, module: torch.nn.Module, on_gpu: bool) -> None:
        self.seconds = self._started = 0.0
        self._on_gpu = on_gpu
        module.register_forward_pre_hook(self._before)
        module.register_forward_hook(self._after)

    def now(self) -> float:
        """Read the clock once the GPU has finished its work."""
        if self._on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _before(self, *_: object) -> None:
        self._started = self.now()

    def _after(self, *_: object) -> None:
        self.seconds += self.now() - self._started

    def share(self, name: str, work: Callable[[], object]) -> Share:
        """Measure the seconds of a piece of work inside and beyond."""
        self.seconds, start = 0.0, self.now()
        work()
        whole = self.now() - start
        return Share(name, self.seconds, whole - self.seconds)


def measure_shares(images: int, methods: list[str], batch_size: int, device: str) -> list[Share]:
    """Return a share for each metric over all methods' maps, and the sum."""
    model = cam.load_model("efficientnet_lite0", device=device)
    photos = [cam.sample(name) for name in cam.samples()]
    batch = model.prepare([photos[index % len(photos)] for index in range(images)])
    attributions = list(cam.attribute(model, batch, methods).values())
    heatmaps = [attribution.heatmap for attribution in attributions]
    targets = attributions[0].targets
    clock = ForwardClock(model.module, batch.is_cuda)

    def run(name: str, maps: list[Tensor], part: slice = slice(None)) -> None:
        for heatmap in maps:
            cam.metric(name)(
                model, batch[part], heatmap[part], targets[part], batch_size=batch_size
            )

    shares = []
    for name in METRICS:
        run(name, heatmaps[:1], slice(2))  # warm
        shares.append(clock.share(name, partial(run, name, heatmaps)))
        print(shares[-1].line, flush=True)
    whole = Share("together", sum(s.model for s in shares), sum(s.beyond for s in shares))
    print(whole.line, flush=True)
    return [*shares, whole]


def main() -> None:
    """Print one line a metric, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--method", dest="methods", action="append")
    options = parser.parse_args()
    methods = options.methods or list(METHODS)
    shares = measure_shares(options.images, methods, options.batch_size, default_device())
    if (options.images, tuple(methods)) != (IMAGES, METHODS):
        return
    verdict = "met" if shares[-1].beyond <= GOAL * shares[-1].model else "missed"
    size = f"{options.images} images, {len(methods)} methods: {', '.join(methods)}"
    head = "| metric | in the model | beyond it | share |\n|---|--:|--:|--:|\n"
    rows = "\n".join(share.line for share in shares)
    write_results(
        "metrics",
        "python -m benchmarks.metrics",
        {"size": size, "shares": [asdict(share) for share in shares]},
        f"{machine()}; {size}\n\n{head}{rows}\n\nGoal: at most {GOAL:.0%} beyond: {verdict}.\n",
    )


if __name__ == "__main__":
    main()
