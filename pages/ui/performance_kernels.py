"""What the fused kernel moves, what the compiler made of the kernels, and recorded results."""

from contextlib import closing
from dataclasses import asdict

import pandas as pd
import streamlit as st
import torch

import cam
import kernels
from cam.recorded import recordings
from cam.wording import size
from kernels.inspect import TARGETS, Entry, work
from kernels.inspect_stream import stream
from kernels.traffic import cam_traffic
from pages.ui import controls, jobs
from pages.ui import performance_bars as bars
from pages.ui.charts import CHOSEN, OTHERS
from pages.ui.choosing import Subject
from pages.ui.performance_job import measure
from pages.ui.steps import small

IMAGES = 64
RULES = {"Grad-CAM alone": kernels.RULES[:1], f"all {len(kernels.RULES)} rules": kernels.RULES}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}


def traffic(subject: Subject) -> str:
    """Bytes read and written, fused and in plain torch, from the layer's shape.

    Returns:
        The Python behind it; empty where there is nothing to count.
    """
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
        "Numbers", list(DTYPES), default="bf16", required=True, key="dtype", bind="query-params"
    )
    found = cam_traffic(shape, RULES[rules], DTYPES[dtype])
    rows = [("The least possible", found.floor, size(found.floor), bars.PLAIN)]
    if found.fused is None:
        small("Triton is not installed here, so the fused kernel's launch cannot be planned.")
    else:
        rows.append(("Fused kernel: 1 launch", found.fused.bytes, size(found.fused.bytes), CHOSEN))
        st.html(
            bars.headline(
                [
                    (f"{found.plain_bytes / found.fused.bytes:.1f} ×", "fewer bytes moved"),
                    (f"1 of {len(found.plain)}", "launches"),
                ]
            )
        )
    rows.append(
        (
            f"Plain torch: {len(found.plain)} launches",
            found.plain_bytes,
            size(found.plain_bytes),
            OTHERS,
        )
    )
    st.html(bars.bars(rows, "Bytes read and written"))
    small(
        f"Counted from shapes, not measured: {IMAGES} pictures at `{layer}`, "
        f"{' × '.join(map(str, shape[1:]))}; every operation reads its tensors once and writes its "
        f"result once. Of the fused kernel's bytes, {size(found.scratch)} are partial results."
    )
    with st.expander("Each operation of plain torch"):
        st.html(
            bars.bars(
                [
                    (
                        step.name,
                        step.bytes,
                        f"{size(step.reads)} read, {size(step.writes)} written",
                        OTHERS,
                    )
                    for step in found.plain
                ],
                "Bytes by operation",
            )
        )
    return (
        "import torch\n\nfrom kernels.traffic import cam_traffic\n\n"
        f"found = cam_traffic({shape}, {tuple(RULES[rules])}, {DTYPES[dtype]})\n"
        "print(found.floor, found.fused, found.plain_bytes)\n"
    )


def compile_report() -> str:
    """Registers, spills and load widths for GPUs that are not there; the Python behind it."""
    st.markdown(
        "What the compiler makes of the kernels for a GPU that need not be here: registers of a "
        "thread, values that did not fit in them (spills), and how many bits a load takes at once."
    )
    controls.check_link("gpu", "GPU", TARGETS)
    target = st.segmented_control(
        "GPU", TARGETS, default="sm_90", required=True, key="gpu", bind="query-params"
    )
    total = len(work([target]))

    def run(tell: jobs.Tell) -> tuple[list[Entry], str]:
        entries: list[Entry] = []
        try:
            with closing(stream([target])) as compiling:
                for entry in compiling:
                    entries.append(entry)
                    if not tell(len(entries) / total, entry.kernel, list(entries)):
                        raise cam.Cancelled("the report was cancelled")
        except RuntimeError as error:
            raise cam.CamError(f"the kernels cannot be compiled here: {error}") from None
        return entries, f"Compiled on this server for {target}; no GPU was needed."

    measure(("compile", target), "Compiling", run, draw_report, "Compile")
    return (
        "from kernels.inspect_stream import stream\n\n"
        f"for entry in stream([{target!r}]):\n    print(entry)\n"
    )


def draw_report(entries: list[Entry]) -> None:
    """Headline and table."""
    wide = sum("128" in one.loads for one in entries)
    st.html(
        bars.headline(
            [
                (f"{sum(one.spills for one in entries)}", f"spills in {len(entries)} launches"),
                (f"{max(one.registers for one in entries)}", "registers a thread at most"),
                (f"{wide} of {len(entries)}", "load 128 bits at once"),
            ]
        )
    )
    table = pd.DataFrame([asdict(one) for one in entries])
    for name in ("loads", "stores"):
        table[name] = [
            " ".join(f"{count}×{bits}" for bits, count in cell.items()) for cell in table[name]
        ]
    columns = ["kernel", "case", "dtype", "layout", "registers", "spills", "loads", "stores"]
    st.dataframe(table[[*columns, "occupancy"]], hide_index=True, width="stretch")


def recorded() -> None:
    """What was measured on other machines."""
    found = recordings()
    gpus = [one for one in found if one.device and "CPU" not in one.device]
    if not gpus:
        small("No result of a GPU has been recorded yet: `make gpu-check` on one writes it.")
    if not found:
        st.info("There are no recorded results beside this installation.")
    for one in found:
        st.markdown(
            f"**{one.name}** · device: {one.device or 'the file does not say'} · measured: "
            f"{one.date or 'the file does not say when'} · written by: "
            + (f"`{one.command}`" if one.command else "the file does not say")
        )
        if one.text:
            box = controls.lazy_box("Look at it", ":material/table:", f"recorded-{one.name}")
            if box:
                with box:
                    st.markdown(one.text)
