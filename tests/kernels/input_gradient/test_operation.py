"""gradient_map against float64, cases by hand, numpy's percentile, and its own promises."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from cam import kernels
from tests.support.kernel_layers import DEVICE, DTYPES, LAYOUTS, distance, lay_out, noise

KINDS = [("max", None), ("max", True), ("sum", None), ("sum", False), ("sum", True), ("l2", None)]
PERCENTILES = (100, 99, 37.5)
COVER = [
    # B, C, h, w, dtype, layout of G, layout of I or None
    (1, 1, 1, 1, "fp32", "contiguous", None),
    (5, 3, 7, 7, "fp16", "channels-last", "contiguous"),
    (1, 96, 7, 7, "bf16", "channels-last", None),
    (1, 200, 1, 1, "fp32", "contiguous", "channels-last"),
    (2, 33, 13, 17, "bf16", "every-other-channel", "cropped"),
    (2, 3, 30, 30, "fp32", "contiguous", "every-other-column"),
    (2, 3, 40, 33, "bf16", "channels-last", "channels-last"),
    (1, 4, 50, 50, "bf16", "channels-last", None),
    (3, 2, 31, 7, "fp32", "channels-last", "channels-last"),
    (1, 5, 14, 14, "fp16", "transposed", "every-other-image"),
]
GRID = [
    (b, c, h, w, dtype, of_g, of_x)
    for b, c, (h, w), dtype, (of_g, of_x) in itertools.product(
        (1, 5),
        (1, 3, 960, 2048),
        ((1, 1), (7, 7), (14, 14), (13, 17), (112, 112)),
        DTYPES,
        (
            ("contiguous", None),
            ("channels-last", "channels-last"),
            ("channels-last", "contiguous"),
            ("cropped", "every-other-column"),
        ),
    )
    if h < 100 or c <= 3
]


def case_id(case):
    b, c, h, w, dtype, of_g, of_x = case
    return f"{b}x{c}x{h}x{w}-{dtype}-{of_g}-{of_x}"


def kind_id(kind):
    return {None: "", True: "signed ", False: "absolute "}[kind[1]] + kind[0]


def tensors(b, c, h, w, dtype="fp32", of_g="contiguous", of_x=None):
    g = lay_out(noise(b, c, h, w, seed=3), of_g, DTYPES[dtype])
    x = None if of_x is None else lay_out(noise(b, c, h, w, seed=4), of_x, DTYPES[dtype])
    return g, x


def raw64(g, x, reduce, signed):
    values = g.double().cpu() * (1 if x is None else x.double().cpu())
    if (reduce, signed) == ("max", True):
        whose = np.abs(values.numpy()).argmax(1)[:, None]  # numpy: the first among equals
        return torch.from_numpy(np.take_along_axis(values.numpy(), whose, 1)[:, 0])
    return {
        ("max", None): lambda: values.abs().max(1).values,
        ("sum", None): lambda: values.sum(1),
        ("sum", True): lambda: values.sum(1),
        ("sum", False): lambda: values.abs().sum(1),
        ("l2", None): lambda: (values**2).sum(1) ** 0.5,
    }[reduce, signed]()


def stretch64(raw, signed, percentile):
    """The docstring in numpy, image by image."""
    images = []
    for image in raw.double().cpu().numpy():
        size = np.abs(image)
        floor, ceiling = 0 if signed else size.min(), np.percentile(size, percentile)
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 where all is equal
            unit = np.nan_to_num(np.clip((size - floor) / (ceiling - floor), 0, 1), posinf=1)
        images.append(unit * np.sign(image) if signed else unit)
    return torch.from_numpy(np.stack(images))


def check(case, kind, percentile):
    g, x = tensors(*case)
    reduce, signed = kind
    options = {"reduce": reduce, "signed": signed}
    maps, raw = kernels.gradient_map(
        g, x, normalise=True, percentile=percentile, return_raw=True, **options
    )
    truth = raw64(g, x, reduce, signed)
    for result, expected in ((raw, truth), (maps, stretch64(truth, signed, percentile))):
        assert result.dtype == torch.float32
        assert distance(result, expected) < 1e-5
    assert maps.min() >= (-1 if signed else 0)
    assert maps.max() <= 1
    assert torch.equal(kernels.gradient_map(g, x, **options), raw)


@pytest.mark.parametrize("third", range(3))
@pytest.mark.parametrize("case", COVER, ids=case_id)
def test_equals_float64(case, third, road, guarded, counted):
    # Every other kind a case, each with another percentile.
    number = COVER.index(case)
    check(case, KINDS[2 * third + number % 2], PERCENTILES[(number // 2 + third) % 3])


@pytest.mark.slow
@pytest.mark.parametrize("case", GRID, ids=case_id)
def test_equals_float64_on_the_whole_grid(case, road, guarded, counted):
    # One kind and percentile a case, in turn: they share all but a few lines.
    place_in_grid = GRID.index(case)
    check(case, KINDS[place_in_grid % 6], PERCENTILES[place_in_grid % 5 % 3])


@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.tuples(*(st.integers(1, high) for high in (3, 6, 30, 30))),
    dtype=st.sampled_from(list(DTYPES)),
    of_g=st.sampled_from(list(LAYOUTS)),
    of_x=st.sampled_from([None, *LAYOUTS]),
    kind=st.sampled_from(KINDS),
    percentile=st.one_of(st.sampled_from([0, 100]), st.floats(0.01, 100)),
)
def test_equals_float64_in_any_layout(shape, dtype, of_g, of_x, kind, percentile, road, guarded):
    check((*shape, dtype, of_g, of_x), kind, percentile)


@pytest.mark.parametrize(
    ("kind", "raw", "unit"),
    [
        (("max", None), [4, 7], [0, 1]),
        (("max", True), [-4, 7], [-4 / 7, 1]),
        (("sum", None), [-1, 7], [0, 1]),
        (("sum", False), [7, 7], [0, 0]),
        (("sum", True), [-1, 7], [-1 / 7, 1]),
        (("l2", None), [5, 7], [0, 1]),
    ],
    ids=lambda value: kind_id(value) if isinstance(value, tuple) else "",
)
def test_equals_a_case_by_hand(kind, raw, unit, road):
    g = torch.tensor([[[[3.0, 0.0]], [[-4.0, 7.0]]]], device=DEVICE)
    reduce, signed = kind
    maps, raw_map = kernels.gradient_map(
        g, reduce=reduce, normalise=True, signed=signed, return_raw=True
    )
    assert raw_map.tolist() == [[raw]]
    assert maps[0, 0].tolist() == pytest.approx(unit, abs=1e-7)


@pytest.mark.parametrize(
    ("percentile", "signed", "unit"),
    [
        # |x| sorted is 1 2 3 4 9; the median is 3, the 60th percentile 3.4, the 10th 1.4.
        (50, None, [1, 0, 0.5, 1, 1]),
        (60, None, [2 / 2.4, 0, 1 / 2.4, 1, 1]),
        (10, None, [1, 0, 1, 1, 1]),
        (0, None, [1, 0, 1, 1, 1]),
        (0, True, [-1, 1, -1, 1, -1]),
        (50, True, [-1, 1 / 3, -2 / 3, 1, -1]),
        (60, True, [-3 / 3.4, 1 / 3.4, -2 / 3.4, 1, -1]),
    ],
)
def test_clips_at_a_percentile_by_hand(percentile, signed, unit, road):
    g = torch.tensor([-3.0, 1.0, -2.0, 4.0, -9.0], device=DEVICE).view(1, 1, 1, 5)
    maps = kernels.gradient_map(
        g, reduce="sum", normalise=True, signed=signed, percentile=percentile
    )
    assert maps.flatten().tolist() == pytest.approx(unit, rel=1e-6, abs=1e-7)


def test_equals_the_greyscale_of_pair(road):
    """`VisualizeImageGrayscale` of PAIR's saliency package, as it is written there."""
    g, _ = tensors(2, 3, 60, 50)
    maps = kernels.gradient_map(g, reduce="sum", normalise=True, signed=False, percentile=99)
    for image, map_ in zip(g.double().cpu().permute(0, 2, 3, 1).numpy(), maps, strict=True):
        image_2d = np.sum(np.abs(image), axis=2)
        vmax, vmin = np.percentile(image_2d, 99), np.min(image_2d)
        expected = np.clip((image_2d - vmin) / (vmax - vmin), 0, 1)
        assert distance(map_, torch.from_numpy(expected)) < 1e-5


