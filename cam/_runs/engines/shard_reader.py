"""One shard: read its items and make the model's inputs of them."""

import logging
from dataclasses import dataclass

from torch import Tensor

from cam._data.dataset import Dataset, Item
from cam._models.model import Model
from cam._runs.engines.thumbnails import picture_bytes
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.store import Range

LOG = logging.getLogger("cam.evaluate")


@dataclass(frozen=True, eq=False)
class Source:
    """What reading takes of a plan.

    Attributes:
        data: Where items come from.
        model: Its transform makes inputs of them; its network is not used.
        pictures: Whether small pictures are kept.
    """

    data: Dataset
    model: Model
    pictures: bool

    @classmethod
    def of(cls, plan: Plan) -> "Source":
        """A plan's."""
        return cls(plan.data, plan.model, plan.options.heatmaps > 0)


@dataclass(eq=False)
class Read:
    """A shard's items as they came from the data.

    Attributes:
        shard: Its range.
        items: The items, or why one could not be read.
        inputs: Item's number → its input (3, H, W), on the CPU.
        pictures: Item's number → a small JPEG of what the model sees.
    """

    shard: Range
    items: dict[int, Item | str]
    inputs: dict[int, Tensor]
    pictures: dict[int, bytes]


def read_shard(source: Source, shard: Range) -> Read:
    """Read and preprocess a shard's items; needs the processor only, so it may run ahead."""
    read = Read(shard, {}, {}, {})
    for number in range(*shard):
        try:
            item = source.data[number]
            image = item.image
            ready = image if isinstance(image, Tensor) else source.model.transform(image)
            read.inputs[number] = ready.float()
            if source.pictures:
                read.pictures[number] = picture_bytes(source.model, item)
            read.items[number] = item
        except Exception as error:
            # Decoders, somebody's data set, somebody's transform: it is told beside the image.
            LOG.debug("an item cannot be read", exc_info=True)
            read.items[number] = in_a_line(error)
    return read


def in_a_line(error: Exception) -> str:
    """One line; an error that is not this library's own is told with its kind."""
    text = str(error).strip().splitlines()
    first = text[0] if text else ""
    return (
        first if type(error).__module__.startswith("cam.") else f"{type(error).__name__}: {first}"
    )
