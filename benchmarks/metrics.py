"""What metrics cost beyond the model's own forwards: deletion, insertion and ROAD.

``python -m benchmarks.metrics [--images N] [--method NAME …]`` runs the three for the maps of four
methods on the bundled model, times what happens inside the model's forward, and prints both, and
the share of the rest. At the full size it writes ``benchmarks/results/metrics-DEVICE.md`` and
``.json``.
"""

import argparse
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import cam
from cam._performance.timing import machine, origin

RESULTS = Path(__file__).parent / "results"
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


class Inside:
    """Counts the seconds inside a module's forward."""

    def __init__(self, module: torch.nn.Module, on_gpu: bool) -> None:
        self.seconds = self._started = 0.0
        self._on_gpu = on_gpu
        module.register_forward_pre_hook(self._before)
        module.register_forward_hook(self._after)

    def now(self) -> float:
        """The time, when what was asked of a GPU is done."""
        if self._on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _before(self, *_: object) -> None:
        self._started = self.now()

    def _after(self, *_: object) -> None:
        self.seconds += self.now() - self._started

    def share(self, name: str, work: Callable[[], object]) -> Share:
        """What a piece of work takes inside and beyond."""
        self.seconds, start = 0.0, self.now()
        work()
        whole = self.now() - start
        return Share(name, self.seconds, whole - self.seconds)


def measured(images: int, methods: list[str], batch_size: int, device: str) -> list[Share]:
    """A share for each metric over all methods' maps, and one for all metrics."""
    model = cam.load_model("efficientnet_lite0", device=device)
    photos = [cam.sample(name) for name in cam.samples()]
    batch = model.prepare([photos[index % len(photos)] for index in range(images)])
    found = cam.attribute(model, batch, methods)
    heatmaps = [one.heatmap for one in found.values()]
    targets = next(iter(found.values())).targets
    inside = Inside(model.module, batch.is_cuda)

    def run(name: str, maps: list[Tensor], part: slice = slice(None)) -> None:
        for heatmap in maps:
            cam.metric(name)(
                model, batch[part], heatmap[part], targets[part], batch_size=batch_size
            )

    shares = []
    for name in METRICS:
        run(name, heatmaps[:1], slice(2))  # warm
        shares.append(inside.share(name, partial(run, name, heatmaps)))
        print(shares[-1].line, flush=True)
    whole = Share("together", sum(one.model for one in shares), sum(one.beyond for one in shares))
    print(whole.line, flush=True)
    return [*shares, whole]


def main() -> None:
    """Print one line a metric, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--method", dest="methods", action="append")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    methods = options.methods or list(METHODS)
    shares = measured(options.images, methods, options.batch_size, device)
    if (options.images, tuple(methods)) != (IMAGES, METHODS):
        return
    told = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    stem = "metrics-" + re.sub(r"[^a-z0-9]+", "-", told.lower()).strip("-")
    verdict = "met" if shares[-1].beyond <= GOAL * shares[-1].model else "missed"
    size = f"{options.images} images, {len(methods)} methods: {', '.join(methods)}"
    head = "| metric | in the model | beyond it | share |\n|---|--:|--:|--:|\n"
    rows = "\n".join(one.line for one in shares)
    (RESULTS / f"{stem}.md").write_text(
        f"{machine()}; {size}\n\n{head}{rows}\n\nGoal: at most {GOAL:.0%} beyond: {verdict}.\n"
    )
    content = origin("python -m benchmarks.metrics") | {
        "size": size,
        "shares": [asdict(one) for one in shares],
    }
    (RESULTS / f"{stem}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
