"""masked_batch, region_batch and ranked_batch: float64, peers, cases by hand, and promises."""

import itertools
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from cam.kernels.masking.operation import masked_batch, ranked_batch, region_batch
from tests.support.kernel_layers import DEVICE, DTYPES, LAYOUTS, distance, lay_out, noise

F32, F16, BF16 = DTYPES.values()
interpreted = pytest.mark.skipif(DEVICE != "cpu", reason="watches Triton's interpreter")
quiet = pytest.mark.filterwarnings(
    "ignore:invalid value:RuntimeWarning"
)  # numpy, in the interpreter


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def images(b, c, h, w, dtype=F32, layout="contiguous", seed=1):
    return lay_out(noise(b, c, h, w, seed=seed), layout, dtype)


def integers(high, *shape, seed=0, dtype=torch.int64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(high, shape, generator=generator).to(DEVICE, dtype)


def along(cells, size, align_corners):
    """One axis of bilinear interpolation as a matrix (size, cells), in float64."""
    at = np.arange(size, dtype=np.float64)
    if align_corners:
        source = at * (cells - 1) / (size - 1) if size > 1 else at * 0
    else:
        source = (at + 0.5) * cells / size - 0.5
    # A hat around each cell's centre; beyond the outermost centres the outermost cell.
    distance_to = np.abs(source.clip(0, cells - 1)[:, None] - np.arange(cells))
    return torch.from_numpy((1 - distance_to).clip(0))


def upsampled64(masks, size, align_corners=False, stretch=False):
    masks = masks.double().cpu()
    if tuple(masks.shape[1:]) != tuple(size):
        rows, columns = (
            along(n, m, align_corners) for n, m in zip(masks.shape[1:], size, strict=True)
        )
        masks = rows @ masks @ columns.T
    if stretch:
        low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
        masks = (masks - low) / (high - low + 1e-8)
    return masks


def blend64(image, weight, baseline=None, owner=None):
    """The equation as it stands in the paper, (N, C, H, W)."""
    count = weight.shape[0]
    image = image.double().cpu()
    base = torch.zeros_like(image) if baseline is None else baseline.double().cpu().expand_as(image)
    which = torch.zeros(count, dtype=torch.int64) if len(image) == 1 else torch.arange(count)
    which = which if owner is None else owner.long().cpu()
    weight = weight.double().cpu().unsqueeze(1)
    return base[which] + weight * (image[which] - base[which])


BASELINES = {
    "none": lambda c, h, w: None,
    "number": lambda c, h, w: 0.4,
    "colours": lambda c, h, w: tuple(0.1 * i - 0.2 for i in range(c)),
    "colour tensor": lambda c, h, w: noise(c, seed=5).to(DEVICE),
    "one an image": lambda c, h, w: noise(3, c, 1, 1, seed=5).to(DEVICE),
    "blur": lambda c, h, w: images(3, c, h, w, layout="channels-last", seed=6),
    "blur of one": lambda c, h, w: images(1, c, h, w, BF16, seed=6)[0],
}
COVER = [
    # image's layout, its dtype, batch's dtype, channels last, (C, H, W), (h, w), size, baseline,
    # align_corners, stretch
    ("contiguous", F32, F32, False, (3, 24, 32), (7, 7), None, "none", False, False),
    ("channels-last", F32, F32, True, (3, 24, 32), (7, 7), (28, 40), "number", False, False),
    ("channels-last", BF16, BF16, True, (3, 33, 40), (5, 4), None, "blur", True, True),
    ("contiguous", F16, F16, False, (3, 13, 17), (13, 17), None, "colours", False, False),
    ("contiguous", F32, F16, True, (4, 14, 14), (7, 7), (20, 14), "colour tensor", True, True),
    (
        "every-other-column",
        BF16,
        F32,
        False,
        (1, 30, 30),
        (3, 9),
        None,
        "one an image",
        False,
        True,
    ),
    ("cropped", F32, BF16, True, (1, 9, 8), (1, 1), None, "blur of one", False, False),
    ("transposed", F32, BF16, False, (5, 8, 9), (16, 18), (16, 18), "blur", False, True),
    ("contiguous", F32, F32, False, (2, 1, 1), (3, 3), None, "blur of one", True, False),
    ("every-other-image", F16, F32, True, (2, 40, 3), (50, 60), None, "none", False, False),
]
GRID = [
    (*layouts, shape, masks, size, baseline, align, stretch)
    for layouts, shape, masks, (baseline, size), (align, stretch) in itertools.product(
        (
            ("contiguous", F32, F32, False),
            ("channels-last", F32, F32, True),
            ("channels-last", BF16, BF16, False),
            ("contiguous", F16, F16, True),
        ),
        ((1, 1, 1), (3, 7, 7), (3, 13, 17), (4, 14, 14), (3, 40, 56), (3, 112, 112)),
        ((1, 1), (7, 7), (50, 60)),
        (("none", None), ("colours", (120, 130)), ("blur", None)),
        ((False, False), (True, True)),
    )
][::5]  # every pair of values still meets


def case_id(case):
    *_, (c, h, w), (mask_h, mask_w), size, baseline, align, stretch = case
    layout, source, target, last = case[:4]
    kinds = f"{layout}-{source}-{target}".replace("torch.", "") + "-last" * last
    return (
        f"{kinds}-{c}x{h}x{w}-{mask_h}x{mask_w}-{size}-{baseline}"
        + "-align" * align
        + ("-stretch" * stretch)
    )


def check(case, count=5):
    layout, source, target, last, (c, h, w), cells, size, name, align, stretch = case
    image = images(3, c, h, w, source, layout)
    masks = uniform(count, *cells)
    baseline = BASELINES[name](c, h, w)
    owner = integers(3, count, seed=3)
    high, wide = size or (h, w)
    shifts = None
    if size is not None:
        shifts = torch.stack((integers(high - h + 1, count), integers(wide - w + 1, count)), 1)
    batch = masked_batch(
        image, masks, baseline, owner=owner, size=size, shifts=shifts, align_corners=align,
        stretch=stretch, channels_last=last, dtype=target,
    )  # fmt: skip
    weight = upsampled64(masks, (high, wide), align, stretch)
    if size is not None:
        weight = torch.stack(
            [m[y : y + h, x : x + w] for m, (y, x) in zip(weight, shifts.tolist(), strict=True)]
        )
    if isinstance(baseline, float | tuple):
        baseline = torch.tensor(baseline).reshape(-1, 1, 1)
    elif baseline is not None and baseline.dim() == 1:
        baseline = baseline.view(-1, 1, 1)
    truth = blend64(image, weight, baseline, owner)
    order = torch.channels_last if last else torch.contiguous_format
    assert batch.is_contiguous(memory_format=order)
    assert batch.dtype == target
    # Triton's interpreter cuts float32 to bfloat16 off instead of rounding it: up to 2⁻⁷ for a
    # single element, and less than 4e-3 on average over many.
    bf16 = 2**-7 if batch.numel() < 100 else 4e-3
    assert distance(batch, truth) < {F32: 1e-5, F16: 5e-4, BF16: bf16}[target]


@pytest.mark.parametrize("case", COVER, ids=case_id)
def test_equals_float64(case, road, guarded, counted):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", GRID, ids=case_id)
def test_equals_float64_on_the_whole_grid(case, road, guarded, counted):
    check(case, count=3)


LAST = pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])


