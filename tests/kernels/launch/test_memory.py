"""Test what the Triton kernels read, copy, share and reach."""

import numpy as np
import pytest
import torch

from cam import kernels
from cam.kernels.class_activation import launcher as triton_cam
from cam.kernels.class_activation.rules import Rule
from cam.kernels.input_gradient import launcher as triton_saliency
from cam.kernels.launch.launcher_parts import planes
from tests.support.kernel_layers import DEVICE, DTYPES, LAYOUTS, distance, lay_out, noise
from tests.support.rules64 import truth64

interpreter = pytest.importorskip("triton.runtime.interpreter")
interpreted = pytest.mark.skipif(DEVICE != "cpu", reason="watches Triton's interpreter")

COPIED = ("cropped", "transposed")


@pytest.fixture
def addresses(monkeypatch):
    """The address of every element that a kernel loads, one entry a load."""
    loaded = []
    real = interpreter.InterpreterBuilder.create_masked_load

    def load(self, ptrs, mask, *rest):
        loaded.append(ptrs.data[np.broadcast_to(mask.data, ptrs.data.shape)])
        return real(self, ptrs, mask, *rest)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_masked_load", load)
    return loaded


def loads_of(tensor, addresses):
    """How often each element of a tensor was loaded, and how many loads fell between them."""
    every = np.concatenate([part.ravel() for part in addresses])
    offsets = torch.zeros(1, dtype=torch.int64)
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        offsets = offsets.unsqueeze(-1) + torch.arange(size) * stride
    elements = tensor.data_ptr() + offsets.numpy().ravel().astype(np.uint64) * tensor.element_size()
    begin, end = elements.min(), elements.max() + tensor.element_size()
    near = every[(every >= begin) & (every < end)]
    distinct, counts = np.unique(near, return_counts=True)
    assert np.array_equal(distinct, np.sort(elements))
    return counts


@interpreted
@pytest.mark.parametrize(("h", "w"), [(3, 4), (7, 7), (13, 17), (32, 32)])
@pytest.mark.parametrize("layout", ["contiguous", "channels-last", "every-other-channel"])
def test_fused_cam_loads_every_element_once_whatever_the_rules(layout, h, w, addresses, on_triton):
    a = lay_out(noise(2, 35, h, w, seed=1), layout)
    g = lay_out(noise(2, 35, h, w, seed=2), "channels-last")
    for rules in (("gradcam",), kernels.RULES):
        addresses.clear()
        kernels.fused_cam(a, g, rules, return_signed=True, return_weights=True)
        assert (loads_of(a, addresses) == 1).all()
        assert (loads_of(g, addresses) == 1).all()


@interpreted
@pytest.mark.parametrize(
    ("rules", "of_a", "of_g"),
    [
        (("gradcam",), 1, 1),
        (("layercam", "hirescam", "gradcam_elementwise"), 1, 1),
        (("gradcam", "layercam"), 2, 1),
        (("xgradcam",), 2, 1),
        (("gradcam_plus_plus",), 2, 1),
        (kernels.RULES, 2, 2),
    ],
)
def test_fused_cam_loads_a_large_plane_at_most_twice(rules, of_a, of_g, addresses, on_triton):
    a, g = (lay_out(noise(2, 17, 33, 32, seed=seed), "contiguous") for seed in (1, 2))
    kernels.fused_cam(a, g, rules, return_signed=True, return_weights=True)
    assert (loads_of(a, addresses) == of_a).all()
    assert (loads_of(g, addresses) == of_g).all()


@interpreted
@pytest.mark.parametrize("c", [3, 35])
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_gradient_map_loads_every_element_once(layout, c, addresses, on_triton):
    g = lay_out(noise(2, c, 25, 25, seed=1), layout)
    x = lay_out(noise(2, c, 25, 25, seed=2), "contiguous")
    kernels.gradient_map(g, x, normalise=True)
    assert (loads_of(g, addresses) == 1).all()
    assert (loads_of(x, addresses) == 1).all()


