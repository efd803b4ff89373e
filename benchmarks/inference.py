"""Time passes without gradients, by torch and accelerated.

``python -m benchmarks.inference`` times forwards of three sizes of batches, a perturbation method
and three metrics on four photos, in turns, with the bundled model and a ResNet-50 with random
weights, and prints medians with what is left of torch's time.
"""

import sys
from collections.abc import Callable

import torch

import cam
from cam._engine.forward import run_model
from cam._engine.precision import allow_any_layout
from cam._performance.timing import interleaved, machine, read_load

SIZES = (1, 8, 32)
ROUNDS = 6
METRICS = ("deletion", "insertion", "road")
MODELS = {"efficientnet_lite0": "DEFAULT", "torchvision/resnet50": None}


def list_work(model: cam.Model) -> dict[str, Callable[[], object]]:
    """List what is timed."""
    photos = model.prepare([cam.sample(name) for name in cam.samples()])
    maps = cam.attribute(model, photos, "gradcam")["gradcam"]
    classes = model.predict(photos).argmax(1)

    def forward(size: int) -> object:
        with torch.no_grad(), allow_any_layout():
            return run_model(model.module, photos[torch.arange(size) % len(photos)])

    def measure() -> object:
        return [cam.metric(name)(model, photos, maps, classes) for name in METRICS]

    work: dict[str, Callable[[], object]] = {
        f"forward, {size} images": lambda size=size: forward(size)  # type: ignore[misc]
        for size in SIZES
    }
    work["occlusion, 1 image"] = lambda: cam.attribute(model, photos[:1], "occlusion")
    work[f"{', '.join(METRICS)}, 4 images"] = measure
    return work


def main() -> None:
    """Measure, and print a table."""
    cam.keep_memory()
    sys.stdout.write(f"{machine()}; load {read_load()}\n\n")
    for name, weights in MODELS.items():
        plain = cam.load_model(name, weights, "cpu")
        fast = plain.twin()
        result = cam.accelerate(fast, "onnxruntime")
        sys.stdout.write(f"{name}: {result.engine}, logits within {result.deviation:.1e}\n")
        for what, run in list_work(plain).items():
            timings = interleaved({"torch": run, "fast": list_work(fast)[what]}, ROUNDS, 1)
            share = timings["fast"].over(timings["torch"])
            sys.stdout.write(
                f"  {what}: {1000 * timings['torch'].median:.0f} → "
                f"{1000 * timings['fast'].median:.0f} ms, {share.median:.2f} "
                f"({share.low:.2f} to {share.high:.2f}) of torch's time\n"
            )


if __name__ == "__main__":
    main()
