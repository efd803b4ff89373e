"""Show what the fused kernel reads and writes beside plain torch."""

from itertools import groupby

import streamlit as st
import torch

import cam
from cam import kernels
from cam._formatting import size
from cam.kernels.inspection.traffic import NORMALISE, WIDEN, Step, Traffic, cam_traffic
from cam.pages.ui.performance import bars
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import small

IMAGES = 64
RULES = {"Grad-CAM alone": kernels.RULES[:1], f"all {len(kernels.RULES)} rules": kernels.RULES}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}
STAGES = {WIDEN: "Widen to fp32", NORMALISE: "ReLU and normalise"}


def traffic(subject: Subject) -> str:
    """Bytes read and written, fused and in plain torch, from the layer's shape.

    Returns:
        The Python behind it; empty where there is nothing to count.
    """
    st.markdown(
        "What comes after the backward pass computes little and moves much. Plain torch carries "
        "the layer to the chip and back for every operation; the fused kernel reads it **once** "
        "and makes all maps of it."
    )
    shapes = {one.name: one.shape for one in subject.model.feature_layers}
    layer = next((name for name in subject.model.layers if name in shapes), None)
    if layer is None:
        st.info("This model's layer has no plane of pixels that the kernel could be given.")
        return ""
    shape = (IMAGES, *shapes[layer])
    for key, what, options in (("rules", "rule set", RULES), ("dtype", "dtype", DTYPES)):
        controls.check_link(key, what, options)
    rules = st.segmented_control(
        "Rules", list(RULES), default=list(RULES)[-1], required=True, key="rules",
        bind="query-params",
    )  # fmt: skip
    dtype = st.segmented_control(
        "Numbers of the layer", list(DTYPES), default="bf16", required=True, key="dtype",
        bind="query-params",
    )  # fmt: skip
    found = cam_traffic(shape, RULES[rules], DTYPES[dtype])
    draw(found)
    widened = " It widens half precision first, in which sums would be too coarse."
    small(
        f"Counted from shapes, **not measured**: {IMAGES} pictures at `{layer}`, "
        f"{' × '.join(map(str, shape[1:]))}, channels last. Plain torch is each rule's formula in "
        "as few operations as it takes, each of which reads its tensors once and writes its result "
        f"once.{widened if dtype != 'fp32' else ''}"
        + (
            f" Of the fused kernel's bytes, {size(found.scratch)} are partial results."
            if found.fused
            else ""
        )
    )
    box = controls.lazy_box("Each launch of plain torch", ":material/list:", "launches")
    if box:
        with box:
            st.html(
                bars.lanes(
                    [
                        (f"{place}. {step.name} ({_title(step.stage)})", _told(step), [_part(step)])
                        for place, step in enumerate(found.plain, start=1)
                    ],
                    "Bytes of each launch of plain torch",
                    max(step.bytes for step in found.plain),
                )
            )
    return (
        "import torch\n\nfrom cam.kernels.inspection.traffic import cam_traffic\n\n"
        f"found = cam_traffic({shape}, {tuple(RULES[rules])}, {DTYPES[dtype]})\n"
        "print(found.floor, found.fused, found.plain_bytes)\n"
        "for step in found.plain:\n    print(step.stage, step.name, step.reads, step.writes)\n"
    )


def draw(found: Traffic) -> None:
    """Two figures, and the picture behind them."""
    whole, count = size(found.plain_bytes), len(found.plain)
    stages: list[bars.Lane] = []
    for stage, steps in groupby(found.plain, lambda step: step.stage):
        several = list(steps)
        told = f"{size(sum(step.bytes for step in several))}, {len(several)} launches"
        stages.append((_title(stage), told, [_part(step) for step in several]))
    longest = max(bars.length(parts) for _, _, parts in stages)
    colours = bars.legend([("read from memory", bars.READ), ("written to memory", bars.WRITTEN)])
    if found.fused is None:
        small("Triton is not installed here, so the fused kernel's launch cannot be planned.")
        st.html(colours)
    else:
        fused, ratio = size(found.fused.bytes), found.plain_bytes / found.fused.bytes
        moved = f"{fused} instead of {whole}"
        st.html(
            bars.headline(
                [
                    (f"{ratio:.1f} ×", f"fewer bytes moved: {moved}")
                    if ratio >= 1.1
                    else (fused, f"moved, and {whole} in plain torch: about the same"),
                    (f"1 instead of {count}", "launches"),
                ]
            )
        )
        st.html(colours)
        st.markdown("**Fused kernel: all of it in 1 launch**")
        lane = (fused, _told(found.fused), [_part(found.fused)])
        st.html(bars.lanes([lane], f"The fused kernel moves {moved}", longest))
    st.markdown(f"**Plain torch: {whole} in {count} launches**")
    st.html(bars.lanes(stages, f"Plain torch moves {whole} in {count} launches", longest))
    small(f"The least possible, to read the layer once and write the maps: {size(found.floor)}.")


def _title(stage: str) -> str:
    return STAGES.get(stage) or cam.methods()[stage].title


def _part(step: Step) -> bars.Part:
    return (step.reads, step.writes, f"{step.name}: {_told(step)}")


def _told(step: Step) -> str:
    return f"{size(step.reads)} read, {size(step.writes)} written"
