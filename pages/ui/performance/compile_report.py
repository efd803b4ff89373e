"""Report what the compiler made of each kernel."""

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from html import escape
from itertools import groupby

import pandas as pd
import streamlit as st

import cam
from cam._output.explanation_files import versions
from cam.kernels.inspection.machine_code import DEVICES
from cam.kernels.inspection.report import TARGETS, Entry, work
from cam.kernels.inspection.report_stream import stream
from cam.pages.ui.performance import bars
from cam.pages.ui.performance.measurement_job import measure
from cam.pages.ui.server import jobs
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.charts import CHOSEN

GPUS = {f"{DEVICES[target].name} ({target})": target for target in TARGETS}
# What a thread can load or store at once at most.
WIDEST = 128
TITLES = {
    "plane_cam_kernel": "All gradient CAMs, planes up to 1,024 pixels",
    "walk_cam_kernel": "All gradient CAMs, larger planes",
    "gradient_map_kernel": "Saliency map",
    "masked_batch_kernel": "Masked pictures (Score-CAM, LIME, deletion)",
    "moments_kernel": "Mean and variance of noisy samples (SmoothGrad)",
    "mask_range_kernel": "Range of the masks (Score-CAM)",
    "overlay_kernel": "Overlay: upsample, colour, blend",
}
COLUMNS = {
    "kernel": "kernel", "case": "shape and work", "dtype": "numbers", "layout": "layout",
    "threads": "threads", "registers": "registers", "shared": "shared memory (bytes)",
    "spills": "spills", "loads": "loads (count × bits)", "stores": "stores (count × bits)",
    "occupancy": "occupancy (%)", "megabytes": "MB a call, counted",
}  # fmt: skip


def compile_report() -> str:
    """Registers, spills, widths and occupancy for GPUs that are not there.

    Returns:
        The Python behind it.
    """
    st.markdown(
        "The kernels are compiled for a GPU, **which need not be here**, and what the compiler "
        "made of them is read from the machine code. Nothing runs, so there are no times."
    )
    controls.check_link("gpu", "GPU", GPUS)
    chosen = st.segmented_control(
        "Compile for", list(GPUS), default=list(GPUS)[2], required=True, key="gpu",
        bind="query-params",
    )  # fmt: skip
    target = GPUS[chosen]
    total = len(work([target]))

    def run(tell: jobs.Tell) -> tuple[list[Entry], str]:
        entries: list[Entry] = []
        tell(0, "starting the compiler")
        try:
            with closing(stream([target])) as compiling:
                for entry in compiling:
                    entries.append(entry)
                    told = f"{len(entries)} of {total} launches"
                    # The first one took the compiler's start with it, which tells no speed.
                    if not tell((len(entries) - 1) / total, told, list(entries)):
                        raise cam.Cancelled("the report was cancelled")
        except RuntimeError as error:
            raise cam.CamError(f"the kernels cannot be compiled here: {error}") from None
        made = f"Compiled on this server for {chosen} with Triton {versions().get('triton', '')};"
        return entries, f"{made} no GPU was needed."

    measure(("compile", target), "Compiling", run, draw_report, "Compile", _every_launch)
    return (
        "from cam.kernels.inspection.report_stream import stream\n\n"
        f"for entry in stream([{target!r}]):\n    print(entry)\n"
    )


def draw_report(entries: list[Entry]) -> None:
    """What matters first, then a card a kernel."""
    spills = sum(one.spills for one in entries)
    wide = sum(_widest(one.loads) == WIDEST for one in entries)
    count = len(entries)
    st.html(
        bars.headline(
            [
                (f"{spills:,}", f"spills in {count} launches"),
                (f"{wide} of {count}", f"launches load {WIDEST} bits at once, the most there is"),
                (f"{_occupancy(entries)} %", "occupancy"),
            ]
        )
    )
    device = DEVICES[entries[0].target]
    st.markdown(
        "- **Spills**: accesses to memory because a thread's values did not fit in its registers. "
        "None is best.\n"
        f"- **Loads, stores**: how much a thread moves in one instruction. {WIDEST} bits is the "
        "widest there is; small results, such as a 7 × 7 map, are written in narrower ones.\n"
        f"- **Registers**: what a thread has at hand, {device.thread_registers} at most. Fewer "
        "leave room for more threads.\n"
        "- **Occupancy**: the share of a core's threads that registers and shared memory leave "
        "room for. More is better: while one waits for memory, another works."
    )
    cards = "".join(
        _card(kernel, list(launches))
        for kernel, launches in groupby(
            sorted(entries, key=lambda one: list(TITLES).index(one.kernel)), lambda one: one.kernel
        )
    )
    st.html(
        '<div style="display:grid;gap:1rem;font-size:.875rem;'
        f'grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr))">{cards}</div>'
    )


