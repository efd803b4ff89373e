"""Report what the compiler made of each kernel."""

import json
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from html import escape
from itertools import groupby

import pandas as pd

import cam
from cam._output.explanation_files import versions
from cam.kernels.inspection.devices import DEVICES
from cam.kernels.inspection.entries import Entry
from cam.kernels.inspection.report import TARGETS, work
from cam.kernels.inspection.report_stream import stream
from cam.pages.ui.charts.bars import draw_figure, draw_figures, draw_meter
from cam.pages.ui.charts.colours import HIGHLIGHT
from cam.pages.ui.charts.elements import div, element
from cam.pages.ui.performance.measurement_job import measure
from cam.pages.ui.server import jobs
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.controls import draw_lazily, offer_file
from cam.pages.ui.widgets.links import choose

GPUS = {f"{DEVICES[target].name} ({target})": target for target in TARGETS}
# What a thread can load or store at once at most.
WIDEST = 128
TITLES = {
    "plane_cam_kernel": "All gradient CAMs, planes up to 1,024 pixels",
    "walk_cam_kernel": "All gradient CAMs, larger planes",
    "gradient_map_kernel": "Saliency map",
    "masked_batch_kernel": "Images masked by maps (Score-CAM, RISE)",
    "label_batch_kernel": "Images masked by regions or ranks (LIME, deletion)",
    "moments_kernel": "Mean and variance of noisy samples (SmoothGrad)",
    "mask_range_kernel": "Range of the masks (Score-CAM)",
    "overlay_kernel": "Overlay: upsample, colour, blend",
}
COLUMNS = {
    "kernel": "kernel", "case": "shape and work", "dtype": "dtype", "layout": "layout",
    "threads": "threads", "registers": "registers", "shared": "shared memory (bytes)",
    "spills": "spills", "loads": "loads (count × bits)", "stores": "stores (count × bits)",
    "occupancy": "occupancy (%)", "megabytes": "MB a call, counted",
}  # fmt: skip


def show_compile_report() -> str:
    """Show registers, spills, widths and occupancy for GPUs that are not there.

    Returns:
        The GPU's name for the compiler.
    """
    view_record.markdown(
        "The kernels are compiled for a GPU, **which need not be here**, and what the compiler "
        "made of them is read from the machine code. Nothing runs, so there are no times."
    )
    names = list(GPUS)
    gpu = choose("Compile for", names, "gpu", "GPU", segments=True, default=names[2])
    target = GPUS[gpu]
    total = len(work([target]))

    def run(tell: jobs.Tell) -> tuple[list[Entry], str]:
        entries: list[Entry] = []
        tell(0, "starting the compiler")
        try:
            with closing(stream([target])) as compiling:
                for entry in compiling:
                    entries.append(entry)
                    note = f"{len(entries)} of {total} launches"
                    # The first one took the compiler's start with it, which tells no speed.
                    if not tell((len(entries) - 1) / total, note, list(entries)):
                        raise cam.Cancelled("the report was cancelled")
        except RuntimeError as error:
            raise cam.CamError(f"the kernels cannot be compiled here: {error}") from None
        triton = f"Triton {versions().get('triton', '')}"
        return entries, f"Compiled on this server for {gpu} with {triton}; no GPU was needed."

    measure(("compile", target), "Compiling", run, _draw_report, "Compile", _draw_every_launch)
    return target


def write_compiling(target: str) -> str:
    """Write the Python behind the report."""
    return (
        "\nfrom cam.kernels.inspection.report_stream import stream\n\n"
        f"for entry in stream([{target!r}]):\n    print(entry)\n"
    )