@LAST
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_is_exact_where_a_mask_is_0_or_1(dtype, channels_last, road):
    image, baseline = images(1, 3, 9, 16, dtype), images(1, 3, 9, 16, dtype, seed=2)
    masks = integers(2, 4, 9, 16)
    truth = torch.where(masks.bool().unsqueeze(1), image, baseline)
    for kind in (torch.bool, dtype, F32):
        batch = masked_batch(image, masks.to(kind), baseline, channels_last=channels_last)
        assert torch.equal(batch, truth)
    # Coarse masks too: between two equal cells there is nothing but their value.
    full = torch.ones(2, 3, 5, device=DEVICE)
    assert torch.equal(masked_batch(image, full, baseline)[1:], image)
    assert torch.equal(masked_batch(image, 0 * full, baseline)[1:], baseline)


@LAST
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_is_the_product_rounded_once_without_a_baseline(dtype, channels_last, road):
    image, masks = images(2, 3, 9, 16, dtype), uniform(2, 9, 16)
    batch = masked_batch(image, masks, channels_last=channels_last)
    truth = masks.unsqueeze(1) * image.float()
    if dtype == BF16 and road == "triton" and DEVICE == "cpu":
        # The interpreter cuts bits off where a GPU rounds.
        truth = (truth.view(torch.int32) & -65536).view(F32)
    assert torch.equal(batch, truth.to(dtype))


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsamples_as_torch_does(align_corners, road):
    masks = uniform(4, 7, 5)
    truth = interpolate(
        masks.double().unsqueeze(1), (45, 64), mode="bilinear", align_corners=align_corners
    )
    batch = masked_batch(torch.ones(1, 45, 64, device=DEVICE), masks, align_corners=align_corners)
    assert (batch - truth).abs().max() < 1e-6


