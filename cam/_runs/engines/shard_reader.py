"""Read a shard's items and make the model's inputs and thumbnails."""

import io
import logging
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cam._data.dataset import Dataset, Item
from cam._models.model import Model
from cam._models.preprocessing import crop_to_input, mean_and_std
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.store import Range

# Side and quality of the stored pictures: enough to recognise one in a report.
PICTURE, QUALITY = 160, 80
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
        """Take what reading needs of a plan."""
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

    def item(self, number: int) -> Item:
        """Return an item that could be read."""
        item = self.items[number]
        assert isinstance(item, Item)
        return item


def read_shard(source: Source, shard: Range) -> Read:
    """Read and preprocess a shard's items, on the processor only."""
    read = Read(shard, {}, {}, {})
    for number in range(*shard):
        try:
            item = source.data[number]
            image = item.image
            ready = image if isinstance(image, Tensor) else source.model.transform(image)
            read.inputs[number] = ready.float()
            if source.pictures:
                read.pictures[number] = make_thumbnail(source.model, item)
            read.items[number] = item
        except Exception as error:
            # Decoders, somebody's data set or transform: the reason stands beside the image.
            LOG.debug("an item cannot be read", exc_info=True)
            read.items[number] = describe_error(error)
    return read


def describe_error(error: Exception) -> str:
    """Describe an error in one line, with its kind if foreign."""
    text = (str(error).strip() or "\n").splitlines()[0]
    ours = type(error).__module__.startswith("cam.")
    return text if ours else f"{type(error).__name__}: {text}"


def crop_mask(transform: object, mask: np.ndarray, size: tuple[int, int]) -> Tensor | None:
    """Crop and scale a picture's mask as the model does the picture.

    Args:
        transform: The model's.
        mask: (H, W) bool at the picture's size.
        size: (h, w) of the input.

    Returns:
        (h, w) bool, where at least half of a pixel's area was; None where the transform's geometry
        cannot be read.
    """
    part = crop_to_input(transform, Image.fromarray(mask.astype(np.uint8) * 255))
    if part is None:
        return None
    scaled = part.resize((size[1], size[0]), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(scaled) >= 128)


def make_thumbnail(model: Model, item: Item) -> bytes:
    """Make a small JPEG of what the model sees."""
    if isinstance(item.image, Tensor):
        mean, std = (torch.tensor(values) for values in mean_and_std(model.transform))
        pixels = item.image.float().cpu().movedim(0, -1) * std + mean
        levels = (pixels.nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)
        image = Image.fromarray(levels.numpy())
    else:
        image = model.crop(item.image)
    image.thumbnail((PICTURE, PICTURE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