def _card(kernel: str, launches: list[Entry]) -> str:
    device = DEVICES[launches[0].target]
    count, spills = len(launches), sum(one.spills for one in launches)
    wide = sum(_widest(one.loads) == WIDEST for one in launches)
    registers = max(one.registers for one in launches)
    shared = max(one.shared for one in launches)
    lines = (
        _line("Spills", "none ✓" if not spills else f"{spills:,} ⚠"),
        _line(f"Loads of {WIDEST} bits", f"in {wide} of {count}" + " ✓" * (wide == count)),
        _line("Widest store", f"{_range(_widest(one.stores) for one in launches)} bits"),
        _line(
            "Registers a thread",
            f"{_range(one.registers for one in launches)} of {device.thread_registers}",
            registers / device.thread_registers,
        ),
        _line(
            "Shared memory a program",
            f"up to {_kibibytes(shared)} of {_kibibytes(device.shared)}" if shared else "none",
            shared / device.shared,
        ),
        _line(
            "Occupancy",
            f"{_occupancy(launches)} %",
            min(one.occupancy for one in launches),
        ),
    )
    return (
        '<section style="border:1px solid #8888;border-radius:.5rem;padding:.75rem 1rem">'
        f'<div style="font-weight:650">{escape(TITLES[kernel])}</div>'
        f'<div style="margin-bottom:.5rem"><code>{escape(kernel)}</code>, {count} '
        f"launch{'es' * (count > 1)}</div>{''.join(lines)}</section>"
    )


def _line(name: str, value: str, share: float | None = None) -> str:
    """A figure, and how much of the most it is as a thin bar."""
    meter = (
        ""
        if share is None
        else '<div style="height:.35rem;border-radius:.2rem;background:#8884"><div style="height:'
        f"100%;border-radius:.2rem;background:{CHOSEN};width:max(2px,{100 * share:.1f}%)"
        '"></div></div>'
    )
    return (
        '<div style="margin-top:.35rem"><div style="display:flex;justify-content:space-between;'
        f'gap:1rem"><span>{escape(name)}</span><b style="white-space:nowrap">{escape(value)}</b>'
        f"</div>{meter}</div>"
    )


def _widest(widths: dict[str, int]) -> int:
    return max(map(int, widths), default=0)


def _occupancy(launches: list[Entry]) -> str:
    return _range(round(100 * one.occupancy) for one in launches)


def _kibibytes(count: int) -> str:
    return f"{count / 1024:g} KiB" if count >= 1024 else f"{count} B"


def _range(values: Iterable[int]) -> str:
    """The lowest and the highest, once where they are the same."""
    known = sorted(values)
    return str(known[0]) if known[0] == known[-1] else f"{known[0]}–{known[-1]}"


def _every_launch(entries: list[Entry]) -> None:
    """The table for experts, and the whole as JSON."""
    box = controls.lazy_box("Every launch", ":material/table:", "every_launch")
    if box is None:
        return
    table = pd.DataFrame([asdict(one) for one in entries])
    for name in ("loads", "stores"):
        table[name] = [
            ", ".join(f"{count} × {bits}" for bits, count in cell.items()) for cell in table[name]
        ]
    table["occupancy"] = (100 * table["occupancy"]).round()
    table["megabytes"] = table["megabytes"].round(1)
    with box:
        st.dataframe(table[list(COLUMNS)].rename(columns=COLUMNS), hide_index=True, width="stretch")
        st.download_button(
            "Download JSON",
            lambda: json.dumps([asdict(one) for one in entries], indent=1),
            f"kernels-{entries[0].target}.json",
            "application/json",
            on_click="ignore",
            icon=":material/download:",
        )
