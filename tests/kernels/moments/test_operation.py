"""Test moments against float64 of stacked samples and cases by hand."""

import itertools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from cam import kernels
from cam.kernels.moments.operation import Moments
from tests.support.kernel_layers import DEVICE, DTYPES, LAYOUTS, distance, lay_out, noise

COVER = [
    # N, B, C, h, w, dtype, layout
    (1, 1, 1, 1, 1, "fp32", "contiguous"),
    (5, 2, 3, 7, 7, "fp16", "channels-last"),
    (4, 1, 3, 32, 32, "bf16", "contiguous"),
    (9, 3, 3, 16, 16, "fp32", "channels-last"),
    (3, 2, 5, 13, 17, "bf16", "every-other-channel"),
    (2, 2, 3, 14, 14, "fp32", "every-other-column"),
    (7, 1, 2, 5, 9, "fp16", "cropped"),
    (6, 2, 3, 8, 4, "fp32", "transposed"),
]
GRID = [
    (n, b, c, h, w, dtype, layout)
    for n, b, (c, h, w), dtype, layout in itertools.product(
        (1, 4, 33),
        (1, 3),
        ((3, 64, 64), (3, 33, 31), (40, 7, 7)),
        DTYPES,
        LAYOUTS,
    )
]


def case_id(case):
    n, b, c, h, w, dtype, layout = case
    return f"{n}x{b}x{c}x{h}x{w}-{dtype}-{layout}"


def make(n, b, c, h, w, dtype="fp32", layout="contiguous", offset=0.0, seed=5):
    """N samples (N, B, C, h, w) as the gradients (N·B, C, h, w) of a batch's noisy copies."""
    values = noise(n * b, c, h, w, seed=seed) + offset
    return lay_out(values, layout, DTYPES[dtype]).unflatten(0, (n, b))


def moments_of(*portions):
    moments = Moments()
    for portion in portions:
        moments.add(portion)
    return moments


def everything(moments):
    return moments.mean.clone(), moments.variance, moments.mean_square


def check(case):
    samples = make(*case)
    moments_found = everything(
        moments_of(samples[:2], samples[2:]) if len(samples) > 2 else moments_of(samples)
    )
    real = samples.double().cpu()
    for moment, truth in zip(
        moments_found, (real.mean(0), real.var(0, correction=0), (real**2).mean(0)), strict=True
    ):
        assert moment.dtype == torch.float32
        assert distance(moment, truth) < 1e-6


@pytest.mark.parametrize("case", COVER, ids=case_id)
def test_equals_float64(case, road, guarded, counted):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", GRID, ids=case_id)
def test_equals_float64_on_the_whole_grid(case, road, guarded, counted):
    check(case)


def test_equals_a_case_by_hand(road):
    samples = torch.tensor([1.0, 3.0, 8.0], device=DEVICE).view(3, 1, 1, 1, 1)
    moments = moments_of(samples)
    assert moments.count == 3
    assert moments.mean.item() == pytest.approx(4)
    assert moments.variance.item() == pytest.approx(26 / 3)  # 9 + 1 + 16
    assert moments.mean_square.item() == pytest.approx(74 / 3)  # 1 + 9 + 64


def test_stays_accurate_where_the_mean_is_large(road):
    """In float32, E[x²] - E[x]² would lose all of a variance of 1 beside a mean of 10⁴."""
    samples = make(32, 1, 3, 16, 16, offset=1e4)
    moments = moments_of(*samples.split(8))
    real = samples.double().cpu()
    naive = (samples**2).mean(0) - samples.mean(0) ** 2
    assert distance(naive, real.var(0, correction=0)) > 0.5
    assert distance(moments.mean, real.mean(0)) < 1e-6
    assert distance(moments.variance, real.var(0, correction=0)) < 1e-3


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_portions_change_no_bit(offset, road):
    samples = make(32, 2, 3, 9, 9, offset=offset)
    whole = everything(moments_of(samples))
    for sizes in ([8] * 4, [1] * 32, [3, 29], [31, 1]):
        for after, before in zip(everything(moments_of(*samples.split(sizes))), whole, strict=True):
            assert torch.equal(after, before)


def test_gives_an_image_the_same_bits_in_any_batch(road):
    samples = make(5, 3, 3, 11, 13)
    together = everything(moments_of(samples))
    for image in range(3):
        alone = everything(moments_of(samples[:, image : image + 1]))
        for after, before in zip(alone, together, strict=True):
            assert torch.equal(after[0], before[image])


def test_one_sample_is_its_own_mean(road):
    samples = make(1, 2, 3, 9, 9, offset=1e4)
    moments = moments_of(samples)
    assert torch.equal(moments.mean, samples[0])
    assert torch.equal(moments.variance, torch.zeros_like(samples[0]))


