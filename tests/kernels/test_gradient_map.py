"""gradient_map against float64, cases by hand, and its own promises."""

import itertools

import pytest
import torch

import kernels
from tests.kernels.layers import DEVICE, DTYPES, distance, noise, place

REDUCTIONS = ("max", "sum", "l2")
COVER = [
    # B, C, h, w, dtype, layout of G, layout of I or None
    (1, 1, 1, 1, "fp32", "contiguous", None),
    (5, 3, 7, 7, "fp16", "channels-last", "contiguous"),
    (1, 960, 7, 7, "bf16", "channels-last", None),
    (1, 2048, 1, 1, "fp32", "contiguous", "channels-last"),
    (5, 33, 13, 17, "bf16", "every-other-channel", "cropped"),
    (2, 3, 112, 112, "fp32", "contiguous", "every-other-column"),
    (1, 4, 112, 112, "bf16", "channels-last", None),
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


def tensors(b, c, h, w, dtype="fp32", of_g="contiguous", of_x=None):
    g = place(noise(b, c, h, w, seed=3), of_g, DTYPES[dtype])
    x = None if of_x is None else place(noise(b, c, h, w, seed=4), of_x, DTYPES[dtype])
    return g, x


def truth64(g, x, reduce):
    values = g.double().cpu() * (1 if x is None else x.double().cpu())
    raw = {
        "max": lambda: values.abs().max(1).values,
        "sum": lambda: values.sum(1),
        "l2": lambda: (values**2).sum(1) ** 0.5,
    }[reduce]()
    size = raw.abs()
    low, high = size.amin((1, 2), keepdim=True), size.amax((1, 2), keepdim=True)
    span = (high - low).where(high > low, 1)
    return (size - low) / span, raw


def check(case, reduce):
    g, x = tensors(*case)
    maps, raw = kernels.gradient_map(g, x, reduce, normalise=True, return_raw=True)
    for found, truth in zip((maps, raw), truth64(g, x, reduce), strict=True):
        assert found.dtype == torch.float32
        assert distance(found, truth) < 1e-5
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert torch.equal(kernels.gradient_map(g, x, reduce), raw)


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("case", COVER, ids=case_id)
def test_equals_float64(case, reduce, road, guarded, counted):
    check(case, reduce)


@pytest.mark.slow
@pytest.mark.parametrize("case", GRID, ids=case_id)
def test_equals_float64_on_the_whole_grid(case, road, guarded, counted):
    # One reduction a case, in turn: they share all but two lines.
    check(case, REDUCTIONS[GRID.index(case) % 3])


@pytest.mark.parametrize(
    ("reduce", "raw", "unit"),
    [("max", [4, 7], [0, 1]), ("sum", [-1, 7], [0, 1]), ("l2", [5, 7], [0, 1])],
)
def test_equals_a_case_by_hand(reduce, raw, unit, road):
    g = torch.tensor([[[[3.0, 0.0]], [[-4.0, 7.0]]]], device=DEVICE)
    found = kernels.gradient_map(g, reduce=reduce, normalise=True, return_raw=True)
    assert [one.tolist() for one in found] == [[[unit]], [[raw]]]


def test_multiplies_by_the_inputs(road):
    g = torch.tensor([[[[3.0, 1.0]], [[-4.0, 5.0]]]], device=DEVICE)
    x = torch.tensor([[[[2.0, 0.0]], [[1.0, -1.0]]]], device=DEVICE)
    assert kernels.gradient_map(g, x, "sum").tolist() == [[[2, -5]]]


@pytest.mark.parametrize("exponent", [-60, -20, 20])
def test_the_scale_of_the_gradient_does_not_matter(exponent, road):
    """A power of two changes no mantissa, so the map keeps its bits."""
    g, _ = tensors(2, 3, 30, 30)
    maps = kernels.gradient_map(g, normalise=True)
    assert torch.equal(kernels.gradient_map(g * 2.0**exponent, normalise=True), maps)


def test_gives_zeros_for_a_gradient_of_zeros(road):
    maps = kernels.gradient_map(torch.zeros(2, 3, 5, 5, device=DEVICE), normalise=True)
    assert torch.equal(maps, torch.zeros_like(maps))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, in the interpreter
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_reports_a_bad_value_and_does_not_spread_it(bad, reduce, road):
    g, _ = tensors(3, 3, 30, 30)
    clean = kernels.gradient_map(g, reduce=reduce, normalise=True, return_raw=True)
    g[1, 1, 29, 4] = bad
    maps, raw = kernels.gradient_map(g, reduce=reduce, normalise=True, return_raw=True)
    assert maps[1].isnan().all()
    assert (~raw[1].isfinite()).nonzero().tolist() == [[29, 4]]
    assert bool(raw[1, 29, 4].isnan()) == (bad != bad)
    for found, before in zip((maps, raw), clean, strict=True):
        assert torch.equal(found[[0, 2]], before[[0, 2]])


def test_gives_an_image_the_same_bits_in_any_batch(on_triton):
    g, _ = tensors(3, 3, 30, 30)
    together = kernels.gradient_map(g, normalise=True)
    alone = [kernels.gradient_map(g[i : i + 1], normalise=True) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_computes_float64_in_float64():
    g, x = tensors(2, 3, 4, 4, of_x="contiguous")
    maps = kernels.gradient_map(g.double(), x.double(), "l2", normalise=True)
    assert maps.dtype == torch.float64
    assert distance(maps, truth64(g, x, "l2")[0]) < 1e-14


def test_does_not_belong_to_a_graph(road):
    g, x = (tensor.requires_grad_() for tensor in tensors(1, 3, 4, 4, of_x="contiguous"))
    results = kernels.gradient_map(g, x, normalise=True, return_raw=True)
    assert not any(result.requires_grad for result in results)


@pytest.mark.parametrize(
    ("g", "x", "options", "sentence"),
    [
        (torch.zeros(3, 4, 4), None, {}, r"gradient must be \(B, C, H, W\)"),
        (torch.zeros(1, 0, 4, 4), None, {}, r"at least one element .* \(1, 0, 4, 4\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int8), None, {}, "must be float32.*torch.int8"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4), {}, r"shape of the gradient"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4).half(), {}, "dtype of the gradient"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4).to("meta"), {}, "but are on meta"),
        (torch.zeros(1, 3, 4, 4), None, {"reduce": "maxx"}, "Did you mean 'max'"),
    ],
)
def test_says_what_is_wrong(g, x, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        kernels.gradient_map(g, x, **options)
