"""What metrics cost beyond the model's own forwards: deletion, insertion and ROAD.

``python -m benchmarks.metrics [--images N]`` runs the three for maps of Grad-CAM on the bundled
model, times what happens inside the model's forward, and prints both, and the share of the rest.
"""

import argparse
import time

import torch

import cam

NAMES = ("deletion", "insertion", "road")


def main() -> None:
    """Print one line a metric, and one for all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    model = cam.load_model("efficientnet_lite0")
    if torch.cuda.is_available():
        model.to("cuda")
    photos = [cam.sample(name) for name in cam.samples()]
    batch = model.prepare([photos[index % len(photos)] for index in range(options.images)])
    heatmap = cam.attribute(model, batch, "gradcam")["gradcam"].heatmap
    inside, started = 0.0, 0.0

    def now() -> float:
        if batch.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def before(*_: object) -> None:
        nonlocal started
        started = now()

    def after(*_: object) -> None:
        nonlocal inside
        inside += now() - started

    model.module.register_forward_pre_hook(before)
    model.module.register_forward_hook(after)
    cam.metric("deletion", steps=1)(model, batch, heatmap)  # warm
    all_inside = all_beyond = 0.0
    for name in NAMES:
        inside, start = 0.0, now()
        cam.metric(name)(model, batch, heatmap, batch_size=options.batch_size)
        beyond = now() - start - inside
        all_inside, all_beyond = all_inside + inside, all_beyond + beyond
        print(
            f"{name:10} model {inside:7.2f} s   beyond it {beyond:6.2f} s   {beyond / inside:6.1%}"
        )
    print(
        f"{'together':10} model {all_inside:7.2f} s   beyond it {all_beyond:6.2f} s   "
        f"{all_beyond / all_inside:6.1%}   ({options.images} images, {batch.device})"
    )


if __name__ == "__main__":
    main()