@pytest.mark.parametrize("shift", [-20, 20])
def test_scales_with_the_samples(shift, road):
    """A power of two changes no mantissa."""
    samples = make(6, 1, 3, 9, 9)
    plain, scaled = moments_of(samples), moments_of(samples * 2.0**shift)
    assert torch.equal(scaled.mean, plain.mean * 2.0**shift)
    assert torch.equal(scaled.variance, plain.variance * 2.0 ** (2 * shift))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, in the interpreter
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_value_stays_where_it_is(bad, road):
    samples = make(6, 3, 3, 9, 9)
    clean = everything(moments_of(samples))
    samples[2, 1, 0, 4, 5] = bad
    results = everything(moments_of(samples[:4], samples[4:]))
    for moment, before in zip(results, clean, strict=True):
        assert (~moment.isfinite()).nonzero().tolist() == [[1, 0, 4, 5]]
        moment[1, 0, 4, 5] = before[1, 0, 4, 5]
        assert torch.equal(moment, before)
    maps = kernels.gradient_map(moments_of(samples).mean, normalise=True)
    assert maps.isnan().flatten(1).all(1).tolist() == [False, True, False]


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_takes_the_layout_of_the_samples(layout, road):
    samples = make(4, 2, 3, 8, 6, layout=layout)
    moments = moments_of(samples)
    for moment in everything(moments):
        assert moment.stride() == samples[0].stride()


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_reads_samples_in_place(layout, on_triton, monkeypatch):
    """What lies in one piece a sample reaches the kernel without a copy."""
    from cam.kernels.moments import launcher as triton_moments

    received = []
    real = triton_moments.plan
    monkeypatch.setattr(
        triton_moments,
        "plan",
        lambda samples, *rest: received.append(samples) or real(samples, *rest),
    )
    samples = make(4, 2, 3, 8, 6, layout=layout)
    moments_of(samples[:1], samples[1:], samples[::2])
    assert [portion.data_ptr() for portion in received] == [
        portion.data_ptr() for portion in (samples, samples[1:], samples)
    ]
    assert received[2].stride() == (2 * samples.stride(0), 1)


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.tuples(*(st.integers(1, high) for high in (5, 3, 5, 6, 6))),
    layouts=st.lists(st.sampled_from(list(LAYOUTS)), min_size=2, max_size=2),
    dtype=st.sampled_from(list(DTYPES)),
)
def test_layouts_change_nothing_but_the_layout(shape, layouts, dtype, road):
    n, b = shape[:2]
    values = noise(2 * n * b, *shape[2:], seed=6).to(DTYPES[dtype])
    parts = [
        lay_out(part, layout).unflatten(0, (n, b))
        for part, layout in zip(values.chunk(2), layouts, strict=True)
    ]
    results = everything(moments_of(*parts))
    plain = everything(moments_of(values.to(DEVICE).unflatten(0, (2 * n, b))))
    for moment, before in zip(results, plain, strict=True):
        assert torch.equal(moment, before)


def test_computes_float64_in_float64():
    samples = make(7, 2, 3, 4, 4).double() + 1e4
    moments = moments_of(samples[:3], samples[3:])
    assert moments.mean.dtype == torch.float64
    assert distance(moments.mean, samples.mean(0)) < 1e-15
    assert distance(moments.variance, samples.var(0, correction=0)) < 1e-11


def test_does_not_belong_to_a_graph(road):
    samples = make(3, 1, 3, 4, 4).requires_grad_()
    assert not any(moment.requires_grad for moment in everything(moments_of(samples)))


def test_the_mean_is_the_state_itself(road):
    samples = make(4, 1, 3, 4, 4)
    moments = moments_of(samples[:2])
    mean = moments.mean
    moments.add(samples[2:])
    assert torch.equal(mean, moments.mean)


def test_smoothgrad_from_samples_to_map(road):
    samples = make(8, 2, 3, 20, 20, layout="channels-last")
    moments = moments_of(samples[:4], samples[4:])
    absolute = kernels.gradient_map(moments.mean, reduce="sum", signed=False)
    assert distance(absolute, samples.double().mean(0).abs().sum(1)) < 1e-5


@pytest.mark.parametrize("count", [0, 3])
def test_is_an_operator_of_torch(count, road):
    samples = make(2, 1, 3, 5, 5).flatten(1)
    mean, deviations = torch.zeros(2, 75, device=DEVICE)
    torch.library.opcheck(
        torch.ops.cam_kernels.update_moments, (samples, mean, deviations.clone(), count)
    )


def test_compiles_whole(road):
    def double(samples):
        return [2 * moment for moment in everything(moments_of(*samples.split(2)))]

    torch._dynamo.reset()
    samples = make(6, 2, 3, 5, 5)
    compiled = torch.compile(double, fullgraph=True, backend="aot_eager")
    for result, plain in zip(compiled(samples), double(samples), strict=True):
        assert torch.equal(result, plain)


SAMPLES = torch.zeros(2, 1, 3, 4, 4)


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (SAMPLES[0], r"samples must be \(N, B, C, H, W\), N samples .* \(1, 3, 4, 4\)"),
        (SAMPLES[:0], r"at least one element .* \(0, 1, 3, 4, 4\)"),
        (SAMPLES.int(), r"must be float32.*torch.int32"),
        (SAMPLES[..., :2], r"samples must be \(N, 1, 3, 4, 4\), as those added before"),
        (
            SAMPLES.half(),
            "samples must be torch.float32, as those added before, but are torch.float16",
        ),
        (SAMPLES.to("meta"), "samples must be on .*, as those added before, but are on meta"),
    ],
)
def test_says_what_is_wrong(samples, sentence):
    moments = moments_of(SAMPLES)
    with pytest.raises(ValueError, match=sentence):
        moments.add(samples)
    assert moments.count == 2


def test_says_what_is_missing():
    moments = Moments()
    assert moments.count == 0
    for name in ("mean", "variance", "mean_square"):
        with pytest.raises(ValueError, match=f"{name} needs at least one sample, but none was"):
            getattr(moments, name)
