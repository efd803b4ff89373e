"""What the check on a GPU measures: the shapes and sizes of a real run, and tiny ones to rehearse.

The rehearsal runs every line but CUDA's own on a CPU, so that the first call on a rented GPU is
not the first call of the program.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}
CONVNET = ("channels-last", "contiguous")


@dataclass(frozen=True)
class Plane:
    """A layer whose activations are (B, channels, side, side)."""

    name: str
    channels: int
    side: int
    layouts: tuple[str, ...] = CONVNET

    def __str__(self) -> str:
        return f"{self.name} {self.channels}×{self.side}×{self.side}"


@dataclass(frozen=True)
class Cell:
    """One input of the tails: a layer, a batch, a dtype and a layout."""

    plane: Plane
    batch: int
    dtype: str
    layout: str

    def __str__(self) -> str:
        return f"{self.plane}, B = {self.batch}, {self.dtype}, {self.layout}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, C, h, w)."""
        return (self.batch, self.plane.channels, self.plane.side, self.plane.side)

    @property
    def input_bytes(self) -> int:
        """Activations and gradients together."""
        return 2 * torch.Size(self.shape).numel() * DTYPES[self.dtype].itemsize

    def floor_bytes(self, rules: int) -> int:
        """The least that has to move: both inputs read once, a float32 map a rule written."""
        return self.input_bytes + self.batch * rules * self.plane.side**2 * 4


@dataclass(frozen=True)
class Plan:
    """Everything that differs between a real run and a rehearsal."""

    planes: tuple[Plane, ...]
    # Each in order of importance, because the time may end before the list does.
    batches: tuple[int, ...]
    dtypes: tuple[str, ...]
    copy_bytes: int  # of the copy that measures the bandwidth
    pictures: tuple[tuple[int, int], ...]  # (B, side) of overlays and gradient maps
    masks: tuple[tuple[int, int], ...]  # (N, side) of masked batches
    network: str  # of torchvision; it is explained at its "layer4"
    network_batch: int
    network_side: int
    rounds: int  # of the network's runs
    warm_up: int  # rounds before them that do not count
    precisions: tuple[str, ...]
    photos: tuple[str, ...]  # of cam.samples()
    tests: tuple[str, ...]  # what pytest is given
    seconds: float  # of the timed runs of one measurement

    def cells(self) -> list[Cell]:
        """Every input, the telling ones first, so that an early stop leaves a sensible table.

        Cells are sorted by how far their batch, dtype and layout stand from the first of their
        kind, all together; the layers take turns within that.
        """
        ranked = sorted(self._ranked(), key=lambda pair: pair[0])
        return [cell for _, cell in ranked]

    def _ranked(self) -> Iterator[tuple[int, Cell]]:
        for (i, batch), (j, dtype) in itertools.product(
            enumerate(self.batches), enumerate(self.dtypes)
        ):
            for plane in self.planes:
                for k, layout in enumerate(plane.layouts):
                    yield i + j + k, Cell(plane, batch, dtype, layout)


FULL = Plan(
    planes=(
        Plane("ResNet-50 layer4", 2048, 7),
        Plane("ResNet-50 layer3", 1024, 14),
        Plane("ViT-B/16 tokens", 768, 14, ("tokens",)),
        Plane("ConvNeXt-T stage 4", 768, 7),
        Plane("VGG16 features", 512, 7),
        Plane("VGG16 before the pool", 512, 14),
    ),
    batches=(64, 1, 256, 8),
    dtypes=("bf16", "fp32", "fp16"),
    copy_bytes=2**30,
    pictures=((64, 224), (1, 224), (16, 1024)),
    masks=((64, 224), (256, 224)),
    network="resnet50",
    network_batch=64,
    network_side=224,
    rounds=10,
    warm_up=3,
    precisions=("bf16", "fp32", "fp16", "tf32"),
    photos=("chelsea", "coffee", "rocket", "motorcycle_left"),
    # What tests/kernels/test_compile.py proves needs no device, and it takes a minute.
    tests=("tests/kernels", "--ignore=tests/kernels/test_compile.py"),
    seconds=0.03,
)

REHEARSAL = Plan(
    planes=(Plane("convnet", 6, 5), Plane("tokens", 8, 4, ("tokens",))),
    batches=(1,),
    dtypes=("bf16", "fp32"),
    copy_bytes=2**20,
    pictures=((1, 32),),
    masks=((2, 32),),
    network="resnet18",
    network_batch=1,
    network_side=64,
    rounds=1,
    warm_up=0,
    precisions=("bf16", "tf32"),  # a CPU takes seconds for a picture in fp16
    photos=("chelsea",),
    tests=("tests/kernels/test_dispatch.py", "-k", "environment or device"),
    seconds=0.002,
)
