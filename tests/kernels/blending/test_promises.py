"""Test overlay as an operator, its exact divisions, and its memory."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

from cam import kernels
from cam.kernels.blending.operation import _table_on
from tests.kernels.blending.test_operation import assert_true, bilinear64, heat, pictures
from tests.support.kernel_layers import DEVICE

interpreter = pytest.importorskip("triton.runtime.interpreter")

from cam.kernels.blending import launcher as triton_overlay  # noqa: E402  (where Triton is not there, all of this is skipped)


@pytest.mark.parametrize("options", [("turbo", 0.5, 0.0, False), ("RdBu_r", 0.3, 0.2, True)])
def test_is_a_sound_operator(options, road):
    arguments = pictures(2, 6, 8), heat(2, 3, 4), *options
    torch.library.opcheck(torch.ops.cam_kernels.overlay, arguments)
    torch.library.opcheck(torch.ops.cam_kernels.colour_table, ("turbo", arguments[1]))


def test_compiles_whole_and_gives_the_same(road):
    def brightened(images, heatmaps):
        return 255 - kernels.overlay(images, heatmaps * 0.5, "magma", threshold=0.1)

    compiled = torch.compile(brightened, fullgraph=True, backend="aot_eager")
    for shape, size in (((2, 6, 8), (3, 4)), ((1, 5, 7), (5, 7))):
        images, heatmaps = pictures(*shape), heat(shape[0], *size)
        assert torch.equal(compiled(images, heatmaps), brightened(images, heatmaps))


def test_tensors_without_memory_leave_nothing_in_the_cache_of_tables(road):
    images, heatmaps = pictures(2, 6, 8), heat(2, 3, 4)
    _table_on.cache_clear()
    with FakeTensorMode() as mode:
        fake = kernels.overlay(mode.from_tensor(images), mode.from_tensor(heatmaps))
    assert (fake.shape, fake.dtype, fake.device) == (images.shape, torch.uint8, images.device)
    assert _table_on.cache_info().currsize == 0
    kernels.overlay(images, heatmaps)
    kernels.overlay(images, heatmaps, alpha=1)
    assert _table_on.cache_info().currsize == 1


def test_a_compiled_graph_gets_a_table_of_its_own():
    """It may be overwritten by what runs after."""
    heatmaps = heat(1, 2, 2)
    table = torch.ops.cam_kernels.colour_table("jet", heatmaps)
    before = table.clone()
    table.zero_()
    assert torch.equal(torch.ops.cam_kernels.colour_table("jet", heatmaps), before)


BIG = 2**31 - 1


@settings(deadline=None)
@given(divisor=st.integers(1, 2**30), quotient=st.integers(0, BIG), n=st.integers(0, BIG))
def test_multiplies_instead_of_dividing(divisor, quotient, n):
    multiplier, shift = triton_overlay.reciprocal(divisor)
    assert -(2**31) <= multiplier < 2**31
    edge = quotient % (BIG // divisor + 1) * divisor
    for number in (0, edge - 1, edge, n, BIG // divisor * divisor - 1, BIG):
        if number >= 0:
            assert (2 * number * (multiplier % 2**32)) >> (32 + shift) == number // divisor


def plan(images, heatmaps):
    return triton_overlay.plan(images, heatmaps, _table_on("turbo", images.device), 0.5, 0.0, False)


def test_declares_what_its_docstring_says():
    """Floor and redundancy, counted by hand; the other tests hold the kernel to the declaration."""
    images, heatmaps = pictures(2, 64, 64), heat(2, 7, 7)
    launch, out = plan(images, heatmaps.half())
    pixels = 2 * 64 * 64  # four programs of 2048
    assert launch.grid == (4,)
    assert launch.reads == {
        "p_images": 3 * pixels,
        "p_heatmaps": 4 * 2 * pixels,
        "p_table": 4 * pixels,
    }
    assert launch.writes == {"p_out": 3 * pixels}
    assert launch.least_bytes == 6 * pixels + 2 * 2 * 49  # the table is the kernel's own
    assert [name for name, value in launch.arguments.items() if value is out] == ["p_out"]


@pytest.mark.parametrize("layout", ["batch", "rows", "columns", "one for all"])
def test_reads_images_and_heatmaps_where_they_are(layout):
    images = pictures(2, 6, 8)
    heatmaps = {
        "batch": lambda: heat(4, 3, 4)[::2],
        "rows": lambda: heat(2, 6, 4)[:, ::2],
        "columns": lambda: heat(2, 4, 3).transpose(1, 2),
        "one for all": lambda: heat(1, 3, 4).expand(2, 3, 4),
    }[layout]()
    launch, _ = plan(images, heatmaps)
    assert launch.arguments["p_images"] is images
    assert launch.arguments["p_heatmaps"] is heatmaps


@pytest.mark.parametrize("shape", [(2, 45, 52), (3, 23, 31)])
def test_counting_in_64_bits_changes_nothing(shape, on_triton):
    images, heatmaps = pictures(*shape), heat(shape[0], 5, 4)
    launch, out = plan(images, heatmaps)
    assert not launch.arguments["INT64"]
    dataclasses.replace(launch, arguments=launch.arguments | {"INT64": True}).run()
    assert torch.equal(out, kernels.overlay(images, heatmaps))


@pytest.fixture
def only_the_end(monkeypatch):
    """Let the interpreter run a launch's last two programs, and leave all other memory alone."""

    def shortened(launch):
        skipped = launch.grid[0] - 2

        def skip(self, x, y, z):
            self.grid_idx = (x + skipped, y, z)

        monkeypatch.setattr(interpreter.InterpreterBuilder, "set_grid_idx", skip)
        monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *_: None)
        return dataclasses.replace(launch, grid=(2,))

    return shortened if DEVICE == "cpu" else lambda launch: launch


@pytest.mark.parametrize(
    "shape",
    [(1, 26_755, 26_757), (1, 40_006, 53_679), (3, 26_755, 26_757)],
    ids=["bytes", "program's end", "pixels"],
)
def test_reaches_past_32_bits(shape, only_the_end, on_triton):
    """2³¹ is less than the bytes, the last program's would-be end, or the pixels.

    All is address space, of which hardly any is touched.
    """
    batch, height, width = shape
    try:
        images = torch.empty((*shape, 3), dtype=torch.uint8, device=DEVICE)
        heatmaps = heat(batch, 3, 5)
        launch, out = plan(images, heatmaps)
    except RuntimeError:
        pytest.skip("no 13 GB of address space")
    assert images.numel() > 2**31
    assert launch.arguments["INT64"] == (batch * height * width > 2**31)
    count = 2500  # pixels, of the last two programs
    end = images[-1, -1, -count:].copy_(pictures(1, 1, count)[0, 0])
    only_the_end(launch).run()
    corner = np.array([height - 1]), np.arange(width - count, width)
    sampled = bilinear64(heatmaps[-1].double().cpu().numpy(), height, width, corner)
    assert_true(out[-1, -1:, -count:], end[None], sampled, "turbo", 0.5)
