"""Predict a run's seconds from its first shard, and measure them.

``python -m benchmarks.cost_model [--images N]``: by passes (inputs through the network, counted on
the first shard, times what the plain network takes for an input) and by the first shard's own time.
It prints both beside what the run then took, and writes
``benchmarks/results/cost-model-DEVICE.json`` and ``.md`` with ``--write``.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import cam
from benchmarks.result_files import default_device, write_results
from cam._performance.timing import machine
from cam._runs.engines.estimate import estimate
from cam._runs.plan.run_plan import make_plan

METHODS = ("gradcam", "layercam", "saliency", "eigencam")
METRICS = ("deletion", "insertion", "road", "average_drop", "sparseness")
BATCH = 32


def plain_seconds(model: cam.Model, rounds: int = 5) -> tuple[float, float]:
    """Measure an input's seconds forward and back: medians of full batches."""
    batch = torch.randn(BATCH, 3, 224, 224, device=model.device)
    forwards, backwards = [], []

    def now() -> float:
        if batch.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(rounds + 1):
        start = now()
        with torch.no_grad():
            model.module(batch)
        forwards.append(now() - start)
        pixels = batch.clone().requires_grad_()
        scores = model.module(pixels).sum()
        start = now()
        torch.autograd.grad(scores, pixels)
        backwards.append(now() - start)
    return (
        statistics.median(forwards[1:]) / BATCH,
        statistics.median(backwards[1:]) / BATCH,
    )


def table(content: dict[str, Any]) -> str:
    """Write the figures as a table in Markdown."""
    rows = "\n".join(
        f"| {name} | {content[key]:.0f} s | {content[key] / content['measured']:.2f} |"
        for name, key in (
            ("predicted by counting passes", "by_passes"),
            ("predicted by its first shard", "by_first_shard"),
            ("measured", "measured"),
        )
    )
    return (
        f"{machine()}; {content['images']} images, {len(METHODS)} methods, {len(METRICS)} "
        f"metrics: {content['forwards']:.0f} forwards and {content['backwards']:.0f} backward an "
        f"image, {content['bytes_an_image'] / 1000:.0f} kB of results an image\n\n"
        f"| time of the run | seconds | of what was measured |\n|---|--:|--:|\n{rows}\n"
    )


def main() -> None:
    """Print the predicted and the measured seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    model = cam.load_model("efficientnet_lite0", device=default_device())
    data = cam.dataset("photo-grid", size=options.images)
    predicted = estimate(make_plan(model, data, METHODS, METRICS))
    forward, backward = plain_seconds(model)
    by_passes = options.images * (predicted.forwards * forward + predicted.backwards * backward)
    by_shard = options.images * predicted.seconds
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = cam.evaluate(model, data, METHODS, METRICS, out=Path(folder) / "run")
        measured = time.perf_counter() - start
        rows = run.total * len(run.methods) * len(run.metrics)
        stored = sum(path.stat().st_size for path in run.path.rglob("*.parquet"))
    print(f"{predicted.forwards:.1f} forwards and {predicted.backwards:.1f} backwards an image")
    print(f"by passes      {by_passes:8.1f} s   predicted / measured {by_passes / measured:.2f}")
    print(f"by first shard {by_shard:8.1f} s   predicted / measured {by_shard / measured:.2f}")
    print(
        f"measured       {measured:8.1f} s   {rows} scores, {stored / run.total / 1000:.1f} kB each"
    )
    if options.write:
        content = {
            "images": options.images,
            "forwards": predicted.forwards,
            "backwards": predicted.backwards,
            "by_passes": by_passes,
            "by_first_shard": by_shard,
            "measured": measured,
            "bytes_an_image": stored / run.total,
        }
        command = "python -m benchmarks.cost_model --write"
        write_results("cost-model", command, content, table(content))


if __name__ == "__main__":
    main()
