"""fused_cam against float64, pytorch-grad-cam, cases by hand, and its own promises."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image

import kernels
from tests.kernels.layers import DEVICE, DTYPES, LAYOUTS, distance, noise, place

INPLACE = [name for name in LAYOUTS if name not in ("cropped", "transposed")]
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
    (1, 960, 14, 14, "fp32", "channels-last", "contiguous"),
    (5, 33, 13, 17, "fp32", "contiguous", "every-other-image"),
    (1, 70, 13, 17, "bf16", "transposed", "every-other-channel"),
    (1, 1, 112, 112, "fp32", "contiguous", "contiguous"),
    (2, 17, 112, 112, "bf16", "channels-last", "contiguous"),
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
    # The interpreter takes minutes for a wide layer of this size, and a program at a time sees
    # nothing in it that it does not see in a narrow one.
    if h < 100 or (c <= 3 and b == 1)
]


def case_id(case):
    b, c, h, w, dtype, of_a, of_g = case
    return f"{b}x{c}x{h}x{w}-{dtype}-{of_a}-{of_g}"


def truth64(activations, gradients):
    """Grad-CAM in float64, from the equations."""
    a, g = activations.double().cpu(), gradients.double().cpu()
    weights = g.sum((2, 3)) / (g.shape[2] * g.shape[3])
    signed = torch.einsum("bc,bchw->bhw", weights, a)
    positive = signed.clamp(min=0)
    low = positive.amin((1, 2), keepdim=True)
    high = positive.amax((1, 2), keepdim=True)
    return (positive - low) / (1e-7 + high - low), signed, weights


def layer(b, c, h, w, dtype="fp32", of_a="contiguous", of_g="contiguous"):
    a = place(noise(b, c, h, w, seed=1), of_a, DTYPES[dtype])
    g = place(noise(b, c, h, w, seed=2), of_g, DTYPES[dtype])
    return a, g


def check(case):
    a, g = layer(*case)
    maps, signed, weights = kernels.fused_cam(a, g, return_signed=True, return_weights=True)
    for found, truth in zip((maps, signed, weights), truth64(a, g), strict=True):
        assert found.dtype == torch.float32
        # The truth starts from the same rounded inputs, so half precision earns no slack.
        assert distance(found.squeeze(1), truth) < 1e-5
    assert maps.min() >= 0
    assert maps.max() <= 1


@pytest.mark.parametrize("case", COVER, ids=case_id)
def test_equals_float64(case, road, guarded):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", GRID, ids=case_id)
def test_equals_float64_on_the_whole_grid(case, road, guarded):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("c", [960, 2048])
def test_equals_float64_on_a_wide_and_large_layer(c, road, guarded):
    check((1, c, 112, 112, "bf16", "channels-last", "contiguous"))


def test_equals_pytorch_grad_cam(road):
    a, g = layer(3, 40, 9, 11)
    peer = GradCAM(torch.nn.Conv2d(1, 1, 1), [])
    arrays = a.cpu().numpy(), g.cpu().numpy()
    peer_weights = peer.get_cam_weights(None, None, None, *arrays)
    peer_signed = peer.get_cam_image(None, None, None, *arrays)
    peer_maps = scale_cam_image(np.maximum(peer_signed, 0))
    maps, signed, weights = kernels.fused_cam(a, g, return_signed=True, return_weights=True)
    assert distance(weights[:, 0], torch.from_numpy(peer_weights)) < 1e-5
    assert distance(signed[:, 0], torch.from_numpy(peer_signed)) < 1e-5
    assert distance(maps[:, 0], torch.from_numpy(peer_maps)) < 1e-5


def test_equals_a_case_by_hand(road):
    a = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]], [[0.0, -1.0]]]], device=DEVICE)
    g = torch.tensor([[[[2.0, 0.0]], [[-1.0, -3.0]], [[5.0, -3.0]]]], device=DEVICE)
    maps, signed, weights = kernels.fused_cam(a, g, return_signed=True, return_weights=True)
    assert weights.tolist() == [[[1, -2, 1]]]
    assert signed.tolist() == [[[[-3, 2]]]]
    assert maps.tolist() == [[[[0, 1]]]]  # 2 / (2 + 1e-7) is 1 in float32


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("w", [4, 90])
def test_returns_what_is_asked_for(normalise, signed, weights, w, road, guarded):
    a, g = layer(2, 20, 5, w)
    found = kernels.fused_cam(
        a, g, normalise=normalise, return_signed=signed, return_weights=weights
    )
    true_maps, true_signed, true_weights = truth64(a, g)
    truths = [true_maps if normalise else true_signed]
    truths += [true_signed] * signed + [true_weights] * weights
    found = found if isinstance(found, tuple) else (found,)
    for one, truth in zip(found, truths, strict=True):
        assert one.shape[:2] == (2, 1)
        assert distance(one.squeeze(1), truth) < 1e-5


@pytest.mark.parametrize(("h", "w"), [(7, 7), (17, 17)], ids=["one-chunk", "chunks"])
def test_subtracts_the_minimum_of_a_map_that_is_positive_throughout(h, w, road):
    a, g = (tensor.abs() for tensor in layer(2, 6, h, w))
    true_maps, true_signed, _ = truth64(a, g)
    assert true_signed.min() > 0.1
    maps = kernels.fused_cam(a, g)
    assert distance(maps[:, 0], true_maps) < 1e-5
    assert maps.amin((1, 2, 3)).tolist() == [0, 0]


def test_computes_float64_in_float64():
    a, g = layer(2, 5, 3, 3)
    maps, signed = kernels.fused_cam(a.double(), g.double(), return_signed=True)
    true_maps, true_signed, _ = truth64(a, g)
    assert maps.dtype == torch.float64
    assert distance(signed[:, 0], true_signed) < 1e-14
    assert distance(maps[:, 0], true_maps) < 1e-14


@pytest.mark.parametrize("dtype", DTYPES)
def test_reads_a_gradient_that_is_one_value_a_channel(dtype, road):
    """What global average pooling sends back: strides of 0."""
    a, g = layer(2, 70, 7, 7, dtype)
    g = g[:, :, :1, :1].expand(2, 70, 7, 7)
    assert distance(kernels.fused_cam(a, g)[:, 0], truth64(a, g)[0]) < 1e-5


@pytest.mark.parametrize(("h", "w"), [(1, 1), (7, 7), (19, 23)])
@pytest.mark.parametrize("kind", ["negative", "zero", "constant"])
def test_gives_zeros_where_nothing_stands_out(kind, h, w, road):
    a, g = layer(2, 6, h, w)
    if kind == "negative":
        a, g = a.abs(), -g.abs()
    elif kind == "zero":
        g = torch.zeros_like(g)
    else:
        a, g = torch.ones_like(a), g.abs()
    maps = kernels.fused_cam(a, g)
    assert torch.equal(maps, torch.zeros_like(maps))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, in the interpreter
@pytest.mark.parametrize("w", [7, 50], ids=["one-chunk", "chunks"])
@pytest.mark.parametrize("where", ["activations", "gradients"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_reports_a_bad_value_and_does_not_spread_it(bad, where, w, road):
    a, g = layer(3, 20, 7, w)
    g = g.abs()  # positive weights: an infinity in A keeps its sign in the map
    clean = kernels.fused_cam(a, g, return_signed=True, return_weights=True)
    (a if where == "activations" else g)[1, 18, 3, 2] = bad
    maps, signed, weights = kernels.fused_cam(a, g, return_signed=True, return_weights=True)
    assert maps[1].isnan().all()
    assert not signed[1].isfinite().all()
    for found, before in zip((maps, signed, weights), clean, strict=True):
        assert torch.equal(found[[0, 2]], before[[0, 2]])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, in the interpreter
def test_reports_an_infinity_under_a_zero_weight(road):
    a, g = layer(1, 4, 3, 3)
    a[0, 2, 1, 1] = torch.inf
    g[0, 2] = 0
    assert kernels.fused_cam(a, g).isnan().all()


def test_keeps_a_bad_signed_map_as_it_is(road):
    a, g = layer(1, 4, 3, 3)
    a[0, 2, 1, 1] = torch.nan
    signed = kernels.fused_cam(a, g, normalise=False)
    assert signed.isnan().sum() == 1
    assert signed[0, 0, 1, 1].isnan()


def test_gives_the_same_bits_twice(road):
    a, g = layer(2, 70, 9, 40)
    assert torch.equal(kernels.fused_cam(a, g), kernels.fused_cam(a, g))


@pytest.mark.parametrize(("h", "w"), [(7, 7), (17, 17)])
def test_gives_an_image_the_same_bits_in_any_batch(h, w, on_triton):
    a, g = layer(3, 70, h, w)
    together = kernels.fused_cam(a, g)
    alone = [kernels.fused_cam(a[i : i + 1], g[i : i + 1]) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


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
    signed = kernels.fused_cam(a, g, normalise=False)
    other = kernels.fused_cam(a[:, order], g[:, order] * factor, normalise=False)
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
    with pytest.raises(ValueError, match="device of the activations, cpu, but are on meta"):
        kernels.fused_cam(a, a.to("meta"))
