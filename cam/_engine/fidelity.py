"""Which precision keeps a method's maps, as it was measured.

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
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads(TABLE.read_text())
    return found


def fastest(method: str, device: torch.device) -> str:
    """The fastest precision whose maps were like those in float32; that where none was measured."""
    measured = _table().get(device.type, {}).get(method, {})
    sound = {
        precision: figures["speed"]
        for precision, figures in measured.items()
        if figures["spearman"] >= LEAST_SPEARMAN and figures["speed"] > 1
    }
    return max(sound, key=lambda precision: sound[precision], default="fp32")


def most_careful(precisions: list[str | None]) -> str | None:
    """The one of several that a pass must have when all of them read it."""
    known = [one for one in precisions if one is not None]
    return min(known, key=ORDER.index, default=None)
