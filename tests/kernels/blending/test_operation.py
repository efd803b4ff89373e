"""Test overlay against matplotlib, and against bilinear sampling in float64."""

from typing import NamedTuple

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cam import kernels
from cam.kernels.blending import reference as reference_overlay
from cam.kernels.blending.colormaps import FILE, colormap_table
from tests.support.kernel_layers import DEVICE, DTYPES, MARGIN, lay_out
from tests.support.make_colormaps import NAMES

DIVERGING = ("coolwarm", "RdBu_r", "seismic")


def pictures(b, h, w, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (b, h, w, 3), generator=generator, dtype=torch.uint8).to(DEVICE)


def heat(b, h, w, seed=1):
    return torch.rand(b, h, w, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def painted(name, values):
    """What matplotlib makes of values in float32, as bytes."""
    return matplotlib.colormaps[name](values, bytes=True)[..., :3]


def bilinear64(values, height, width, pixel_numbers=None):
    """Sample (h, w) at the pixel centres of (height, width), or of the pixels given, edges held."""
    for axis, size in enumerate((height, width)):
        old = values.shape[axis]
        pixels = np.arange(size) if pixel_numbers is None else pixel_numbers[axis]
        at = np.clip((pixels + 0.5) * old / size - 0.5, 0, old - 1)
        below = np.floor(at).astype(int)
        above = np.minimum(below + 1, old - 1)
        share = (at - below).reshape((-1, 1) if axis == 0 else (1, -1))
        values = values.take(below, axis) * (1 - share) + values.take(above, axis) * share
    return values


def assert_true(blended, image, sampled, colormap, alpha, threshold=0, signed=False, same=False):
    """Every byte of one picture against values in float64.

    Where a value lies so near to the edge between two answers that float32 may fall to either, one
    of both must be there. With `same` nothing was sampled, and what lies right on an edge is above.
    """
    blended, image = (part.cpu().numpy().astype(float) for part in (blended, image))
    inside = np.clip(sampled, -1 if signed else 0, 1)
    steps = (inside + 1) * 128 if signed else inside * 256
    margin = np.where(same & (steps == np.round(steps)), 0, 2e-3)
    above = np.abs(inside) - threshold
    errors = [np.where((above < 1e-5) & (threshold > 0), np.abs(blended - image).max(-1), np.inf)]
    for near in (steps - margin, steps + margin):
        colour = painted(colormap, np.clip(near, 0, 255).astype(int)).astype(float)
        error = np.abs(blended - (1 - alpha) * image - alpha * colour).max(-1)
        errors.append(np.where(above > -1e-5, error, np.inf))
    # alpha is taken to the nearest of 65,536 steps.
    assert np.min(errors, axis=0).max() <= 0.5 + 255 / 2**17


def test_the_tables_are_matplotlibs():
    lines = dict(line.split(" ") for line in FILE.read_text().splitlines())
    assert tuple(lines) == kernels.COLORMAPS == NAMES
    for name in kernels.COLORMAPS:
        table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
        assert lines[name] == table.tobytes().hex()
        assert np.array_equal(colormap_table(name).numpy(), table)


def test_a_table_is_read_once():
    assert colormap_table("jet") is colormap_table("jet")


@pytest.mark.parametrize(
    ("name", "signed"),
    [(name, False) for name in kernels.COLORMAPS] + [(name, True) for name in DIVERGING],
)
def test_colours_as_matplotlib_does(name, signed, road):
    edges = torch.arange(257, dtype=torch.float32) / 256
    values = torch.cat(
        [edges, edges.nextafter(torch.tensor(-1.0)).clamp(min=0), heat(1, 1, 500)[0, 0].cpu()]
    )
    norm = matplotlib.colors.Normalize(0, 1)
    if signed:
        values, norm = values * 2 - 1, matplotlib.colors.Normalize(-1, 1)
    values = values.view(1, 1, -1)
    images = torch.zeros(1, 1, values.shape[-1], 3, dtype=torch.uint8)
    blended = kernels.overlay(images.to(DEVICE), values.to(DEVICE), name, 1, signed=signed)
    assert np.array_equal(blended.cpu().numpy(), painted(name, norm(values.numpy())))


@pytest.mark.parametrize("alpha", [0, 0.25, 0.5, 1])
def test_blends(alpha, road):
    images, heatmaps = pictures(2, 9, 7), heat(2, 9, 7)
    blended = kernels.overlay(images, heatmaps, "viridis", alpha)
    colour = painted("viridis", heatmaps.cpu().numpy()).astype(float)
    truth = np.round((1 - alpha) * images.cpu().numpy() + alpha * colour)  # exact: a power of two
    assert blended.dtype == torch.uint8
    assert np.array_equal(blended.cpu().numpy(), truth)


@pytest.mark.parametrize("alpha", [0.5, 0.75, 2**-16, 1 - 2**-16, 0.1, 1 / 3])
def test_rounds_every_pair_of_bytes_right(alpha, road):
    """Every fifth of the old bytes with each of the 256 colours, in whole numbers."""
    old, index = np.meshgrid(np.arange(0, 256, 5), np.arange(256), indexing="ij")
    images = torch.from_numpy(old.astype(np.uint8))[None, ..., None].repeat(1, 1, 1, 3).to(DEVICE)
    heatmaps = torch.from_numpy(index / 256)[None].float().to(DEVICE)
    blended = kernels.overlay(images, heatmaps, "gray", alpha)
    steps = round(alpha * 2**16)
    whole = old * (2**16 - steps) + painted("gray", index)[..., 1].astype(int) * steps
    truth = np.round(whole / 2**16)  # halves to even
    assert np.array_equal(blended[0, ..., 1].cpu().numpy(), truth)


@pytest.mark.parametrize("size", [(4, 6), (7, 7), (1, 1), (30, 50)])
def test_brings_heatmaps_to_the_size_of_the_images(size, road):
    """In gray the table is the identity, so the picture shows what was sampled."""
    images, heatmaps = pictures(2, 23, 31), heat(2, *size)
    blended = kernels.overlay(images, heatmaps, "gray", alpha=1)
    for picture, values in zip(blended.cpu().numpy(), heatmaps.double().cpu().numpy(), strict=True):
        sampled = bilinear64(values, 23, 31) * 256
        clear = np.abs(sampled - np.round(sampled)) > 1e-3  # float32 may fall beside an edge
        assert clear.mean() > 0.9 or size == (1, 1)
        index = np.minimum(sampled.astype(int), 255)
        assert np.array_equal(picture[clear], painted("gray", index)[clear])


@pytest.mark.parametrize(
    ("small", "large"),
    [((7, 7), (224, 224)), ((14, 20), (97, 331)), ((30, 50), (23, 31)), ((1, 3), (5, 500))],
)
def test_samples_as_interpolate_does(small, large):
    """The reference's own sampling, which the kernel is held to byte by byte, against torch's."""
    values = heat(2, *small)
    blended = reference_overlay.upsample(values, *large)
    peer = torch.nn.functional.interpolate(
        values[:, None], size=large, mode="bilinear", align_corners=False
    )[:, 0]
    # torch fuses products and sums, and some sizes take another of its kernels.
    assert (blended - peer).abs().max() < 4e-6


class Case(NamedTuple):
    """One call; a picture of W = 4 n is walked in quads, and one of 16 n pixels has no tail."""

    shape: tuple[int, int, int]  # B, H, W
    size: tuple[int, int]  # h, w
    dtype: str = "fp32"
    layout: str = "contiguous"
    options: tuple = ("turbo", 0.5, 0.0, False)

    def __str__(self):
        sizes = "x".join(map(str, (*self.shape, *self.size)))
        return f"{sizes}-{self.dtype}-{self.layout}-{self.options[0]}"

    def tensors(self):
        values = heat(self.shape[0], *self.size) * 1.2 - 0.1
        if self.options[3]:
            values = values * 2 - 1
        return pictures(*self.shape), lay_out(values[:, None], self.layout, DTYPES[self.dtype])[
            :, 0
        ]


HIDING = ("viridis", 0.3, 0.4, False)
SIGNED = ("RdBu_r", 0.75, 0.0, True)
SIGNED_HIDING = ("seismic", 1.0, 0.3, True)
COVER = [
    Case((1, 1, 1), (1, 1)),
    Case((5, 3, 3), (7, 7), "fp16", "every-other-image", SIGNED),
    Case((2, 24, 40), (7, 7), "bf16"),
    Case((2, 24, 40), (24, 40), "fp32", "every-other-channel", SIGNED_HIDING),
    Case((1, 45, 52), (14, 14), "fp16", "transposed", HIDING),  # two programs, quads and a tail
    Case((2, 33, 35), (33, 35), "bf16", "cropped", HIDING),
    Case((3, 23, 31), (13, 17), "fp32", "every-other-column", SIGNED_HIDING),
    Case((700, 1, 3), (2, 2), "fp32", "contiguous", HIDING),  # a program meets hundreds of images
    Case((1, 1, 2100), (1, 5), "bf16", "contiguous", SIGNED),
    Case((2, 9, 12), (30, 50), "fp32", "channels-last"),
]
GRID = [
    Case((b, h, w), size, dtype, layout, options)
    for b, h, w, same in (
        (1, 224, 224, False), (3, 112, 112, True), (2, 99, 101, True), (5, 41, 43, False),
        (2, 64, 6, False), (9, 16, 15, True),
    )
    for size in ((h, w),) * same + ((1, 1), (7, 7), (14, 14), (13, 17), (200, 150))
    for dtype, layout, options in (
        ("fp32", "contiguous", ("turbo", 0.5, 0.0, False)), ("bf16", "cropped", SIGNED_HIDING),
        ("fp16", "every-other-channel", HIDING),
    )
]  # fmt: skip


@pytest.fixture
def poisoned(monkeypatch):
    """Fill the bytes that `torch.empty` gives, and watch those around them."""
    real = torch.empty
    storages = []

    def empty(*size, **options):
        allocated = real(*size, **options)
        if allocated.dtype != torch.uint8:
            return allocated
        storage = real(allocated.numel() + 2 * MARGIN, **options).fill_(0xA5)
        storages.append(storage)
        return storage[MARGIN:-MARGIN].view(allocated.shape)

    monkeypatch.setattr(torch, "empty", empty)
    yield
    for storage in storages:
        assert (storage[:MARGIN] == 0xA5).all(), "written before the start"
        assert (storage[-MARGIN:] == 0xA5).all(), "written past the end"


def check(case):
    images, heatmaps = case.tensors()
    blended = kernels.overlay(images, heatmaps, *case.options)
    values = heatmaps.double().cpu().numpy()
    same = case.size == case.shape[1:]
    for index in range(min(case.shape[0], 9)):
        sampled = bilinear64(values[index], *case.shape[1:])
        assert_true(blended[index], images[index], sampled, *case.options, same=same)
    return blended


def check_both(case, monkeypatch):
    monkeypatch.setenv("CAM_KERNELS", "triton")
    by_triton = check(case)
    monkeypatch.setenv("CAM_KERNELS", "reference")
    assert torch.equal(by_triton, check(case))


@pytest.mark.parametrize("case", COVER, ids=str)
def test_equals_float64_and_both_roads_agree_in_every_byte(case, monkeypatch, poisoned, counted):
    check_both(case, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("case", GRID, ids=str)
def test_equals_float64_on_the_whole_grid(case, monkeypatch, poisoned, counted):
    check_both(case, monkeypatch)


sides = st.integers(1, 20)


def both_roads_agree(monkeypatch, batch, sizes, dtype, layout, options, seed):
    images, values = pictures(batch, *sizes[:2], seed=seed), heat(batch, *sizes[2:], seed=seed)
    values = values * 2.4 - 1.2  # beyond both ends
    heatmaps = lay_out(values[:, None], layout, DTYPES[dtype])[:, 0]
    by_backend = []
    for road in ("triton", "reference"):
        monkeypatch.setenv("CAM_KERNELS", road)
        by_backend.append(kernels.overlay(images, heatmaps, *options))
    assert torch.equal(*by_backend)


ANY = given(
    batch=st.integers(1, 3),
    sizes=st.tuples(sides, sides, sides, sides),
    dtype=st.sampled_from(list(DTYPES)),
    layout=st.sampled_from(["contiguous", "cropped", "transposed", "every-other-image"]),
    options=st.tuples(
        st.sampled_from(kernels.COLORMAPS), st.floats(0, 1), st.floats(0, 1), st.booleans()
    ),
    seed=st.integers(0, 9),
)
ONE_FIXTURE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=12, derandomize=True, **ONE_FIXTURE)
@ANY
def test_both_roads_agree_on_any_call(monkeypatch, **call):
    both_roads_agree(monkeypatch, **call)


@pytest.mark.slow
@settings(max_examples=150, **ONE_FIXTURE)
@ANY
def test_both_roads_agree_on_many_calls(monkeypatch, **call):
    both_roads_agree(monkeypatch, **call)


def test_leaves_the_image_where_the_heatmap_is_nan(road):
    images, heatmaps = pictures(2, 5, 5), heat(2, 5, 5)
    whole = kernels.overlay(images, heatmaps)
    heatmaps[0, 1, 2] = torch.nan
    heatmaps[1] = torch.nan
    blended = kernels.overlay(images, heatmaps)
    assert torch.equal(blended[1], images[1])
    assert torch.equal(blended[0, 1, 2], images[0, 1, 2])
    blended[0, 1, 2] = whole[0, 1, 2]
    assert torch.equal(blended[0], whole[0])


@pytest.mark.parametrize(("threshold", "signed"), [(0, True), (0.2, False), (0.2, True)])
def test_nan_hides_with_every_option(threshold, signed, road):
    images = pictures(1, 1, 1)
    unknown = torch.full((1, 1, 1), torch.nan, device=DEVICE)
    blended = kernels.overlay(images, unknown, threshold=threshold, signed=signed)
    assert torch.equal(blended, images)


def test_takes_the_nearer_end_outside_the_range(road):
    images = pictures(1, 1, 4)
    beyond = torch.tensor([[[-0.5, 1.5, -torch.inf, torch.inf]]], device=DEVICE)
    for ends, signed in (([0.0, 1.0, 0.0, 1.0], False), ([-0.5, 1.0, -1.0, 1.0], True)):
        inside = torch.tensor([[ends]], device=DEVICE)
        blended = kernels.overlay(images, beyond, signed=signed)
        assert torch.equal(blended, kernels.overlay(images, inside, signed=signed))


UNDER_07 = float(torch.tensor(0.7).nextafter(torch.tensor(0.0)))


@pytest.mark.parametrize(
    ("threshold", "signed", "values", "visible"),
    [
        # 0 hides nothing, not even what lies below the range.
        (0, False, [-1, -1e-30, 0, 1], [1, 1, 1, 1]),
        (0, True, [-1, -1e-30, 0, 1], [1, 1, 1, 1]),
        (1e-37, False, [-1, -1e-30, 0, 1], [0, 0, 0, 1]),
        (1e-50, False, [-1, -1e-30, 0, 1], [1, 1, 1, 1]),  # 0 as a float32
        # The threshold itself is shown, as the float32 next to it.
        (0.7, False, [0.7, UNDER_07, -0.9, 5], [1, 0, 0, 1]),
        (0.7, True, [-0.7, -UNDER_07, 0, -5], [1, 0, 0, 1]),
        # 1 shows the ends alone.
        (1, False, [1, 0.999, 7, torch.inf], [1, 0, 1, 1]),
        (1, True, [1, -1, -0.999, -torch.inf], [1, 1, 0, 1]),
    ],
)
def test_hides_what_is_below_the_threshold(threshold, signed, values, visible, road):
    images = pictures(1, 1, 4)
    heatmaps = torch.tensor([[values]], device=DEVICE)
    blended = kernels.overlay(images, heatmaps, "turbo", 1, threshold, signed)
    whole = kernels.overlay(images, heatmaps, "turbo", 1, signed=signed)
    mask = torch.tensor(visible, device=DEVICE).bool()
    assert torch.equal(blended, torch.where(mask.view(1, 1, 4, 1), whole, images))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_zero_of_a_signed_heatmap_takes_the_colour_in_the_middle(dtype, road):
    images, heatmaps = pictures(1, 2, 2), torch.zeros(1, 2, 2, dtype=dtype, device=DEVICE)
    blended = kernels.overlay(images, heatmaps, "seismic", 1, signed=True)
    assert (blended.cpu().numpy() == painted("seismic", np.array([128]))).all()


def test_float64_is_read_as_float32(road):
    images, heatmaps = pictures(2, 9, 7), heat(2, 5, 4)
    assert torch.equal(
        kernels.overlay(images, heatmaps.double()), kernels.overlay(images, heatmaps)
    )


def test_leaves_its_arguments_alone(road):
    images, heatmaps = pictures(1, 5, 5), heat(1, 3, 3)
    before = images.clone(), heatmaps.clone()
    kernels.overlay(images, heatmaps).zero_()
    assert torch.equal(images, before[0])
    assert torch.equal(heatmaps, before[1])


def test_does_not_belong_to_a_graph(road):
    assert not kernels.overlay(pictures(1, 5, 5), heat(1, 3, 3).requires_grad_()).requires_grad


@pytest.mark.parametrize(
    "layout",
    {
        "channels first": lambda images: (
            images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        ),
        "mirrored": lambda images: images.flip(2).contiguous()[:, :, torch.arange(6, -1, -1)],
        "cropped": lambda images: torch.nn.functional.pad(images, (0, 0, 2, 3))[:, :, 2:-3],
        "at an odd address": lambda images: torch.cat([images[:1], images])[1:],
    }.items(),
    ids=lambda layout: layout[0],
)
def test_takes_images_of_any_layout(layout, road):
    images, heatmaps = pictures(3, 5, 7), heat(3, 3, 3)
    placed = layout[1](images)
    assert torch.equal(placed, images)
    assert torch.equal(kernels.overlay(placed, heatmaps), kernels.overlay(images, heatmaps))


@pytest.mark.parametrize("size", [(19, 23), (5, 4)])
def test_gives_an_image_the_same_bytes_in_any_batch(size, road):
    images, heatmaps = pictures(6, 19, 23), heat(6, *size)  # 437 pixels each: two programs
    together = kernels.overlay(images, heatmaps)
    for index in (0, 3, 5):
        alone = kernels.overlay(images[index : index + 1], heatmaps[index : index + 1])
        assert torch.equal(together[index : index + 1], alone)


IMAGE, HEAT = torch.zeros(1, 4, 4, 3, dtype=torch.uint8), torch.zeros(1, 2, 2)


@pytest.mark.parametrize(
    ("images", "heatmaps", "options", "sentence"),
    [
        (IMAGE.float(), HEAT, {}, r"images must be uint8 of shape \(B, H, W, 3\)"),
        (IMAGE.permute(0, 3, 1, 2), HEAT, {}, r"of shape \(1, 3, 4, 4\)"),
        (IMAGE, HEAT[0], {}, r"floating point of shape \(B, h, w\)"),
        (IMAGE, HEAT.int(), {}, "heatmaps must be floating point"),
        (IMAGE, HEAT.expand(2, 2, 2), {}, "2 heatmaps and 1 images"),
        (IMAGE, HEAT[:, :0], {}, "at least one pixel"),
        (IMAGE, HEAT[:, :1].expand(1, 2**30 + 1, 2), {}, "1,073,741,824 pixels a side"),
        (IMAGE, HEAT.to("meta"), {}, "on the device of the images, cpu, not on meta"),
        (IMAGE, HEAT, {"colormap": "turbo2"}, "Did you mean 'turbo'"),
        (IMAGE, HEAT, {"alpha": 1.5}, "between 0 and 1, but is 1.5"),
        (IMAGE, HEAT, {"alpha": float("nan")}, "between 0 and 1, but is nan"),
        (IMAGE, HEAT, {"threshold": -0.1}, "threshold must lie between 0 and 1, but is -0.1"),
        (IMAGE, HEAT, {"threshold": float("nan")}, "threshold must .* but is nan"),
        (IMAGE, HEAT, {"threshold": float("inf")}, "threshold must .* but is inf"),
        (IMAGE, HEAT, {"signed": "no"}, "signed must be True or False, but is 'no'"),
        (IMAGE, HEAT, {"signed": None}, "signed must be True or False, but is None"),
    ],
)
def test_says_what_is_wrong(images, heatmaps, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        kernels.overlay(images, heatmaps, **options)
