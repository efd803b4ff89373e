"""Look up which reduced precision keeps a method's maps.

``fidelity.json`` is written by ``python -m benchmarks.fidelity``: for each kind of device, method
and precision the lowest Spearman correlation of a heatmap with that in float32, over the sample
photos with the bundled model, and how many times as fast it was.
"""

import json
from functools import lru_cache
from pathlib import Path

import torch

LEAST_SPEARMAN = 0.99
# From the most careful to the least.
ORDER = ("fp32", "tf32", "fp16", "bf16")
TABLE = Path(__file__).parent / "fidelity.json"


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    table: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads(TABLE.read_text())
    return table


def multiplies_bf16() -> bool:
    """Return whether this CPU multiplies matrices of bfloat16 in hardware (AMX)."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    return capabilities is not None and bool(capabilities().get("amx_bf16"))


def find_fastest(method: str, device: torch.device) -> str:
    """Return the fastest precision with maps as in float32, else "fp32".

    The figures of CPUs are of one with AMX: without it bfloat16 is slower than float32, on a CPU
    with AVX2 alone about 30 times.
    """
    if device.type == "cpu" and not multiplies_bf16():
        return "fp32"
    measured = _table().get(device.type, {}).get(method, {})
    faithful = {
        precision: figures["speed"]
        for precision, figures in measured.items()
        if figures["spearman"] >= LEAST_SPEARMAN and figures["speed"] > 1
    }
    return max(faithful, key=lambda precision: faithful[precision], default="fp32")


def find_most_careful(precisions: list[str | None]) -> str | None:
    """Return the precision that satisfies all of these."""
    named = [precision for precision in precisions if precision is not None]
    return min(named, key=ORDER.index, default=None)