@interpreted
@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_programs_changes_no_bit(seed, monkeypatch, on_triton, guarded):
    a, g = noise(2, 70, 17, 17, seed=1), noise(2, 70, 17, 17, seed=2)
    large = noise(2, 35, 33, 32, seed=3)

    def run():
        return (
            *kernels.fused_cam(a, g, kernels.RULES, return_signed=True),
            *kernels.fused_cam(large, large, kernels.RULES, return_signed=True),
            *kernels.gradient_map(g, a, normalise=True, return_raw=True),
        )

    in_order = run()
    real = interpreter.InterpreterBuilder.set_grid_idx
    random = np.random.default_rng(seed)
    orders = {}
    started = []

    def shuffled(self, x, y, z):
        size = self.grid_dim[0]
        if size not in orders:
            orders[size] = random.permutation(size)
        started.append(int(orders[size][x]))
        return real(self, int(orders[size][x]), y, z)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "set_grid_idx", shuffled)
    for after, before in zip(run(), in_order, strict=True):
        assert torch.equal(after, before)
    assert started != sorted(started)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_what_cannot_be_strided_is_copied(layout):
    tensor = lay_out(noise(2, 5, 4, 6, seed=1), layout)
    described = planes(tensor)
    assert (described.tensor.data_ptr() != tensor.data_ptr()) == (layout in COPIED)
    assert torch.equal(described.tensor, tensor)
    strides = (described.stride_b, described.stride_c, described.stride_s)
    assert torch.equal(described.tensor.as_strided((2, 5, 24), strides), tensor.flatten(2))


def test_each_call_has_its_own_scratch():
    a, large = noise(2, 70, 7, 7, seed=1), noise(2, 3, 40, 40, seed=1)
    options = {"maps": True, "signed": False, "weights": False}
    for plan in (
        lambda: triton_cam.plan(a, a, tuple(Rule), **options)[0],
        lambda: triton_cam.plan(large, large, tuple(Rule), **options)[0],
        lambda: triton_saliency.plan(a, None, "max", maps=True)[0],
    ):
        first, second = plan(), plan()
        assert "p_counters" in first.scratch
        for name in first.scratch:
            if first.arguments[name] is None:  # of an option that was not asked for
                continue
            assert first.arguments[name].data_ptr() != second.arguments[name].data_ptr(), name


# Three strides of this pass 2³¹ elements, so that a product of 32 bits would wrap around.
FAR = 2**30 + 8


@pytest.fixture
def vast(monkeypatch):
    """4 GiB of address space, hardly any of it ever touched."""
    if DEVICE == "cpu":
        # Host and device are one here, so the interpreter's copying back would only touch it all.
        monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *_: None)
    try:
        return torch.empty(2 * FAR + 4096, dtype=torch.float16, device=DEVICE)
    except RuntimeError:
        pytest.skip("no 4 GiB of address space")


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((3, 5, 2, 3), (FAR, 6, 3, 1)),
        ((2, 3, 2, 3), (6, FAR, 3, 1)),
        ((2, 2, 3, 1), (2, 1, FAR, 1)),
    ],
    ids=["images", "channels", "pixels"],
)
def test_reaches_past_32_bits(shape, strides, vast, on_triton):
    a = vast.as_strided(shape, strides, 0)
    g = vast.as_strided(shape, strides, 1024)
    a.copy_(noise(*shape, seed=1))
    g.copy_(noise(*shape, seed=2))
    assert planes(a).needs_int64 == (strides[0] < FAR)
    rules = ("gradcam", "hirescam", "gradcam_elementwise")
    signed = truth64(a, g, rules)[1]
    assert distance(kernels.fused_cam(a, g, rules, normalise=False), signed) < 1e-5
    total = (a.double() * g.double()).sum(1)
    assert distance(kernels.gradient_map(g, a, reduce="sum"), total) < 1e-5


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_copied_layout_gives_the_bits_of_a_contiguous_one(dtype, on_triton):
    values = noise(2, 20, 7, 7, seed=1), noise(2, 20, 7, 7, seed=2)
    straight = [lay_out(value, "contiguous", dtype) for value in values]
    copied = [lay_out(value, layout, dtype) for value, layout in zip(values, COPIED, strict=True)]
    assert torch.equal(kernels.fused_cam(*straight), kernels.fused_cam(*copied))