def test_equals_a_case_by_hand(road):
    image = torch.tensor([[[8.0, 4.0], [2.0, 6.0]]], device=DEVICE)
    masks = torch.tensor([[[0.0, 1.0]], [[0.5, 0.5]]], device=DEVICE)
    assert masked_batch(image, masks, 2.0).tolist() == [
        [[[2, 4], [2, 6]]],
        [[[5, 3], [2, 4]]],
    ]
    # Centres of the cells at 0.5 and 2.5 of 4 pixels: a quarter of the way from 1 to 2 is 0.25.
    wide = torch.ones(1, 1, 4, device=DEVICE)
    assert masked_batch(wide, masks[:1]).tolist() == [[[[0, 0.25, 0.75, 1]]]]
    thirds = masked_batch(wide, masks[:1], align_corners=True).flatten().tolist()
    assert thirds == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=1e-6)


def test_gives_the_inputs_of_grad_cams_scorecam(road):
    scorecam = pytest.importorskip("pytorch_grad_cam.score_cam")
    image, activations = images(2, 3, 30, 41), noise(2, 6, 7, 5, seed=8)
    inputs = []

    def model(batch):
        inputs.append(batch)
        return torch.zeros(len(batch), 1)

    cam = scorecam.ScoreCAM.__new__(scorecam.ScoreCAM)
    cam.model, cam.device, cam.activations_and_grads = model, DEVICE, Mock()
    cam.get_cam_weights(image, None, [torch.sum] * 2, activations.numpy(), None)
    owner = torch.arange(2, device=DEVICE).repeat_interleave(6)
    masks = activations.flatten(0, 1).to(DEVICE)
    masked = masked_batch(image, masks, owner=owner, align_corners=True, stretch=True)
    assert distance(masked, torch.cat(inputs)) < 1e-6


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_gives_rises_own_masks(mode, road):
    """The construction of the authors' code, s = 7, p = 0.5, at another size.

    It mirrors the outermost half cells, where torch goes on with the cell: they are left out.
    """
    resize = pytest.importorskip("skimage.transform").resize
    cells, (height, width), random = 7, (45, 60), np.random.default_rng(0)
    cell = np.ceil(np.array([height, width]) / cells).astype(int)
    size = tuple((cells + 1) * cell)
    grid = (random.random((4, cells, cells)) < 0.5).astype(np.float32)
    shifts = random.integers(0, cell, size=(4, 2))
    whole = np.stack([resize(mask, size, order=1, mode=mode, anti_aliasing=False) for mask in grid])
    inner = np.ones(size, dtype=bool)
    if mode == "reflect":
        row, column = (np.ceil(n / cells / 2).astype(int) for n in size)
        inner[:row], inner[-row:], inner[:, :column], inner[:, -column:] = (
            False,
            False,
            False,
            False,
        )
    batch = masked_batch(
        torch.ones(1, height, width, device=DEVICE),
        torch.from_numpy(grid).to(DEVICE),
        size=size,
        shifts=torch.from_numpy(shifts).to(DEVICE),
    )
    for output, mask, (y, x) in zip(batch.cpu().numpy(), whole, shifts, strict=True):
        window = np.s_[y : y + height, x : x + width]
        assert np.abs(output[0] - mask[window])[inner[window]].max() < 1e-6