def _draw_report(entries: list[Entry]) -> None:
    """Draw what matters first, then a card a kernel."""
    count, device = len(entries), DEVICES[entries[0].target]
    figures = [
        (f"{sum(entry.spills for entry in entries):,}", f"spills in {count} launches"),
        (
            f"{_count_widest(entries)} of {count}",
            f"launches load {WIDEST} bits at once, the most there is",
        ),
        (f"{_describe_occupancy(entries)} %", "occupancy"),
    ]
    view_record.html(draw_figures(figures))
    view_record.markdown(
        "- **Spills**: accesses to memory because a thread's values did not fit in its registers. "
        "None is best.\n"
        f"- **Loads, stores**: how much a thread moves in one instruction. {WIDEST} bits is the "
        "widest there is; small results, such as a 7 × 7 map, are written in narrower ones.\n"
        f"- **Registers**: a thread's fastest storage, {device.thread_registers} at most. Fewer "
        "leave room for more threads.\n"
        "- **Occupancy**: the share of a core's threads that registers and shared memory leave "
        "room for. More is better: while one waits for memory, another works."
    )
    order = list(TITLES)
    ordered = sorted(entries, key=lambda entry: order.index(entry.kernel))
    cards = [
        _draw_card(kernel, list(launches))
        for kernel, launches in groupby(ordered, lambda entry: entry.kernel)
    ]
    view_record.html(div("cards", *cards))


def _draw_card(kernel: str, launches: list[Entry]) -> str:
    device = DEVICES[launches[0].target]
    count, spills = len(launches), sum(entry.spills for entry in launches)
    wide, shared = _count_widest(launches), max(entry.shared for entry in launches)
    stores = _describe_range(lambda entry: _find_widest(entry.stores), launches)
    registers = _describe_range(lambda entry: entry.registers, launches)
    room = f"up to {_format_size(shared)} of {_format_size(device.shared)}"
    most = max(entry.registers for entry in launches) / device.thread_registers
    least = min(entry.occupancy for entry in launches)
    lines = (
        _draw_line("Spills", "none ✓" if not spills else f"{spills:,} ⚠"),
        _draw_line(f"Loads of {WIDEST} bits", f"in {wide} of {count}" + " ✓" * (wide == count)),
        _draw_line("Widest store", f"{stores} bits"),
        _draw_line("Registers a thread", f"{registers} of {device.thread_registers}", most),
        _draw_line("Shared memory a program", room if shared else "none", shared / device.shared),
        _draw_line("Occupancy", f"{_describe_occupancy(launches)} %", least),
    )
    code = f"<code>{escape(kernel)}</code>, {count} launch{'es' * (count > 1)}"
    return element("section", "", div("", escape(TITLES[kernel])), div("", code), *lines)


def _draw_line(name: str, value: str, share: float | None = None) -> str:
    """Draw a figure, and how much of the most it is as a thin bar."""
    meter = "" if share is None else draw_meter(share, HIGHLIGHT, "thin")
    return div("fact", draw_figure(name, value), meter)


def _find_widest(widths: dict[str, int]) -> int:
    return max(map(int, widths), default=0)


def _count_widest(launches: list[Entry]) -> int:
    return sum(_find_widest(entry.loads) == WIDEST for entry in launches)


def _describe_occupancy(launches: list[Entry]) -> str:
    return _describe_range(lambda entry: round(100 * entry.occupancy), launches)


def _format_size(count: int) -> str:
    return f"{count / 1024:g} KiB" if count >= 1024 else f"{count} B"


def _describe_range(measure_entry: Callable[[Entry], int], launches: Iterable[Entry]) -> str:
    """Describe the lowest and the highest value, once where they are the same."""
    values = sorted(map(measure_entry, launches))
    return str(values[0]) if values[0] == values[-1] else f"{values[0]}–{values[-1]}"


def _draw_every_launch(entries: list[Entry]) -> None:
    draw_lazily("Every launch", "table", "every_launch", _draw_table, entries)


def _draw_table(entries: list[Entry]) -> None:
    """Draw the table for experts, and the whole as JSON."""
    records = [asdict(entry) for entry in entries]
    table = pd.DataFrame(records)
    for name in ("loads", "stores"):
        table[name] = [
            ", ".join(f"{count} × {bits}" for bits, count in cell.items()) for cell in table[name]
        ]
    table["occupancy"] = (100 * table["occupancy"]).round()
    table["megabytes"] = table["megabytes"].round(1)
    view_record.dataframe(table[list(COLUMNS)].rename(columns=COLUMNS))
    name = f"kernels-{entries[0].target}.json"
    offer_file("Download JSON", partial(json.dumps, records, indent=1), name, "application/json")
