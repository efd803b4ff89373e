"""Test masked batches: memory, compiler, and arguments that do not fit."""

from dataclasses import replace
from unittest.mock import ANY

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cam.kernels.launch.launcher_parts import Launch
from cam.kernels.masking import launcher as triton_masks
from cam.kernels.masking import reference as reference_masks
from cam.kernels.masking import upsampling_kernel
from cam.kernels.masking.operation import masked_batch, ranked_batch, region_batch
from cam.kernels.masking.reference import Picture, Weights
from tests.support import memory_traffic
from tests.support.kernel_layers import DEVICE, distance, noise

interpreted = pytest.mark.skipif(DEVICE != "cpu", reason="watches Triton's interpreter")


LAST = pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])


def random(*shape):
    return torch.rand(*shape, device=DEVICE)


class Allocations(TorchDispatchMode):
    """Every storage that torch makes, by its address, in bytes."""

    def __init__(self):
        super().__init__()
        self.sizes = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.sizes[result.untyped_storage().data_ptr()] = result.untyped_storage().nbytes()
        return result


def picture(baseline=None, size=24):
    return Picture(noise(1, 3, size, size, seed=1).to(DEVICE), None, baseline, 0.0)


def masks(count, size=24, **options):
    values = random(count, 7, 7)
    return Weights("masks", values, size=(size, size), **options)


@pytest.fixture
def ran(monkeypatch):
    """The launches that ran, in their order."""
    launches = []
    real = Launch.run
    monkeypatch.setattr(Launch, "run", lambda launch: (launches.append(launch), real(launch)))
    return launches


@LAST
@pytest.mark.parametrize("stretch", [False, True])
def test_holds_no_upsampled_mask(stretch, channels_last):
    source, weights = picture(), masks(16, stretch=stretch)
    with Allocations() as allocated:
        launches, out = triton_masks.plan(
            source, weights, channels_last=channels_last, dtype=torch.float32
        )
        for launch in launches:
            launch.run()
    large = [nbytes for nbytes in allocated.sizes.values() if nbytes >= 16 * 24 * 24]
    assert large == [out.untyped_storage().nbytes()] == [16 * 3 * 24 * 24 * 4]
    allowed = {id(source.image), id(weights.values), id(out)}
    for launch in launches:
        for value in launch.arguments.values():
            if isinstance(value, torch.Tensor) and id(value) not in allowed:
                assert value.numel() < 24 * 24
    with Allocations() as allocated:
        reference_masks.masked_batch(source, weights)
    assert sum(nbytes >= 16 * 24 * 24 for nbytes in allocated.sizes.values()) > 1, "watches nothing"


@pytest.mark.parametrize(("stretch", "launches"), [(False, 1), (True, 2)])
def test_is_one_launch_and_one_more_to_stretch(stretch, launches, on_triton, ran):
    masked_batch(picture().image, masks(3).values, stretch=stretch)
    assert len(ran) == launches


def total(launches):
    return (
        sum(sum(launch.reads.values()) for launch in launches),
        sum(sum(launch.writes.values()) for launch in launches),
    )


