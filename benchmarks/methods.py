"""Time explanations beside a plain forward and peers, with goals.

``python -m benchmarks.methods``: ResNets with random weights (speed does not depend on them), in
one process, interleaved, medians. ``--only TEXT`` runs the parts whose name holds the text; all of
them write ``benchmarks/results/methods-DEVICE.md`` and ``.json``.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from scipy.stats import spearmanr

import cam
from benchmarks.memory import peak_megabytes
from benchmarks.result_files import default_device, write_results
from cam._performance.peers import CLASSES, grad_cam, prepare_gradcam
from cam._performance.timing import Timing, interleaved, machine

EIGHT = CLASSES | {"eigencam": "EigenCAM", "eigengradcam": "EigenGradCAM"}
STEPS = 32


@dataclass(frozen=True)
class Figure:
    """A ratio against its goal."""

    work: str
    measured: float
    goal: float
    least: bool
    detail: str

    @property
    def met(self) -> bool:
        """Whether it is at least, or at most, its goal."""
        return self.measured >= self.goal if self.least else self.measured <= self.goal

    @property
    def line(self) -> str:
        """A row of the table in Markdown."""
        sign = "≥" if self.least else "≤"
        verdict = "met" if self.met else "missed"
        return (
            f"| {self.work} | {self.measured:.2f} × | {sign} {self.goal} × | {verdict} | "
            f"{self.detail} |"
        )


def at_most(work: str, mine: Timing, other: Timing, goal: float) -> Figure:
    """Divide our time by another's."""
    return Figure(work, mine.over(other).median, goal, False, _medians(mine, other))


def faster(work: str, mine: Timing, other: Timing, goal: float) -> Figure:
    """Divide another's time by ours."""
    return Figure(work, other.over(mine).median, goal, True, _medians(mine, other))


def _medians(mine: Timing, other: Timing) -> str:
    return f"{mine.median * 1000:.0f} ms against {other.median * 1000:.0f} ms"