def test_moves_one_hole_over_the_image(road):
    """Occlusion: one large mask for all outputs, expanded and not copied."""
    image = images(1, 3, 12, 16)
    hole = torch.ones(1, 24, 32, device=DEVICE)
    hole[:, 12:16, 16:21] = 0
    corners = [(0, 0), (3, 7), (8, 11), (11, 15)]
    shifts = torch.tensor([(12 - y, 16 - x) for y, x in corners], device=DEVICE)
    batch = masked_batch(image, hole.expand(4, -1, -1), 0.5, size=(24, 32), shifts=shifts)
    for output, (y, x) in zip(batch, corners, strict=True):
        truth = image[0].clone()
        truth[:, y : y + 4, x : x + 5] = 0.5
        assert torch.equal(output, truth)


@LAST
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_weighs_regions_as_numpy_does(kind, channels_last, road, guarded, counted):
    image, baseline = images(2, 3, 13, 18), images(2, 3, 13, 18, seed=2)
    regions = integers(50, 3, 13, 18, dtype=kind)
    weights, owner, which = uniform(6, 50), integers(2, 6, seed=4), integers(3, 6, seed=5)
    batch = region_batch(
        image, regions, weights, baseline, owner=owner, region_owner=which,
        channels_last=channels_last,
    )  # fmt: skip
    m = np.stack(
        [w[r] for w, r in zip(weights.cpu().numpy(), regions[which].cpu().numpy(), strict=True)]
    )
    assert distance(batch, blend64(image, torch.from_numpy(m), baseline, owner)) < 1e-6
    # Coalitions of zeros and ones are exact.
    coalitions = weights > 0.5
    batch = region_batch(image[:1], regions[0], coalitions, 0.25, channels_last=channels_last)
    truth = torch.where(coalitions[:, regions[0].long()].unsqueeze(1), image[:1], 0.25)
    assert torch.equal(batch, truth)


@LAST
@pytest.mark.parametrize("insert", [False, True])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
def test_deletes_and_inserts_as_numpy_does(kind, insert, channels_last, road, guarded, counted):
    image, blur = images(2, 3, 13, 18, F16), images(2, 3, 13, 18, F16, seed=2)
    importance = uniform(2, 13 * 18).cpu().numpy()
    order = np.argsort(-importance, axis=1)
    ranks = torch.from_numpy(np.argsort(order, axis=1)).view(2, 13, 18).to(DEVICE, kind)
    counts = torch.tensor([0, 1, 100, 233, 234, 9000, -3], device=DEVICE, dtype=kind)
    owner = torch.tensor([0, 1, 0, 1, 0, 1, 1], device=DEVICE)
    batch = ranked_batch(
        image, ranks, counts, blur, owner=owner, insert=insert, channels_last=channels_last
    )
    before, after = (blur, image) if insert else (image, blur)
    for output, count, i in zip(batch, counts.tolist(), owner.tolist(), strict=True):
        truth = before[i].clone().flatten(1)
        first = torch.from_numpy(order[i][: max(count, 0)]).to(DEVICE)
        truth[:, first] = after[i].flatten(1)[:, first]
        assert torch.equal(output.flatten(1), truth)


def test_pixels_of_one_rank_go_together(road):
    image = torch.arange(1.0, 5.0, device=DEVICE).view(1, 2, 2)
    ranks = torch.tensor([[0, 1], [1, 2]], device=DEVICE)
    batch = ranked_batch(image, ranks, torch.tensor([1, 2], device=DEVICE))
    assert batch.flatten(1).tolist() == [[0, 2, 3, 4], [0, 0, 0, 4]]


