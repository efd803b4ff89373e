"""What the machine can do at best: the bandwidth of a copy, and what a launch costs."""

import torch

from benchmarks.gpu_plan import Plan
from benchmarks.gpu_record import Bench, Record
from benchmarks.gpu_tails import as_row, gb_per_s

WARM_UP = 30  # copies, before the clocks of a resting GPU have risen


def describe(plan: Plan) -> str:
    """What would be measured."""
    return (
        f"a device-to-device copy of {plan.copy_bytes / 2**20:,.0f} MiB, a fill of one number, "
        "and the time between two events with nothing between them"
    )


def run(bench: Bench, record: Record) -> None:
    """Measure the yardsticks that every other section is held against."""
    machine, plan = bench.machine, bench.plan
    source = torch.ones(plan.copy_bytes // 4, dtype=torch.float32, device=machine.device)
    target = torch.empty_like(source)
    one = torch.zeros(1, device=machine.device)
    for _ in range(WARM_UP):
        target.copy_(source)
    copy = machine.device_time(lambda: target.copy_(source), 10 * plan.seconds)
    record.rows = [
        {"what": "copy", "bytes": 2 * source.nbytes, "device": as_row(copy)},
        {
            "what": "fill of one number",
            "graph": as_row(machine.graph_time(lambda: one.fill_(1), plan.seconds)),
            "call": as_row(machine.call_time(lambda: one.fill_(1), plan.seconds)),
        },
        {"what": "nothing", "device": as_row(machine.device_time(lambda: None, plan.seconds))},
    ]
    record.facts = {
        # Read and written bytes both count, as they do for the kernels.
        "copy_gb_per_s": gb_per_s(2 * source.nbytes, copy.median),
        "launch_graph_us": record.rows[1]["graph"]["median_us"],
        "launch_call_us": record.rows[1]["call"]["median_us"],
        "interval_us": record.rows[2]["device"]["median_us"],
    }
