"""Write as Markdown what bounds each launch on each GPU."""

from collections.abc import Sequence

from .devices import DEVICES
from .entries import Entry

DTYPE = "bfloat16"  # the table's; images and masks keep theirs
OTHER_DTYPES = {"overlay_kernel", "mask_range_kernel"}


def bounds_table(entries: Sequence[Entry]) -> str:
    """Write a row for each launch, and a column for each GPU.

    A cell names the largest of the three floors, and how many times that of memory it is, where it
    is another. Where instructions are not counted, it gives that of memory.

    Args:
        entries: Of one or several targets.
    """
    targets = list(dict.fromkeys(entry.target for entry in entries))
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for entry in entries:
        if entry.dtype == DTYPE or entry.kernel in OTHER_DTYPES:
            name = entry.kernel.removesuffix("_kernel")
            rows.setdefault((name, entry.case, entry.layout), {})[entry.target] = _cell(entry)
    names = " | ".join(DEVICES[target].name for target in targets)
    lines = [f"| kernel | launch | layout | {names} |", f"|{' --- |' * (3 + len(targets))}"]
    lines += [
        f"| {' | '.join(key)} | {' | '.join(cells.get(target, '') for target in targets)} |"
        for key, cells in rows.items()
    ]
    return "\n".join(lines)


def _cell(entry: Entry) -> str:
    if entry.bound in ("memory", "not counted"):
        return f"memory {_figures(entry.floor)} µs"
    largest = max(entry.issue_floor, entry.shuffle_floor)
    return f"**{entry.bound} {_figures(largest)} µs**, {largest / entry.floor:.1f} × memory"


def _figures(microseconds: float) -> str:
    return f"{microseconds:.1f}" if microseconds < 100 else f"{microseconds:.0f}"