def test_moves_what_its_docstring_says():
    n, c, size = 16, 3, 40
    image, blur = (torch.zeros(2, c, size, size, dtype=torch.bfloat16) for _ in range(2))
    owner = torch.zeros(n, dtype=torch.int32)
    source = Picture(image, owner, blur, 0.0)
    b = -(-size * size * 4 // 2048)
    options = {"channels_last": False, "dtype": torch.float32}
    shifts = torch.zeros(n, 2, dtype=torch.int64)
    cells = Weights("masks", torch.zeros(n, 7, 7), size=(100, 100), shifts=shifts)
    reads = n * size**2 * (c * 2 + c * 2 + 4 * 4) + n * b * (4 + 2 * 8)
    writes = n * size**2 * c * 4
    assert total(triton_masks.plan(source, cells, **options)[0]) == (reads, writes)
    p = -(-100 * 100 // 8192)
    reads += n * 4 * 4 * 100**2 + 8 * n * p * b
    writes += 8 * n * p
    assert total(triton_masks.plan(source, cells._replace(stretch=True), **options)[0]) == (
        reads,
        writes,
    )
    colour = Picture(image[:1], None, torch.zeros(c, 1, 1).expand(1, c, size, size), 0.0)
    whole = Weights("masks", torch.zeros(n, size, size), size=(size, size))
    reads = n * size**2 * (c * 2 + 4) + n * b * c * 4
    assert total(triton_masks.plan(colour, whole, **options)[0])[0] == reads
    labels = torch.zeros(2, size, size, dtype=torch.int64)
    regions = Weights("regions", torch.zeros(n, 9), labels, owner)
    reads = n * size**2 * (c * 2 + c * 2 + 4 + 8) + n * b * (4 + 4)
    assert total(triton_masks.plan(source, regions, **options)[0])[0] == reads
    ranks = Weights("ranks", owner, labels, owner)
    reads = n * size**2 * (c * 2 + c * 2 + 8) + n * b * (4 + 4 + 4)
    assert total(triton_masks.plan(source, ranks, **options)[0])[0] == reads


@LAST
def test_what_points_nowhere_reads_nothing_and_gives_nan(channels_last, road, monkeypatch, counted):
    monkeypatch.setattr(
        memory_traffic, "declared", lambda *_: ANY
    )  # fewer bytes than a full launch
    image, cells = random(2, 3, 6, 8), random(4, 3, 3)
    there = torch.tensor([0, 2, -1, 1], device=DEVICE)
    bad = [False, True, True, False]

    def check_nan(batch, bad):
        batch = batch.isnan().flatten(1)
        assert batch.any(1).tolist() == batch.all(1).tolist() == bad

    options = {"channels_last": channels_last}
    blur = random(2, 3, 6, 8)
    check_nan(masked_batch(image, cells, blur, owner=there, **options), bad)
    source = image[:1]
    for down, along in (([5, 0], [0, 5]), ([-1, 0], [0, -1])):
        shifts = torch.tensor([[0, 4], down, along, [4, 0]], device=DEVICE)
        check_nan(masked_batch(source, cells, 1.0, size=(10, 12), shifts=shifts, **options), bad)
    regions = torch.randint(5, (2, 6, 8), device=DEVICE)
    check_nan(region_batch(source, regions, random(4, 5), region_owner=there, **options), bad)
    check_nan(ranked_batch(source, regions, there, rank_owner=there, **options), bad)
    regions[0, 2, 3], regions[0, 3, 4] = 5, -1
    batch = region_batch(source, regions[0], random(1, 5), **options)
    assert batch[0, 1].isnan().nonzero().tolist() == [[2, 3], [3, 4]]


@LAST
@pytest.mark.parametrize("stretch", [False, True])
def test_an_output_has_the_same_bits_in_any_batch(stretch, channels_last, on_triton):
    image, cells, owner = (
        random(3, 3, 30, 31),
        random(4, 7, 7),
        torch.randint(3, (4,), device=DEVICE),
    )
    options = {"stretch": stretch, "channels_last": channels_last}
    together = masked_batch(image, cells, 0.3, owner=owner, **options)
    alone = [
        masked_batch(image[o], m[None], 0.3, **options) for o, m in zip(owner, cells, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


@interpreted
@LAST
def test_writes_past_two_to_the_31_elements(channels_last, monkeypatch):
    """Only the last program runs, and only its pages of the batch are ever touched."""
    from triton.runtime import interpreter

    source = picture(size=32)
    count = 2**31 // (3 * 32 * 32) + 5
    whole = torch.rand(1, 32, 32)
    weights = Weights("masks", whole.expand(count, -1, -1), size=(32, 32))
    (launch,), out = triton_masks.plan(
        source, weights, channels_last=channels_last, dtype=torch.float16
    )
    assert out.numel() > 2**31
    assert launch.grid == (count,)
    monkeypatch.setattr(
        interpreter.InterpreterBuilder,
        "set_grid_idx",
        lambda self, *_: setattr(self, "grid_idx", (count - 1, 0, 0)),
    )
    replace(launch, grid=(1,)).run()
    assert distance(out[-1], whole * source.image[0]) < 1e-3


def far(values, *strides):
    """The same values, in memory whose last element lies past 2³¹; only its own pages are real."""
    room = torch.empty_strided(values.shape, strides, dtype=torch.float16, device=DEVICE)
    last = sum((size - 1) * stride for size, stride in zip(values.shape, strides, strict=True))
    assert last > 2**31
    return room.copy_(values)


@LAST
def test_reaches_past_two_to_the_31_elements(channels_last, on_triton):
    image, cells, weights = noise(1, 3, 5, 8, seed=1).half(), random(2, 3, 3), random(2, 9)
    image, cells, weights = (tensor.to(DEVICE).half() for tensor in (image, cells, weights))
    regions = (torch.arange(40, device=DEVICE) % 9).view(5, 8)
    options = {"channels_last": channels_last}
    near = masked_batch(image, cells, image.flip(1), **options)
    wide = far(image, 1, 2**30 + 1, 8, 1)
    assert torch.equal(masked_batch(wide, cells, image.flip(1), **options), near)
    wide = far(image.flip(1), 1, 2**30 + 1, 8, 1)
    assert torch.equal(masked_batch(image, cells, wide, **options), near)
    for strides in ((1, 2**30 + 1, 2), (1, 4, 2**30 + 1)):
        assert torch.equal(
            masked_batch(image, far(cells, *strides), image.flip(1), **options), near
        )
    near = region_batch(image, regions, weights, **options)
    assert torch.equal(region_batch(image, regions, far(weights, 1, 2**28 + 1), **options), near)


@LAST
def test_indices_of_64_bits_reach_the_same_pixels(channels_last, on_triton, monkeypatch):
    """Images of more than 2³¹ elements are too large for a test; their indices are not."""
    image, blur, cells, whole = (
        random(2, *size) for size in ((3, 5, 8), (3, 5, 8), (3, 3), (5, 8))
    )
    regions, weights = torch.randint(9, (5, 8), device=DEVICE), random(2, 9)
    options = {"channels_last": channels_last}

    def write():
        return (
            masked_batch(image, cells, blur, stretch=True, **options),
            masked_batch(image, whole, **options),
            region_batch(image, regions, weights, blur, **options),
            ranked_batch(image, regions, torch.tensor([2, 5], device=DEVICE), **options),
        )

    near = write()
    monkeypatch.setattr(triton_masks, "INT32_LIMIT", 0)
    monkeypatch.setattr(upsampling_kernel, "INT32_LIMIT", 0)
    for wide, narrow in zip(write(), near, strict=True):
        assert torch.equal(wide, narrow)


@pytest.mark.parametrize("kind", ["masks", "regions", "ranks"])
def test_the_operator_keeps_torchs_rules(kind, road):
    image, owner = noise(2, 3, 8, 8, seed=1).to(DEVICE), torch.tensor([0, 1, 0], device=DEVICE)
    values = torch.rand(3, 4, 4, device=DEVICE)
    labels = torch.randint(4, (1, 8, 8), device=DEVICE)
    shifts = torch.tensor([[0, 1], [1, 1], [0, 0]], device=DEVICE)
    flags = False, False  # align_corners and stretch
    arguments = {
        "masks": (owner, None, 0.5, kind, values, None, None, (9, 9), shifts, True, True),
        "regions": (owner, image, 0.0, kind, values[:, 0], labels, None, (0, 0), None, *flags),
        "ranks": (owner, None, 0.0, kind, owner, labels, None, (0, 0), None, *flags),
    }[kind]
    operator = torch.ops.cam_kernels.masked_batch
    torch.library.opcheck(
        operator, (image, *arguments, kind == "ranks", kind == "masks", torch.bfloat16)
    )


@LAST
def test_compiles_as_part_of_a_whole(channels_last, road):
    image, cells = noise(1, 3, 8, 8, seed=1).to(DEVICE), torch.rand(3, 4, 4, device=DEVICE)

    def whole(image, cells):
        return masked_batch(image, cells, 0.3, stretch=True, channels_last=channels_last).relu()

    compiled = torch.compile(whole, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image, cells), whole(image, cells))


def test_computes_float64_in_float64():
    image, cells = noise(1, 3, 9, 8, seed=1).double(), torch.rand(2, 3, 4, dtype=torch.float64)
    batch = masked_batch(image, cells, (0.1, 0.2, 0.3))
    weight = torch.nn.functional.interpolate(cells.unsqueeze(1), (9, 8), mode="bilinear")
    baseline = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).view(3, 1, 1)
    assert batch.dtype == torch.float64
    assert distance(batch, baseline + weight * (image - baseline)) < 1e-14


def test_takes_float64_masks_of_other_images_on_the_same_road(road, ran):
    image, cells = noise(3, 9, 8, seed=1).to(DEVICE), torch.rand(2, 3, 4, dtype=torch.float64)
    batch = masked_batch(image, cells.to(DEVICE), torch.zeros(3, dtype=torch.float64).to(DEVICE))
    assert len(ran) == (road == "triton")
    assert torch.equal(batch, masked_batch(image, cells.float().to(DEVICE)))


def test_does_not_belong_to_a_graph(road):
    image, cells = noise(3, 9, 8, seed=1).to(DEVICE), torch.rand(2, 3, 4, device=DEVICE)
    assert not masked_batch(image.requires_grad_(), cells.requires_grad_(), image).requires_grad


IMAGE, CELLS, LABELS = torch.zeros(3, 4, 6), torch.zeros(5, 2, 2), torch.zeros(4, 6).long()
FIVE = torch.zeros(5).long()


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((IMAGE[0], CELLS), {}, r"image must be \(C, H, W\) or \(B, C, H, W\), .* \(4, 6\)"),
        ((IMAGE[:0], CELLS), {}, "image must hold at least one element"),
        ((IMAGE.long(), CELLS), {}, "image must be float32"),
        ((IMAGE, CELLS[0]), {}, r"masks must be \(N, h, w\) .* \(2, 2\)"),
        ((IMAGE, CELLS[:0]), {}, r"masks must be \(N, h, w\) .* \(0, 2, 2\)"),
        ((IMAGE, CELLS.long()), {}, "dtype of masks must be one of .*, but is torch.int64"),
        ((IMAGE, CELLS.to("meta")), {}, "masks must be on the device of the image, cpu"),
        ((IMAGE, CELLS), {"size": (4, 5)}, r"size must be at least the image's, \(4, 6\)"),
        ((IMAGE, CELLS), {"size": (5, 6)}, "shifts must say where each mask is cut"),
        ((IMAGE, CELLS), {"shifts": FIVE}, r"shifts must be \(5, 2\) integers"),
        ((IMAGE, CELLS), {"shifts": torch.zeros(5, 2)}, "dtype of shifts must be one of int64"),
        ((IMAGE, CELLS), {"owner": FIVE[:4]}, r"owner must be \(5,\) integers"),
        ((IMAGE, CELLS), {"dtype": torch.int8}, "dtype must be float32"),
        ((IMAGE.expand(2, 3, 4, 6), CELLS), {}, "2 images for 5 outputs, so owner must say"),
        ((IMAGE, CELLS, torch.zeros(2)), {}, r"baseline must be one number a channel .* \(2,\)"),
        ((IMAGE, CELLS, (1, 2)), {}, "baseline must be one number a channel"),
        ((IMAGE, CELLS, torch.zeros(3, 4, 5)), {}, r"baseline .* \(1, 3, 4, 6\)"),
        ((IMAGE, CELLS, torch.zeros(2, 3, 4, 6)), {}, "baseline must"),
        ((IMAGE, CELLS, FIVE[:3]), {}, "dtype of baseline must be one of float32"),
        ((IMAGE, CELLS, torch.zeros(3).to("meta")), {}, "baseline must be on the device"),
    ],
)
def test_says_what_is_wrong_with_masks(arguments, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        masked_batch(*arguments, **options)


@pytest.mark.parametrize(
    ("function", "arguments", "options", "sentence"),
    [
        (region_batch, (LABELS[0], CELLS[0]), {}, r"regions must be \(H, W\) or \(K, H, W\)"),
        (region_batch, (LABELS.T, CELLS[0]), {}, r"for an image of \(4, 6\), .* \(6, 4\)"),
        (region_batch, (LABELS.float(), CELLS[0]), {}, "dtype of regions must be one of int64"),
        (region_batch, (LABELS, CELLS), {}, r"weights must be \(N, R\)"),
        (region_batch, (LABELS.expand(3, 4, 6), CELLS[0]), {}, "3 maps of regions for 2 outputs"),
        (ranked_batch, (LABELS.expand(3, 4, 6), FIVE), {}, "so rank_owner must say"),
        (ranked_batch, (LABELS, FIVE), {"rank_owner": FIVE[:2]}, r"rank_owner must be \(5,\)"),
        (ranked_batch, (LABELS, FIVE.float()), {}, "dtype of counts must be one of"),
        (ranked_batch, (LABELS, LABELS), {}, r"counts must be \(N,\)"),
        (ranked_batch, (LABELS, FIVE[:0]), {}, r"counts must be \(N,\) with at least one"),
    ],
)
def test_says_what_is_wrong_with_labels(function, arguments, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        function(IMAGE, *arguments, **options)