def test_of_equals_the_first_channel_gives_the_sign(road):
    """Also where a later channel shares a tile's row with an earlier one, 32 channels before."""
    g = torch.zeros(1, 70, 1, 4, device=DEVICE)
    g[0, [1, 32], 0, 0] = torch.tensor([-2.0, 2.0], device=DEVICE)
    g[0, [1, 32], 0, 1] = torch.tensor([2.0, -2.0], device=DEVICE)
    g[0, [5, 37, 69], 0, 2] = torch.tensor([1.0, -3.0, 3.0], device=DEVICE)
    assert kernels.gradient_map(g, signed=True).tolist() == [[[-2, 2, -3, 0]]]


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(
        st.one_of(
            st.integers(-3, 3).map(float),
            st.floats(width=32, allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=30,
    ),
    percentile=st.one_of(st.sampled_from([0, 1, 25, 50, 75, 99, 99.9, 100]), st.floats(0, 100)),
    signed=st.booleans(),
)
def test_finds_the_percentile_of_any_values(values, percentile, signed, road):
    """Ties, zeros, numbers below the normal ones, and the largest there are."""
    raw = torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)
    maps = kernels.gradient_map(
        raw.to(DEVICE), reduce="sum", normalise=True, signed=signed, percentile=percentile
    )
    size = raw.double().abs().numpy()
    floor, ceiling = 0 if signed else size.min(), np.percentile(size, percentile)
    # What float32 leaves of the percentile itself: half a step at its own size.
    step = float(np.spacing(np.float32(ceiling)))
    slack = 1e-6 + 2 * step / (ceiling - floor) if ceiling > floor else 0
    expected = stretch64(raw[0], signed, percentile)
    if slack < 0.1:
        assert (maps.cpu().double() - expected).abs().max() <= slack


