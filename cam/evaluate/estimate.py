"""What a run will cost: its first images are done, nothing is kept, and the passes are counted."""

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from cam.errors import RunError
from cam.evaluate.plan import Plan
from cam.evaluate.reader import Source, read_shard
from cam.evaluate.worker import measure_shard


@dataclass(frozen=True)
class Estimate:
    """What a run costs, by what its first images did here.

    Attributes:
        images: How many the run has.
        looked_at: How many were done for this.
        forwards: Inputs through the network, for an image.
        backwards: Inputs whose gradient was sent back, for an image.
        seconds: For an image, reading included, in this process.
        stored: Bytes in the store for an image.
    """

    images: int
    looked_at: int
    forwards: float
    backwards: float
    seconds: float
    stored: float


@dataclass(eq=False)
class _Count:
    forwards: int = 0
    backwards: int = 0


def estimate(plan: Plan) -> Estimate:
    """Do a plan's first shard, after one image that warms up, and count.

    Raises:
        RunError: None of its images can be measured.
    """
    import pyarrow.parquet as parquet

    shard, source = next(plan.shards()), Source.of(plan)
    measure_shard(plan, read_shard(source, (0, 1)))
    begun = time.perf_counter()
    with _counting(plan.model.module) as count:
        result = measure_shard(plan, read_shard(source, shard))
    seconds = time.perf_counter() - begun
    images = shard[1] - shard[0]
    sound = images - result.skipped
    if not sound:
        raise RunError(
            f"none of the first {images} images can be measured, so the cost is not known: "
            f"{result.problems[0]}"
        )
    stored = 0
    for table in result.tables.values():
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression="zstd")
        stored += buffer.tell()
    return Estimate(
        len(plan.data),
        sound,
        count.forwards / sound,
        count.backwards / sound,
        seconds / sound,
        stored / sound,
    )


@contextmanager
def _counting(module: nn.Module) -> Iterator[_Count]:
    """Count what goes through a network; copies of it, as metrics make them, count too."""
    count = _Count()

    def through(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        pixels = inputs[0]
        assert isinstance(pixels, Tensor)
        size = len(pixels)
        count.forwards += size
        values = output.values() if isinstance(output, Mapping) else (output,)
        first = next((one for one in values if isinstance(one, Tensor)), None)
        if first is not None and first.requires_grad:

            def back(_: Tensor) -> None:
                count.backwards += size

            first.register_hook(back)  # type: ignore[no-untyped-call]

    handle = module.register_forward_hook(through)
    try:
        yield count
    finally:
        handle.remove()
