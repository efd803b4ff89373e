"""Record the speeds that the page Performance shows, every round of them.

``python -m benchmarks.speed`` measures what the page measures on request, with the bundled model
and a sample image: Grad-CAM beside plain inference and other packages, sizes of the batch, several
methods in one call, precisions. It writes ``benchmarks/results/speed-DEVICE.json`` and ``.md``.
"""

import os

import cam
from benchmarks.result_files import default_device, write_results
from cam._performance import speed
from cam._performance.recorded_speeds import encode
from cam._performance.timing import Estimate, machine, name_device, read_load

SAMPLE = "chelsea"
BATCHES = (1, 8)
SIZES = (1, 2, 4, 8, 16)
METHODS = ("gradcam", "layercam", "saliency")


def write_estimate(estimate: Estimate, form: str) -> str:
    """Write a median with its interval."""
    if not estimate.bounded:
        return format(estimate.median, form)
    return f"{estimate.median:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def _write_table(races: dict[int, speed.Race]) -> str:
    lines = [
        "| batch | contender | maps | images a second | of plain inference's |",
        "|--:|---|--:|--:|--:|",
    ]
    for size, race in races.items():
        plain = race.speeds[speed.INFERENCE]
        for contender in (race.speeds, race.every):
            lines += [
                f"| {size} | {name} | {timed.maps} "
                f"| {write_estimate(timed.images_per_second, '.3g')} "
                f"| {write_estimate(timed.relative_to(plain), '.0%')} |"
                for name, timed in contender.items()
            ]
    return "\n".join(lines)


def main() -> None:
    """Measure everything, and write it."""
    model = cam.load_model("efficientnet_lite0", device=default_device())
    image = model.prepare(cam.sample(SAMPLE))
    load = read_load()
    precisions = [
        # A CPU takes about ten times as long for it.
        name
        for name in ("tf32", "fp16", "bf16")
        if model.device.type == "cuda" or name == "bf16"
    ]
    races = {}
    for size in BATCHES:
        races[size] = speed.race(model, image.expand(size, -1, -1, -1).contiguous())
    sizes = speed.by_batch_size(model, image, SIZES)
    together = speed.together(model, image)
    rows = speed.by_precision(model, image, METHODS, precisions)
    facts = {
        "device": name_device(),
        "model": model.name,
        "image": SAMPLE,
        "load": None if load is None else [round(load, 1), os.cpu_count() or 1],
        "rounds": speed.ROUNDS,
    }
    busy = "" if load is None else f"; load {load:.1f} on {os.cpu_count()} cores when it began"
    text = (
        f"{machine()}; {model.name}, {speed.ROUNDS} rounds{busy}. Medians over rounds with 95 % "
        f"intervals; a ratio is taken within each round.\n\n{_write_table(races)}\n"
    )
    content = facts | encode(races, sizes, together, rows)
    write_results("speed", "python -m benchmarks.speed", content, text)
    print(text)


if __name__ == "__main__":
    main()
