"""Explain many networks at their default layer, and judge that layer independently.

``python -m benchmarks.coverage`` builds classifiers, detectors, segmenters and image-text networks
of torchvision, timm, Hugging Face, segmentation_models_pytorch and open_clip, with random weights,
and asks for Grad-CAM, LayerCAM, a saliency map and RISE of two photos at the layer that is chosen
automatically, which takes an hour or two. Each row of ``benchmarks/results/coverage.md`` says
*sound*, *refused* (with candidates) or *wrong*, as :mod:`benchmarks.coverage.verdict` judges it.
``--only TEXT`` tries those whose name holds the text, and writes nothing. ``--rows FILE`` keeps
each row as it comes, so that the next call goes on behind the last.
"""

import argparse
import gc
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import cam
from benchmarks.coverage.networks import Subject, count_parameters, subjects
from benchmarks.coverage.verdict import awaken, judge, names_candidates, question
from benchmarks.result_files import RESULTS
from cam._performance.timing import machine, origin

METHODS = (
    *(cam.method(name) for name in ("gradcam", "layercam", "saliency")),
    cam.method("rise", masks=4),
)
# Of the networks that take pictures: (classifiers, all others).
GOALS = (0.95, 0.8)
NOT_COUNTED = ("takes no pictures", "not installed")


@dataclass(frozen=True)
class Row:
    """One network: where it was explained, and whether that lies on the picture."""

    network: str
    kind: str
    millions: float
    size: tuple[int, int]
    layer: str
    grid: tuple[int, int]
    seconds: float
    verdict: str
    reason: str

    @property
    def line(self) -> str:
        """A row of the table in Markdown."""
        return (
            f"| {self.network} | {self.kind} | {self.millions:.1f} | "
            f"{self.size[0]} × {self.size[1]} | {self.layer} | {self.grid[0]} × {self.grid[1]} | "
            f"{self.verdict}{': ' if self.reason else ''}{self.reason} |"
        )


def try_network(subject: Subject) -> Row:
    """Explain two photos with one network, and judge the layer."""
    if not subject.installed:
        return Row(subject.name, subject.kind, 0, (0, 0), "", (0, 0), 0, "not installed", "")
    torch.manual_seed(0)
    model = subject.build()
    module = model.module if isinstance(model, cam.Model) else model
    batch = _photos(model)
    start = time.perf_counter()
    layer, grid, verdict, reason = "", (0, 0), "wrong", ""
    try:
        awaken(module, batch)
        with torch.no_grad():
            module(batch)
    except Exception as error:  # noqa: BLE001 - whatever a network of video says of a picture
        verdict, reason = "takes no pictures", (str(error).strip().splitlines() or [""])[0]
    else:
        try:
            maps = cam.attribute(model, batch, METHODS, question, batch_size=4)
            _, height, width = maps["gradcam"].raw.shape
            layer, grid = maps["gradcam"].layers[0], (height, width)
            reason = "; ".join(
                f"{key}: {fault}" for key, result in maps.items() if (fault := find_fault(result))
            ) or judge(model, batch, layer, half=subject.reads_late)
            verdict = "wrong" if reason else "sound"
        except cam.CamError as error:
            verdict = "refused" if names_candidates(module, error) else "wrong"
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a fault of the library is a row too
            reason = f"{type(error).__name__}: {error}"
    return Row(
        subject.name,
        subject.kind,
        count_parameters(module) / 1e6,
        (batch.shape[2], batch.shape[3]),
        layer,
        grid,
        time.perf_counter() - start,
        verdict,
        reason.replace("|", "/")[:300],
    )


def _photos(model: cam.Model | nn.Module) -> Tensor:
    """Prepare two photos, in the size that the network takes."""
    photos = [cam.sample("chelsea"), cam.sample("coffee")]
    if isinstance(model, cam.Model):
        return model.prepare(photos)
    size = getattr(getattr(model, "config", None), "image_size", None) or 224
    side = size[0] if isinstance(size, Sequence) else size
    # Perceiver takes small ones, and TextNet any size.
    batch = cam.Model(nn.Identity()).prepare(photos)
    side = int(side) if int(side) < 600 else 224
    return nn.functional.interpolate(batch, (side, side), mode="bilinear", antialias=True)


def find_fault(result: cam.Attribution) -> str:
    """Say why a result is no map; an empty text where it is one."""
    if not result.heatmap.isfinite().all():
        return "not finite"
    # Before ReLU: of an untrained network a map may well speak against the class everywhere.
    return "the same everywhere" if (result.raw.flatten(1).std(1) == 0).any() else ""


def summarise(rows: Sequence[Row]) -> str:
    """Say in three lines how many are sound, and whether the goals are met."""
    lines = []
    counted = [row for row in rows if row.verdict not in NOT_COUNTED]
    for words, goal, kinds in (("classifiers", GOALS[0], True), ("others", GOALS[1], False)):
        group = [row for row in counted if (row.kind == "classifier") == kinds]
        sound = sum(row.verdict == "sound" for row in group)
        share = sound / len(group) if group else 1.0
        met = "met" if share >= goal else "missed"
        lines.append(f"{words}: {sound} of {len(group)} sound, {share:.1%}; goal {goal:.0%}: {met}")
    wrong = sum(row.verdict == "wrong" for row in counted)
    refused = sum(row.verdict == "refused" for row in counted)
    left = len(rows) - len(counted)
    lines.append(
        f"wrong: {wrong}; goal none: {'missed' if wrong else 'met'}; refused with candidates: "
        f"{refused}; not counted: {left}"
    )
    return "\n".join(lines)


def main() -> None:
    """Try them all, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--rows", type=Path)
    options = parser.parse_args()
    only, file = options.only, options.rows
    lines_before = file.read_text().splitlines() if file and file.exists() else []
    rows_before = {row.network: row for row in (Row(**json.loads(line)) for line in lines_before)}
    rows = []
    for subject in subjects():
        if only not in subject.name:
            continue
        if subject.name in rows_before:
            rows.append(rows_before[subject.name])
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows.append(try_network(subject))
        if file:
            with file.open("a") as lines:
                lines.write(json.dumps(asdict(rows[-1])) + "\n")
        print(f"{len(rows)} {rows[-1].seconds:5.1f} s {rows[-1].line}", flush=True)
        gc.collect()
    summary = summarise(rows)
    print(summary)
    if only:
        return
    content = origin("python -m benchmarks.coverage") | {"networks": [asdict(row) for row in rows]}
    (RESULTS / "coverage.json").write_text(json.dumps(content, indent=1) + "\n")
    head = (
        "| network | kind | million parameters | picture | layer | grid | verdict |\n"
        "|---|---|--:|---|---|---|---|\n"
    )
    table = head + "\n".join(row.line for row in rows)
    paragraphs = summary.replace("\n", "\n\n")
    (RESULTS / "coverage.md").write_text(f"{paragraphs}\n\n({machine()})\n\n{table}\n")


if __name__ == "__main__":
    main()