def _forward(module: torch.nn.Module, batch: torch.Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return module(batch)

    return run


def _grad_cam(kind: str, module: torch.nn.Module, batch: torch.Tensor) -> object:
    return grad_cam(kind, module, "layer4", batch, [0] * len(batch))


def gradient_cams(device: str) -> list[Figure]:
    """ResNet-50, a batch of 8: Grad-CAM alone, eight CAMs and saliency at once."""
    torch.manual_seed(0)
    model = cam.load_model("torchvision/resnet50", weights=None, device=device)
    module = model.module
    batch = torch.randn(8, 3, 224, 224, device=device)
    peers = prepare_gradcam(module, "layer4", batch, [0] * len(batch))
    nine = [*EIGHT, "saliency"]
    times = interleaved(
        {
            "forward": _forward(module, batch),
            "ours": lambda: cam.attribute(module, batch, "gradcam", 0, "layer4"),
            "auto": lambda: cam.attribute(model, batch, "gradcam", 0, precision="auto"),
            **peers,
            "nine": lambda: cam.attribute(module, batch, nine, 0, "layer4"),
        }
    )
    eight = interleaved(
        {
            "ours": lambda: cam.attribute(module, batch, nine, 0, "layer4"),
            "grad-cam": lambda: [_grad_cam(kind, module, batch) for kind in EIGHT.values()],
        },
        rounds=3,
        warm_up=1,
    )
    exact = cam.attribute(model, batch, "gradcam", 0, precision="fp32")["gradcam"]
    auto = cam.attribute(model, batch, "gradcam", 0, precision="auto")["gradcam"]
    return [
        at_most("gradcam, plain forward", times["ours"], times["forward"], 1.0),
        faster("gradcam, grad-cam", times["ours"], times["grad-cam"], 3.5),
        faster("gradcam, captum", times["ours"], times["captum"], 1.05),
        faster("gradcam, torchcam", times["ours"], times["torchcam"], 1.05),
        at_most(
            f"gradcam, auto ({auto.precision}), plain forward", times["auto"], times["forward"], 0.9
        ),
        _spearman("gradcam, auto, lowest Spearman with fp32", exact.heatmap, auto.heatmap),
        at_most("eight CAMs and saliency, plain forward", times["nine"], times["forward"], 2.4),
        faster("eight CAMs and saliency, grad-cam's eight", eight["ours"], eight["grad-cam"], 10),
    ]


def _spearman(work: str, first: torch.Tensor, second: torch.Tensor) -> Figure:
    correlations = [
        spearmanr(heatmap.flatten().cpu(), other.flatten().cpu())[0]
        for heatmap, other in zip(first, second, strict=True)
    ]
    return Figure(work, float(np.min(correlations)), 0.99, True, f"of {len(correlations)} maps")


def ablation(device: str) -> list[Figure]:
    """ResNet-18, one picture: Ablation-CAM of its 512 channels."""
    module, batch = _small(device)
    times = interleaved(
        {
            "ours": lambda: cam.attribute(module, batch, "ablationcam", 0, "layer4"),
            "grad-cam": lambda: _grad_cam("AblationCAM", module, batch),
        },
        rounds=3,
        warm_up=1,
    )
    return [faster("ablationcam, grad-cam", times["ours"], times["grad-cam"], 50)]


def score(device: str) -> list[Figure]:
    """ResNet-18, one picture: Score-CAM with its 512 masks."""
    module, batch = _small(device)

    def ours(precision: str | None = None) -> cam.Attribution:
        maps = cam.attribute(module, batch, "scorecam", 0, "layer4", precision=precision)
        return maps["scorecam"]

    exact = ours("fp32")
    low, figure = "fp32", None
    for precision in ("bf16", "fp16") if device == "cpu" else ("bf16", "fp16", "tf32"):
        if device == "cpu" and precision == "fp16":
            continue  # a CPU takes ten times as long for it
        figure = _spearman(
            f"scorecam in {precision}, Spearman with fp32", exact.heatmap, ours(precision).heatmap
        )
        if figure.met:
            low = precision
            break
    times = interleaved(
        {
            "ours": ours,
            "low": lambda: ours(low),
            "grad-cam": lambda: _grad_cam("ScoreCAM", module, batch),
        },
        rounds=5,
        warm_up=1,
    )
    small, large = "torchvision/resnet18", "torchvision/resnet50"
    mine, theirs = peak_megabytes(small, "ours"), peak_megabytes(small, "grad-cam")
    wide = peak_megabytes(large, "ours")
    return [
        faster("scorecam, grad-cam", times["ours"], times["grad-cam"], 1.1),
        faster(f"scorecam in {low}, grad-cam", times["low"], times["grad-cam"], 1.8),
        *([figure] if figure else []),
        Figure(
            "scorecam, grad-cam's peak memory above the model",
            mine / theirs,
            0.2,
            False,
            f"{mine:.0f} MB against {theirs:.0f} MB",
        ),
        Figure(
            "scorecam, 2,048 channels, batches of 8: peak memory over 300 MB",
            wide / 300,
            1.0,
            False,
            f"{wide:.0f} MB",
        ),
    ]


def paths(device: str) -> list[Figure]:
    """ResNet-18, two pictures, 32 steps: SmoothGrad and integrated gradients."""
    module, _ = _small(device)
    batch = torch.randn(2, 3, 224, 224, device=device)
    tunnel, integrated = NoiseTunnel(Saliency(module)), IntegratedGradients(module)
    smooth = cam.method("smoothgrad", samples=STEPS)
    times = interleaved(
        {
            "smooth": lambda: cam.attribute(module, batch, smooth, 0),
            "smooth, captum": lambda: tunnel.attribute(
                batch, nt_samples=STEPS, nt_samples_batch_size=16, stdevs=0.15, target=0, abs=False
            ),
            "integrated": lambda: cam.attribute(
                module, batch, cam.method("integrated_gradients", steps=STEPS), 0
            ),
            "integrated, captum": lambda: integrated.attribute(
                batch, target=0, n_steps=STEPS, internal_batch_size=32
            ),
        },
        rounds=5,
        warm_up=1,
    )
    return [
        faster("smoothgrad, captum", times["smooth"], times["smooth, captum"], 1.15),
        faster(
            "integrated_gradients, captum", times["integrated"], times["integrated, captum"], 1.15
        ),
    ]


def _small(device: str) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = cam.load_model("torchvision/resnet18", weights=None, device=device)
    return model.module, torch.randn(1, 3, 224, 224, device=device)


PARTS = {"gradcam": gradient_cams, "ablation": ablation, "score": score, "paths": paths}


def main() -> None:
    """Print each figure beside its goal, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    only = parser.parse_args().only
    device = default_device()
    figures: list[Figure] = []
    for name, part in PARTS.items():
        if only in name:
            figures += part(device)
            print("\n".join(figure.line for figure in figures[-8:]), flush=True)
    if only:
        return
    head = "| work, beside | measured | goal | | medians |\n|---|--:|--:|---|---|\n"
    rows = "\n".join(figure.line for figure in figures)
    content = {"figures": [asdict(figure) for figure in figures]}
    write_results("methods", "make benchmark", content, f"{machine()}\n\n{head}{rows}\n")


if __name__ == "__main__":
    main()
