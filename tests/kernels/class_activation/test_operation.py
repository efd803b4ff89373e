"""fused_cam, all rules at once, against float64, and its own promises."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cam import kernels
from cam.kernels import RULES
from cam.kernels.class_activation import reference
from tests.support.kernel_layers import DEVICE, DTYPES, distance, lay_out, noise
from tests.support.rules64 import NO_WEIGHTS, truth64

# These divide by nothing that a negative activation can bring near to zero.
STEADY = ("hirescam", "gradcam", "gradcam_elementwise", "layercam")
# Every launch shape, dtype and layout at least once; C beside and at a multiple of the block.
COVER = [
    # B, C, h, w, dtype, layout of A, layout of G
    (1, 1, 1, 1, "fp32", "contiguous", "contiguous"),
    (5, 960, 1, 1, "bf16", "channels-last", "contiguous"),
    (1, 3, 7, 7, "fp16", "every-other-column", "cropped"),
    (5, 70, 7, 7, "fp32", "channels-last", "channels-last"),
    (1, 2048, 7, 7, "bf16", "channels-last", "channels-last"),
    (1, 960, 7, 7, "fp16", "contiguous", "channels-last"),
    (5, 3, 14, 14, "bf16", "every-other-channel", "contiguous"),
    (2, 130, 3, 5, "fp16", "contiguous", "contiguous"),
    (1, 65, 14, 14, "bf16", "contiguous", "contiguous"),
    (1, 35, 28, 28, "bf16", "channels-last", "contiguous"),
    (1, 10, 27, 33, "fp32", "contiguous", "channels-last"),
    (1, 960, 14, 14, "fp32", "channels-last", "contiguous"),
    (5, 33, 13, 17, "fp32", "contiguous", "every-other-image"),
    (1, 70, 13, 17, "bf16", "transposed", "every-other-channel"),
    (1, 1, 112, 112, "fp32", "contiguous", "contiguous"),
    (2, 17, 40, 41, "bf16", "channels-last", "contiguous"),
    (1, 33, 19, 23, "fp16", "cropped", "every-other-column"),
    (1, 3, 1, 300, "fp32", "cropped", "channels-last"),
    (1, 3, 300, 1, "fp32", "transposed", "every-other-column"),
]
GRID = [
    (b, c, h, w, dtype, of_a, of_g)
    for b, c, (h, w), dtype, (of_a, of_g) in itertools.product(
        (1, 5),
        (1, 3, 960, 2048),
        ((1, 1), (7, 7), (14, 14), (13, 17), (112, 112)),
        DTYPES,
        (
            ("contiguous", "contiguous"),
            ("channels-last", "channels-last"),
            ("contiguous", "channels-last"),
            ("channels-last", "contiguous"),
            ("every-other-channel", "every-other-image"),
            ("cropped", "transposed"),
        ),
    )
    # A program sees one image and a few channels at a time: a batch of wide layers, or a large one,
    # shows it nothing that narrow ones do not, and takes the interpreter many minutes.
    if (h < 100 and (b == 1 or c <= 3)) or (c <= 3 and b == 1)
]


def case_id(case):
    b, c, h, w, dtype, of_a, of_g = case
    return f"{b}x{c}x{h}x{w}-{dtype}-{of_a}-{of_g}"


def layer(b, c, h, w, dtype="fp32", of_a="contiguous", of_g="contiguous"):
    """Activations as behind a ReLU, half of them zero, and gradients of both signs."""
    a = lay_out(noise(b, c, h, w, seed=1).clamp(min=0), of_a, DTYPES[dtype])
    g = lay_out(noise(b, c, h, w, seed=2), of_g, DTYPES[dtype])
    return a, g


def check(case, rules=RULES, signed_activations=False):
    a, g = layer(*case)
    if signed_activations:
        a = lay_out(noise(*case[:4], seed=1), case[5], DTYPES[case[4]])
    maps, signed, weights = kernels.fused_cam(a, g, rules, return_signed=True, return_weights=True)
    truths = truth64(a, g, rules)
    for k, rule in enumerate(rules):
        for result, truth in zip((maps, signed, weights), truths, strict=True):
            assert result.dtype == torch.float32
            assert result.shape == truth.shape
            if result is weights and rule in NO_WEIGHTS:
                assert result[:, k].isnan().all()
            else:
                # The truth starts from the same rounded inputs, so half precision earns no slack.
                assert distance(result[:, k], truth[:, k]) < 1e-5, rule
    assert maps.min() >= 0
    assert maps.max() <= 1


@pytest.mark.parametrize("case", COVER, ids=case_id)
def test_equals_float64(case, road, guarded, counted):
    check(case)


@pytest.mark.parametrize("case", COVER[1::3], ids=case_id)
def test_equals_float64_where_activations_are_negative_too(case, road, guarded, counted):
    check(case, STEADY, signed_activations=True)


@pytest.mark.slow
@pytest.mark.parametrize("case", GRID, ids=case_id)
def test_equals_float64_on_the_whole_grid(case, road, guarded, counted):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("c", [960, 2048])
def test_equals_float64_on_a_wide_and_large_layer(c, road, guarded, counted):
    check((1, c, 112, 112, "bf16", "channels-last", "contiguous"))


SUBSETS = [
    subset for count in range(1, 7) for subset in itertools.combinations(reversed(RULES), count)
]


@pytest.mark.parametrize("rules", SUBSETS, ids="+".join)
def test_any_subset_in_any_order_equals_float64(rules, on_triton, guarded, counted):
    """The walk over large planes does for each subset what it needs, and nothing else."""
    h, w = (3, 4) if SUBSETS.index(rules) % 4 else (3, 400)
    check((1, 5, h, w, "fp32", "contiguous", "channels-last"), rules)


@st.composite
def strided_pairs(draw):
    """A and G of one shape, each cut out of a larger tensor at its own steps and offsets."""
    shape = draw(st.tuples(*(st.integers(1, n) for n in (3, 9, 6, 7))))
    pair = []
    for seed in (1, 2):
        steps = draw(st.tuples(*[st.integers(1, 3)] * 4))
        order = draw(st.permutations(range(4)))
        storage = torch.full(
            [shape[axis] * steps[axis] for axis in order], torch.nan, device=DEVICE
        )
        view = storage.permute(*(order.index(axis) for axis in range(4)))
        view = view[tuple(slice(None, None, step) for step in steps)]
        values = noise(*shape, seed=seed)
        pair.append(view.copy_(values.clamp(min=0) if seed == 1 else values))
    return tuple(pair)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pair=strided_pairs(), count=st.integers(1, 6))
def test_reads_any_strides(pair, count, on_triton, counted):
    rules = RULES[:count]
    signed = kernels.fused_cam(*pair, rules, normalise=False)
    truth = truth64(*pair, rules)[1]
    assert distance(signed, truth) < 1e-5


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("w", [4, 250])
def test_returns_what_is_asked_for(normalise, signed, weights, w, road, guarded, counted):
    a, g = layer(2, 20, 5, w)
    rules = ("layercam", "gradcam")
    results = kernels.fused_cam(
        a, g, rules, normalise=normalise, return_signed=signed, return_weights=weights
    )
    true_maps, true_signed, true_weights = truth64(a, g, rules)
    truths = [true_maps if normalise else true_signed]
    truths += [true_signed] * signed + [true_weights] * weights
    results = results if isinstance(results, tuple) else (results,)
    for result, truth in zip(results, truths, strict=True):
        assert result.shape[:2] == (2, 2)
        assert distance(result.nan_to_num(), truth.nan_to_num()) < 1e-5


@pytest.mark.parametrize(("h", "w"), [(7, 7), (30, 40)], ids=["plane", "walk"])
def test_subtracts_the_minimum_of_a_map_that_is_positive_throughout(h, w, road):
    a, g = (noise(2, 6, h, w, seed=seed).abs().to(DEVICE) for seed in (1, 2))
    true_maps, true_signed, _ = truth64(a, g, RULES)
    assert true_signed.min() > 0.01
    maps = kernels.fused_cam(a, g, RULES)
    assert distance(maps, true_maps) < 1e-5
    assert not maps.amin((2, 3)).any()


def test_computes_float64_in_float64():
    a, g = layer(2, 5, 3, 3)
    maps, signed = kernels.fused_cam(a.double(), g.double(), RULES, return_signed=True)
    true_maps, true_signed, _ = truth64(a, g, RULES)
    assert maps.dtype == torch.float64
    assert distance(signed, true_signed) < 1e-14
    assert distance(maps, true_maps) < 1e-14


@pytest.mark.parametrize("dtype", DTYPES)
def test_reads_a_gradient_that_is_one_value_a_channel(dtype, road):
    """What global average pooling sends back: strides of 0."""
    a, g = layer(2, 70, 7, 7, dtype)
    g = g[:, :, :1, :1].expand(2, 70, 7, 7)
    assert distance(kernels.fused_cam(a, g, RULES), truth64(a, g, RULES)[0]) < 1e-5


@pytest.mark.parametrize(("h", "w"), [(1, 1), (7, 7), (39, 33)])
@pytest.mark.parametrize("kind", ["negative", "zero", "constant"])
def test_gives_zeros_where_nothing_stands_out(kind, h, w, road):
    a, g = layer(2, 6, h, w)
    if kind == "negative":
        a, g = a.abs(), -g.abs()
    elif kind == "zero":
        g = torch.zeros_like(g)
    else:
        # Eighths, whose sums are exact in any order.
        a, g = torch.ones_like(a), (g.abs()[..., :1, :1] * 8).round().expand_as(g) / 8
    maps = kernels.fused_cam(a, g, RULES)
    assert torch.equal(maps, torch.zeros_like(maps))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, in the interpreter
@pytest.mark.parametrize("w", [7, 150], ids=["plane", "walk"])
@pytest.mark.parametrize("where", ["activations", "gradients"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_reports_a_bad_value_and_does_not_spread_it(bad, where, w, road):
    a, g = layer(3, 20, 7, w)
    g = g.abs()  # positive weights: an infinity in A keeps its sign in the map
    a += 1  # nothing that an infinity could meet is zero
    options = {"return_signed": True, "return_weights": True}
    clean = kernels.fused_cam(a, g, RULES, **options)
    (a if where == "activations" else g)[1, 18, 3, 2] = bad
    maps, signed, weights = kernels.fused_cam(a, g, RULES, **options)
    assert maps[1].isnan().all()
    for k, rule in enumerate(RULES):
        assert not signed[1, k].isfinite().all(), rule
    for after, before in zip((maps, signed, weights), clean, strict=True):
        assert torch.equal(after[[0, 2]].nan_to_num(), before[[0, 2]].nan_to_num())


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, in the interpreter
def test_reports_an_infinity_under_a_zero_weight(road):
    a, g = layer(1, 4, 3, 3)
    a[0, 2, 1, 1] = torch.inf
    g[0, 2] = 0
    assert kernels.fused_cam(a, g, RULES).isnan().all()


def test_keeps_a_bad_signed_map_as_it_is(road):
    a, g = layer(1, 4, 3, 3)
    a[0, 2, 1, 1] = torch.nan
    signed = kernels.fused_cam(a, g, normalise=False)
    assert signed.isnan().sum() == 1
    assert signed[0, 0, 1, 1].isnan()


def test_gives_the_same_bits_twice(road):
    a, g = layer(2, 70, 9, 140)
    assert torch.equal(kernels.fused_cam(a, g, RULES), kernels.fused_cam(a, g, RULES))


@pytest.mark.parametrize(("h", "w"), [(7, 7), (17, 17), (30, 40)])
def test_gives_an_image_the_same_bits_in_any_batch(h, w, on_triton):
    a, g = layer(3, 70, h, w)
    together = kernels.fused_cam(a, g, RULES)
    alone = [kernels.fused_cam(a[i : i + 1], g[i : i + 1], RULES) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(("h", "w"), [(7, 7), (17, 17), (30, 40)])
def test_gives_a_rule_the_same_map_beside_any_others(h, w, road):
    """But for the rounding: how many partial maps are summed at a time depends on the rules."""
    a, g = layer(1, 70, h, w)
    together = kernels.fused_cam(a, g, RULES)
    for k, rule in enumerate(RULES):
        alone = kernels.fused_cam(a, g, (rule,))
        assert distance(alone[:, 0], together[:, k]) < 1e-6, rule


def test_plus_plus_is_finite_where_its_denominator_vanishes(road):
    """2 + G ΣA is 0 for G = -1 and ΣA = 2, where α is 0 because G is not above 0."""
    a = torch.ones(1, 2, 1, 2, device=DEVICE)
    g = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], device=DEVICE).view(1, 2, 1, 2)
    rules = ("gradcam_plus_plus",)
    signed, weights = kernels.fused_cam(a, g, rules, normalise=False, return_weights=True)
    assert weights.tolist() == [[[0.25, 0.25]]]  # 1 / (2 + 1 · 2)
    assert signed.tolist() == [[[[0.5, 0.5]]]]


@pytest.mark.parametrize("group", [1, 3000, 2**20], ids=["one", "two", "all"])
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_groups_of_images_are_computed_alike(group, layout, monkeypatch):
    """On a CPU a batch is computed a few images at a time, in memory that is used again."""
    monkeypatch.setattr(reference, "GROUP_BYTES", group)
    monkeypatch.setenv("CAM_KERNELS", "reference")
    a, g = (lay_out(values, layout) for values in layer(5, 6, 7, 9))
    maps, signed, weights = kernels.fused_cam(a, g, RULES, return_signed=True, return_weights=True)
    for result, truth in zip((maps, signed, weights), truth64(a, g, RULES), strict=True):
        assert distance(result.nan_to_num(), truth.nan_to_num()) < 1e-5


def test_does_not_belong_to_a_graph(road):
    a, g = (tensor.requires_grad_() for tensor in layer(1, 3, 4, 4))
    results = kernels.fused_cam(a, g, return_signed=True, return_weights=True)
    assert not any(result.requires_grad for result in results)


def test_leaves_its_arguments_alone(road):
    a, g = layer(2, 33, 7, 7)
    before = a.clone(), g.clone()
    kernels.fused_cam(a, g)
    assert torch.equal(a, before[0])
    assert torch.equal(g, before[1])


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 4), seed=st.integers(0, 2**31), factor=st.floats(0.5, 50)
)
def test_signed_maps_scale_with_gradients_and_ignore_the_order_of_channels(shape, seed, factor):
    a, g = noise(*shape, seed=seed).double(), noise(*shape, seed=seed + 1).double()
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(seed))
    # Not Grad-CAM++: its α depends on the size of the gradient.
    rules = tuple(rule for rule in RULES if rule != "gradcam_plus_plus")
    a = a.abs()
    signed = kernels.fused_cam(a, g, rules, normalise=False)
    other = kernels.fused_cam(a[:, order], g[:, order] * factor, rules, normalise=False)
    assert torch.allclose(other, signed * factor, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("a", "g", "options", "sentence"),
    [
        ((2, 3, 4), (2, 3, 4), {}, r"activations must be \(B, C, h, w\)"),
        ((2, 3, 4, 4), (2, 3, 4, 5), {}, r"shape of the activations, \(2, 3, 4, 4\)"),
        ((0, 3, 4, 4), (0, 3, 4, 4), {}, r"at least one element .* \(0, 3, 4, 4\)"),
        ((1, 3, 0, 4), (1, 3, 0, 4), {}, r"at least one element .* \(1, 3, 0, 4\)"),
        ((1, 3, 4, 4), (1, 3, 4, 4), {"rules": ("gradcan",)}, "Did you mean 'gradcam'"),
        ((1, 3, 4, 4), (1, 3, 4, 4), {"rules": ("zzz",)}, "'zzz' is not a known rule. Known:"),
        ((1, 3, 4, 4), (1, 3, 4, 4), {"rules": ()}, "rules is empty"),
        ((1, 3, 4, 4), (1, 3, 4, 4), {"rules": "gradcam"}, r"such as \('gradcam',\)"),
        ((1, 3, 4, 4), (1, 3, 4, 4), {"rules": ("gradcam",) * 2}, "once each"),
    ],
)
def test_says_what_is_wrong(a, g, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        kernels.fused_cam(torch.zeros(a), torch.zeros(g), **options)


def test_says_which_dtype_is_wrong():
    a = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"dtype of the activations, torch.float32.*float16"):
        kernels.fused_cam(a, a.half())
    with pytest.raises(ValueError, match=r"must be float32.*torch.int64"):
        kernels.fused_cam(a.long(), a.long())


def test_says_that_devices_differ():
    a = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="device of the activations, cpu, not on meta"):
        kernels.fused_cam(a, a.to("meta"))