def test_finds_out_whose_is_what(road):
    """Left-out owners: the only one, each image's own, or one for each output."""
    image = torch.tensor([1.0, 2.0, 3.0], device=DEVICE).view(3, 1, 1, 1)
    whole = torch.ones(3, 1, 1, device=DEVICE)
    assert masked_batch(image, whole).flatten().tolist() == [1, 2, 3]
    assert masked_batch(image[:1], whole).flatten().tolist() == [1, 1, 1]
    owner = torch.tensor([2, 0], device=DEVICE)
    assert masked_batch(image, whole[:2], owner=owner).flatten().tolist() == [3, 1]
    ranks, counts = torch.tensor([0, 1, 2], device=DEVICE).view(3, 1, 1), owner * 0 + 1
    assert ranked_batch(image, ranks, counts, owner=owner).flatten().tolist() == [3, 0]
    assert ranked_batch(image[:1], ranks[1:], counts).flatten().tolist() == [1, 1]
    backwards = ranked_batch(image, ranks, counts, owner=owner, rank_owner=owner.flip(0))
    assert backwards.flatten().tolist() == [0, 1]


@quiet
@pytest.mark.parametrize("stretch", [False, True])
def test_a_bad_value_stays_where_it_came_in(stretch, road):
    image, masks = images(3, 3, 10, 12), uniform(5, 4, 4)
    owner = torch.tensor([0, 1, 2, 0, 1], device=DEVICE)
    clean = masked_batch(image, masks, owner=owner, stretch=stretch)
    masks[1, 3, 3] = torch.nan
    masks[4, 0, 0] = torch.inf
    image[2, 1, 4, 5] = torch.nan
    batch = masked_batch(image, masks, owner=owner, stretch=stretch)
    assert torch.equal(batch[[0, 3]], clean[[0, 3]])
    assert batch[2].isnan().nonzero().tolist() == [[1, 4, 5]]
    assert batch[1].isnan().all() == batch[4].isnan().all() == stretch
    assert batch[1, :, 9, 11].isnan().all()
    assert not batch[4, :, 0, 0].isfinite().any()


def test_stretches_a_flat_mask_to_zeros_and_any_other_to_the_full_range(road):
    image = torch.ones(1, 40, 50, device=DEVICE)
    masks = torch.cat((torch.full((1, 7, 7), 0.3, device=DEVICE), uniform(1, 7, 7) * 5 - 9))
    flat, batch = masked_batch(image, masks, stretch=True)
    assert torch.equal(flat, torch.zeros_like(flat))
    assert batch.min() == 0
    assert batch.max() == pytest.approx(1, abs=1e-7)  # the interpreter's fma rounds twice


def test_the_range_is_put_together_from_all_parts(on_triton, guarded, counted):
    """Larger than a part: the highest and lowest value lie in different ones."""
    masks = torch.rand(2, 90, 95) * 0.5 + 0.25
    masks[0, 0, 0], masks[0, 89, 94], masks[1, 60, 7] = 0, 1, torch.nan
    shifts = torch.tensor([[30, 40], [0, 0]])
    image = torch.ones(1, 8, 8)
    for size in ((90, 95), (100, 110)):
        batch = masked_batch(image, masks, size=size, shifts=shifts, stretch=True)
        truth = upsampled64(masks[:1], size, stretch=True)[0, 30:38, 40:48]
        assert distance(batch[0, 0], truth) < 1e-6
        assert batch[1].isnan().all()


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_takes_any_shape_and_stride(road, data):
    draw = data.draw
    c, h, w, cells_h, cells_w = (draw(st.integers(1, n)) for n in (5, 20, 20, 9, 9))
    image = images(
        1, c, h, w, draw(st.sampled_from((F32, BF16))), draw(st.sampled_from([*LAYOUTS]))
    )
    size = (h + draw(st.integers(0, 9)), w + draw(st.integers(0, 9)))
    shift = [draw(st.integers(0, big - small)) for big, small in zip(size, (h, w), strict=True)]
    masks = uniform(2, cells_w, 2 * cells_h).transpose(1, 2)[:, ::2]
    if draw(st.booleans()):
        masks = masks[:1].expand(2, -1, -1)
    align = draw(st.booleans())
    batch = masked_batch(
        image, masks, 0.5, size=size, shifts=torch.tensor([shift] * 4, device=DEVICE)[::2],
        align_corners=align, channels_last=draw(st.booleans()), dtype=F32,
    )  # fmt: skip
    y, x = shift
    weight = upsampled64(masks, size, align)[:, y : y + h, x : x + w]
    truth = blend64(image, weight, torch.tensor(0.5))
    assert (batch.double().cpu() - truth).abs().max() < 1e-5
