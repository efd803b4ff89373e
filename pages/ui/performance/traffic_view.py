"""Show what the fused kernel reads and writes beside plain torch."""

from itertools import groupby

import torch

import cam
from cam import kernels
from cam._formatting import size
from cam.kernels.inspection.traffic import NORMALISE, WIDEN, Traffic, cam_traffic
from cam.pages.ui.charts.bars import Lane, describe_step, draw_figures, draw_lanes
from cam.pages.ui.charts.colours import READ, WRITTEN, draw_keys
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.controls import draw_lazily
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import write_small

IMAGES = 64
RULES = {"Grad-CAM alone": kernels.RULES[:1], f"all {len(kernels.RULES)} rules": kernels.RULES}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}
STAGES = {WIDEN: "Widen to fp32", NORMALISE: "ReLU and normalise"}


def show_traffic(subject: Subject) -> str:
    """Show bytes read and written, fused and in plain torch, from the layer's shape.

    Returns:
        The Python behind it; empty where there is nothing to count.
    """
    view_record.markdown(
        "After the backward pass little is computed and much is moved. Plain torch reads the "
        "activations from memory and writes results back in every operation; the fused kernel "
        "reads them **once** and writes all maps."
    )
    shapes = {layer.name: layer.shape for layer in subject.model.feature_layers}
    layer = next((name for name in subject.model.layers if name in shapes), None)
    if layer is None:
        view_record.info("This model's layer has no feature maps that the kernel could read.")
        return ""
    shape = (IMAGES, *shapes[layer])
    names, most = list(RULES), list(RULES)[-1]
    rules = RULES[choose("Rules", names, "rules", "rule set", segments=True, default=most)]
    dtype = choose("Activation dtype", list(DTYPES), "dtype", "dtype", segments=True)
    traffic = cam_traffic(shape, rules, DTYPES[dtype])
    _draw_traffic(traffic)
    widened = " It widens half precision first, in which sums would be too coarse."
    write_small(
        f"Counted from shapes, **not measured**: {IMAGES} images at `{layer}`, "
        f"{' × '.join(map(str, shape[1:]))}, channels last. Plain torch is each rule's formula in "
        "as few operations as it takes, each of which reads its tensors once and writes its result "
        f"once.{widened if dtype != 'fp32' else ''}"
        + (
            f" Of the fused kernel's bytes, {size(traffic.scratch)} are partial results."
            if traffic.fused
            else ""
        )
    )
    draw_lazily("Each launch of plain torch", "list", "launches", _draw_launches, traffic)
    return (
        "\nimport torch\n\nfrom cam.kernels.inspection.traffic import cam_traffic\n\n"
        f"traffic = cam_traffic({shape}, {tuple(rules)}, {DTYPES[dtype]})\n"
        "print(traffic.floor, traffic.fused, traffic.plain_bytes)\n"
        "for step in traffic.plain:\n    print(step.stage, step.name, step.reads, step.writes)\n"
    )


def _draw_launches(traffic: Traffic) -> None:
    lanes = [
        Lane(
            f"{number}. {step.name} ({_title_stage(step.stage)})",
            describe_step(step),
            [step],
        )
        for number, step in enumerate(traffic.plain, start=1)
    ]
    longest = max(lane.bytes for lane in lanes)
    view_record.html(draw_lanes(lanes, "Bytes of each launch of plain torch", longest))


def _draw_traffic(traffic: Traffic) -> None:
    """Draw two figures, and the picture behind them."""
    whole, count = size(traffic.plain_bytes), len(traffic.plain)
    stages = []
    for stage, steps in groupby(traffic.plain, lambda step: step.stage):
        several = list(steps)
        figure = f"{size(sum(step.bytes for step in several))}, {len(several)} launches"
        stages.append(Lane(_title_stage(stage), figure, several))
    longest = max(lane.bytes for lane in stages)
    keys = draw_keys([("read from memory", READ), ("written to memory", WRITTEN)])
    if traffic.fused is None:
        write_small("Triton is not installed here, so the fused kernel's launch cannot be planned.")
        view_record.html(keys)
    else:
        fused, ratio = size(traffic.fused.bytes), traffic.plain_bytes / traffic.fused.bytes
        moved = f"{fused} instead of {whole}"
        figures = [
            (f"{ratio:.1f} ×", f"fewer bytes moved: {moved}")
            if ratio >= 1.1
            else (fused, f"moved, and {whole} in plain torch: about the same"),
            (f"1 instead of {count}", "launches"),
        ]
        view_record.html(draw_figures(figures))
        view_record.html(keys)
        view_record.markdown("**Fused kernel: all of it in 1 launch**")
        lane = Lane(fused, describe_step(traffic.fused), [traffic.fused])
        view_record.html(draw_lanes([lane], f"The fused kernel moves {moved}", longest))
    view_record.markdown(f"**Plain torch: {whole} in {count} launches**")
    view_record.html(draw_lanes(stages, f"Plain torch moves {whole} in {count} launches", longest))
    write_small(
        f"The least possible, to read the layer once and write the maps: {size(traffic.floor)}."
    )


def _title_stage(stage: str) -> str:
    return STAGES.get(stage) or cam.methods()[stage].title