@pytest.mark.parametrize("percentile", [0, 50, 99, 99.9, 100])
@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([-0.3]),
        torch.zeros(2500),
        torch.full((49,), -1.5),
        torch.arange(-1500, 1500) // 500,
        noise(3000, seed=8).mul(2).trunc(),
        torch.cat([torch.zeros(2990), noise(10, seed=9)]),
        noise(5000, seed=7),
        noise(4999, seed=7) * 1e-30,
    ],
    ids=["one", "zeros", "constant", "steps", "ties", "sparse", "noise", "tiny"],
)
def test_finds_the_percentile_of_numpy(values, percentile, road, guarded, counted):
    raw = values.float().view(1, 1, 1, -1)
    signed = raw.numel() % 2 == 1  # the noise comes with both
    maps = kernels.gradient_map(
        raw.to(DEVICE), reduce="sum", normalise=True, signed=signed or None, percentile=percentile
    )
    expected = stretch64(raw[0], signed, percentile)
    assert (maps.cpu().double() - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
def test_where_a_pixel_lies_does_not_matter(kind, road):
    g, _ = tensors(1, 3, 70, 30)
    order = torch.randperm(2100, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    moved = g.flatten(2)[..., order].view_as(g)
    options = {"reduce": kind[0], "signed": kind[1], "normalise": True, "percentile": 98}
    maps = kernels.gradient_map(g, **options)
    assert torch.equal(kernels.gradient_map(moved, **options).flatten(), maps.flatten()[order])


@pytest.mark.parametrize("percentile", [100, 97])
@pytest.mark.parametrize("reduce", ["max", "sum"])
def test_a_signed_map_turns_with_the_gradient(reduce, percentile, road):
    g, _ = tensors(2, 3, 30, 30)
    options = {"reduce": reduce, "signed": True, "normalise": True, "percentile": percentile}
    maps = kernels.gradient_map(g, **options)
    assert maps.min() < 0 < maps.max()
    assert torch.equal(kernels.gradient_map(-g, **options), -maps)


def test_multiplies_by_the_inputs(road):
    g = torch.tensor([[[[3.0, 1.0]], [[-4.0, 5.0]]]], device=DEVICE)
    x = torch.tensor([[[[2.0, 0.0]], [[1.0, -1.0]]]], device=DEVICE)
    assert kernels.gradient_map(g, x, "sum").tolist() == [[[2, -5]]]


@pytest.mark.parametrize(("signed", "percentile"), [(None, 100), (None, 99), (True, 99)])
@pytest.mark.parametrize("exponent", [-60, -20, 20])
def test_the_scale_of_the_gradient_does_not_matter(exponent, signed, percentile, road):
    """A power of two changes no mantissa, so the map keeps its bits."""
    g, _ = tensors(2, 3, 30, 30)
    options = {"normalise": True, "signed": signed, "percentile": percentile}
    maps = kernels.gradient_map(g, **options)
    assert torch.equal(kernels.gradient_map(g * 2.0**exponent, **options), maps)


@pytest.mark.parametrize("percentile", [100, 99])
@pytest.mark.parametrize("signed", [None, True])
def test_gives_zeros_for_a_gradient_of_zeros(signed, percentile, road):
    g = torch.zeros(2, 3, 5, 5, device=DEVICE)
    maps = kernels.gradient_map(g, normalise=True, signed=signed, percentile=percentile)
    assert torch.equal(maps, torch.zeros_like(maps))


@pytest.mark.parametrize("signed", [None, True])
def test_what_rises_above_a_flat_percentile_is_one(signed, road):
    g = torch.zeros(1, 1, 20, 20, device=DEVICE)
    g[0, 0, 3, 4], g[0, 0, 5, 6] = 1e-30, -5.0
    maps = kernels.gradient_map(g, reduce="sum", normalise=True, signed=signed, percentile=90)
    expected = torch.zeros(1, 20, 20, device=DEVICE)
    expected[0, 3, 4], expected[0, 5, 6] = 1, -1 if signed else 1
    assert torch.equal(maps, expected)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, in the interpreter
@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_reports_a_bad_value_and_does_not_spread_it(bad, kind, road):
    g, _ = tensors(3, 3, 30, 30)
    percentile = 100 if kind[0] == "l2" or kind[1] is None else 99
    options = {"reduce": kind[0], "signed": kind[1], "normalise": True, "return_raw": True}
    clean = kernels.gradient_map(g, percentile=percentile, **options)
    g[1, 1, 29, 4] = bad
    maps, raw = kernels.gradient_map(g, percentile=percentile, **options)
    assert maps[1].isnan().all()
    assert (~raw[1].isfinite()).nonzero().tolist() == [[29, 4]]
    assert bool(raw[1, 29, 4].isnan()) == (bad != bad)
    for after, before in zip((maps, raw), clean, strict=True):
        assert torch.equal(after[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize("percentile", [100, 99])
def test_gives_an_image_the_same_bits_in_any_batch(percentile, on_triton):
    g, _ = tensors(3, 3, 30, 30)
    together = kernels.gradient_map(g, normalise=True, percentile=percentile)
    alone = [
        kernels.gradient_map(g[i : i + 1], normalise=True, percentile=percentile) for i in range(3)
    ]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("signed", [None, True])
@pytest.mark.parametrize("percentile", [100, 99, 50])
def test_computes_float64_in_float64(percentile, signed, road):
    g, x = tensors(2, 3, 4, 4, of_x="contiguous")
    maps = kernels.gradient_map(
        g.double(), x.double(), "sum", normalise=True, signed=signed, percentile=percentile
    )
    assert maps.dtype == torch.float64
    assert distance(maps, stretch64(raw64(g, x, "sum", True), signed, percentile)) < 1e-14


@pytest.mark.slow
def test_the_reference_takes_maps_of_any_size(monkeypatch):
    """`torch.quantile` ends at 16 million values."""
    monkeypatch.setenv("CAM_KERNELS", "reference")
    g = noise(1, 1, 4200, 4200, seed=1)
    maps = kernels.gradient_map(g, normalise=True, percentile=99)
    assert distance(maps, stretch64(g[:, 0].abs(), None, 99)) < 1e-5


def test_the_largest_value_needs_no_tables(on_triton):
    from cam.kernels.input_gradient import launcher as triton_saliency

    g, _ = tensors(2, 3, 30, 30)
    plain, *_ = triton_saliency.plan(g, None, "max", maps=True, percentile=100.0)
    clipped, *_ = triton_saliency.plan(g, None, "max", maps=True, percentile=99.0)
    assert plain.arguments["rank"] is None
    assert plain.reads["p_raw"] * 3 == clipped.reads["p_raw"]
    assert plain.arguments["p_counters"].numel() < 10 * 2


def test_does_not_belong_to_a_graph(road):
    g, x = (tensor.requires_grad_() for tensor in tensors(1, 3, 4, 4, of_x="contiguous"))
    results = kernels.gradient_map(g, x, normalise=True, percentile=99, return_raw=True)
    assert not any(result.requires_grad for result in results)


@pytest.mark.parametrize(
    ("kind", "normalise", "percentile"),
    [(("max", None), False, 100.0), (("sum", True), True, 99.0), (("l2", False), True, 100.0)],
)
def test_is_an_operator_of_torch(kind, normalise, percentile, road):
    g, x = tensors(2, 3, 8, 8, of_g="channels-last", of_x="contiguous")
    # Without normalisation the second result is empty, which a comparison by bits accepts.
    torch.library.opcheck(torch.ops.cam_kernels.gradient_map, (g, x, *kind, normalise, percentile))


@pytest.mark.parametrize("percentile", [100, 99])
def test_compiles_whole(percentile, road):
    def double(g):
        return 2 * kernels.gradient_map(g, normalise=True, percentile=percentile)

    torch._dynamo.reset()
    g, _ = tensors(2, 3, 8, 8)
    compiled = torch.compile(double, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(g), double(g))


IMAGE = torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("g", "x", "options", "sentence"),
    [
        (torch.zeros(3, 4, 4), None, {}, r"gradient must be \(B, C, H, W\)"),
        (torch.zeros(1, 0, 4, 4), None, {}, r"at least one element .* \(1, 0, 4, 4\)"),
        (IMAGE.char(), None, {}, "must be float32.*torch.int8"),
        (IMAGE, torch.zeros(1, 1, 4, 4), {}, r"shape of the gradient"),
        (IMAGE, IMAGE.half(), {}, "dtype of the gradient"),
        (IMAGE, IMAGE.to("meta"), {}, "not on meta"),
        (IMAGE, None, {"reduce": "maxx"}, "Did you mean 'max'"),
        (IMAGE, None, {"reduce": "l2", "signed": True}, "a root, which has no sign"),
        (IMAGE, None, {"signed": "yes"}, "signed must be True, False or None, but is 'yes'"),
        (IMAGE, None, {"normalise": True, "percentile": -1}, "must be from 0 to 100, but is -1"),
        (IMAGE, None, {"normalise": True, "percentile": 101}, "from 0 to 100, but is 101"),
        (IMAGE, None, {"normalise": True, "percentile": torch.nan}, "from 0 to 100, but is nan"),
        (IMAGE, None, {"normalise": True, "percentile": "99"}, "must be a number, but is '99'"),
        (IMAGE, None, {"percentile": 99}, "scales normalised maps only; pass normalise=True"),
    ],
)
def test_says_what_is_wrong(g, x, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        kernels.gradient_map(g, x, **options)
