"""Try to explain every classifier of torchvision and each family of timm.

``python -m benchmarks.coverage`` gives each network random weights (whether its layers can be read
does not depend on them) and two sample photos, and asks for Grad-CAM, LayerCAM, a saliency map and
RISE at the layers that are chosen automatically. It writes ``benchmarks/results/coverage.json`` and
``coverage.md``; each network that does not give four finite maps that differ between places is
named there with the reason. ``--only TEXT`` tries those whose name holds the text, and writes
nothing.
"""

import argparse
import gc
import json
import time
import warnings
from dataclasses import asdict, dataclass

import torch
from torch import nn

import cam
from benchmarks.result_files import RESULTS
from cam._performance.timing import machine, origin

METHODS = (
    *(cam.method(name) for name in ("gradcam", "layercam", "saliency")),
    cam.method("rise", masks=4),
)
GOAL = 0.98


@dataclass(frozen=True)
class Row:
    """One network: where it was explained, and what was wrong, if anything."""

    model: str
    millions: float
    size: tuple[int, int]
    layer: str
    grid: tuple[int, int]
    seconds: float
    problem: str

    @property
    def line(self) -> str:
        """A row of the table in Markdown."""
        return (
            f"| {self.model} | {self.millions:.1f} | {self.size[0]} × {self.size[1]} | "
            f"{self.layer} | {self.grid[0]} × {self.grid[1]} | {self.problem or 'yes'} |"
        )


def timm_names() -> list[str]:
    """The smallest network with a classifier of each family, by its parameters."""
    import timm

    names = []
    for family in timm.list_modules():
        sizes = []
        for name in timm.list_models(module=family):
            with torch.device("meta"):
                module = timm.create_model(name)
            if getattr(module, "num_classes", 0):
                sizes.append((count_parameters(module), name))
        if sizes:
            names.append(f"timm/{min(sizes)[1]}")
    return names


def torchvision_names() -> list[str]:
    """Every classifier that torchvision builds."""
    import torchvision

    return [
        f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)
    ]


def count_parameters(module: nn.Module) -> int:
    """Count the numbers that are learned."""
    return sum(weights.numel() for weights in module.parameters())


def fill_zero_weights(module: nn.Module) -> None:
    """Give weights that start at zero, as in some classifiers, other values."""
    for child in module.modules():
        weight = getattr(child, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.any():
            continue
        if isinstance(child, nn.Linear | nn.Conv2d):
            nn.init.normal_(weight, std=0.02)
        else:
            nn.init.ones_(weight)


def explain_network(name: str) -> Row:
    """Explain two photos with one network."""
    torch.manual_seed(0)
    model = cam.load_model(name, weights=None)
    fill_zero_weights(model.module)
    batch = model.prepare([cam.sample("chelsea"), cam.sample("coffee")])
    start = time.perf_counter()
    layer, grid, problem = "", (0, 0), ""
    try:
        maps = cam.attribute(model, batch, METHODS, batch_size=4)
        _, height, width = maps["gradcam"].raw.shape
        layer, grid = maps["gradcam"].layers[0], (height, width)
        problem = "; ".join(
            f"{key}: {fault}" for key, result in maps.items() if (fault := find_fault(result))
        )
        if problem and not cam.anatomy(model, batch).activations.flatten(2).std(2).any():
            problem += "; the layer's features are, too: of random weights they fade on the way"
    except cam.CamError as error:
        problem = str(error)
    return Row(
        name,
        count_parameters(model.module) / 1e6,
        (batch.shape[2], batch.shape[3]),
        layer,
        grid,
        time.perf_counter() - start,
        problem,
    )


def find_fault(result: cam.Attribution) -> str:
    """Say why a result is no map; an empty text where it is one."""
    if not result.heatmap.isfinite().all():
        return "not finite"
    # Before ReLU: of an untrained network a map may well speak against the class everywhere.
    return "the same everywhere" if (result.raw.flatten(1).std(1) == 0).any() else ""


def main() -> None:
    """Try them all, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    only = parser.parse_args().only
    names = [name for name in [*torchvision_names(), *timm_names()] if only in name]
    rows = []
    for number, name in enumerate(names, 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows.append(explain_network(name))
        print(f"{number}/{len(names)} {rows[-1].seconds:5.1f} s {rows[-1].line}", flush=True)
        gc.collect()
    good = [row for row in rows if not row.problem]
    share = len(good) / len(rows)
    verdict = "met" if share >= GOAL else "missed"
    summary = f"{len(good)} of {len(rows)} networks, {share:.1%}; goal {GOAL:.0%}: {verdict}"
    print(summary)
    if only:
        return
    content = origin("python -m benchmarks.coverage") | {"networks": [asdict(row) for row in rows]}
    (RESULTS / "coverage.json").write_text(json.dumps(content, indent=1) + "\n")
    head = "| network | million parameters | picture | layer | grid | explained |\n"
    table = head + "|---|--:|---|---|---|---|\n" + "\n".join(row.line for row in rows)
    (RESULTS / "coverage.md").write_text(f"{summary} ({machine()})\n\n{table}\n")


if __name__ == "__main__":
    main()
