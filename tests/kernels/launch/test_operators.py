"""Test the kernels as operators of PyTorch, and what a compiler sees."""

import os
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision import tv_tensors

from cam import kernels
from cam.kernels import RULES
from cam.kernels.class_activation.rules import Rule
from cam.kernels.launch.launcher_parts import is_real
from tests.support.kernel_layers import DEVICE, distance, noise

ALL = [*Rule]
WEIGHTED = [2, 1, 0]  # the other rules' weights are NaN, unequal to itself


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("outputs", [(True, False, False), (False, True, True), (True, True, True)])
def test_fused_cam_is_a_sound_operator(outputs, layout, road):
    a, g = (noise(2, 5, 4, 3, seed=seed).to(DEVICE, memory_format=layout) for seed in (1, 2))
    rules = WEIGHTED if outputs[2] else ALL
    torch.library.opcheck(torch.ops.cam_kernels.fused_cam, (a, g, rules, *outputs))


class Named(torch.Tensor):
    """A subclass that has memory like any other tensor."""


@pytest.mark.parametrize("wrap", [tv_tensors.Image, lambda tensor: tensor.as_subclass(Named)])
def test_a_subclass_is_computed_like_a_plain_tensor(wrap, road, guarded):
    a, g = (noise(2, 3, 5, 4, seed=seed).to(DEVICE) for seed in (1, 2))
    for function in (
        lambda a, g: kernels.fused_cam(a, g, RULES),
        lambda a, g: kernels.gradient_map(g, a, normalise=True),
        lambda a, g: kernels.masked_batch(a[:1], g[:, 0].abs()),
    ):
        plain = function(a, g)
        assert torch.equal(function(wrap(a), wrap(g)).as_subclass(torch.Tensor), plain)


def test_what_is_traced_is_not_real():
    tensor = torch.ones(2)
    with FakeTensorMode() as mode:
        assert not is_real(mode.from_tensor(tensor))
    assert not is_real(tensor.to("meta"))
    assert not is_real(tensor.as_subclass(Named).to("meta"))
    assert is_real(tensor)
    assert is_real(torch.nn.Parameter(tensor))
    assert is_real(tensor.as_subclass(Named))


def test_fused_cam_compiles_whole_and_gives_the_same(road):
    a, g = (noise(2, 5, 4, 3, seed=seed).to(DEVICE) for seed in (1, 2))

    def tail(a, g):
        return kernels.fused_cam(a * 2, g, RULES).sum(1)

    compiled = torch.compile(tail, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(a, g), tail(a, g), atol=1e-6)


# In a separate process, because interpreted kernels cannot be traced. A fake tensor claims to be
# on a GPU, so the road is Triton's, and the compiler must see the launch itself.
TRACED = """
import logging, torch
logging.disable(logging.ERROR)  # Triton is asked for its target, and no GPU is there
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses import FakeTensorMode
import kernels
seen = []
def keep(graph, inputs):
    seen.append(graph)
    return graph
with FakeTensorMode():
    {arguments}
    torch.compile({call}, fullgraph=True, backend=aot_autograd(fw_compiler=keep))({names})
targets = [str(node.target) for node in seen[0].graph.nodes]
print(sum("triton_kernel_wrapper" in target for target in targets))
"""
CASES = {
    "fused_cam": (
        "a = torch.empty(2, 64, 7, 7, device='cuda:0', dtype=torch.float16); g = a + 1",
        "lambda a, g: kernels.fused_cam(a, g, kernels.RULES)",
        "a, g",
    ),
    "fused_cam, large planes": (
        "a = torch.empty(2, 64, 56, 56, device='cuda:0'); g = a + 1",
        "lambda a, g: kernels.fused_cam(a, g, kernels.RULES)",
        "a, g",
    ),
    "overlay": (
        "i = torch.empty(2, 56, 56, 3, device='cuda:0', dtype=torch.uint8);"
        "h = torch.empty(2, 7, 7, device='cuda:0')",
        "lambda i, h: kernels.overlay(i, h)",
        "i, h",
    ),
    "masked_batch": (
        "i = torch.empty(3, 56, 56, device='cuda:0'); m = torch.empty(8, 7, 7, device='cuda:0')",
        "lambda i, m: kernels.masked_batch(i, m)",
        "i, m",
    ),
    "gradient_map": (
        "g = torch.empty(2, 3, 56, 56, device='cuda:0')",
        "lambda g: kernels.gradient_map(g, normalise=True)",
        "g",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_compiler_sees_one_launch(case):
    arguments, call, names = CASES[case]
    environment = {
        name: text
        for name, text in os.environ.items()
        if name not in ("TRITON_INTERPRET", "CAM_KERNELS")
    }
    program = TRACED.format(arguments=arguments, call=call, names=names)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["1"]


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
class TestOnAGpu:
    """What only a GPU can show."""

    def test_replays_in_a_graph(self):
        a, g = (noise(4, 64, 7, 7, seed=seed).to(DEVICE) for seed in (1, 2))
        kernels.fused_cam(a, g, RULES)  # compiles
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = kernels.fused_cam(a, g, RULES)
        for seed in (3, 4, 5):
            a.copy_(noise(4, 64, 7, 7, seed=seed))
            graph.replay()
            assert torch.equal(captured, kernels.fused_cam(a, g, RULES))

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
    @pytest.mark.parametrize("wrap", [lambda tensor: tensor, tv_tensors.Image])
    def test_runs_where_the_tensors_are(self, wrap):
        """The current GPU is another one."""
        values = [noise(4, 64, 7, 7, seed=seed) for seed in (1, 2)]
        a, g = (wrap(value.to("cuda:1")) for value in values)
        truth = kernels.fused_cam(*values, RULES), kernels.gradient_map(values[0], normalise=True)
        with torch.cuda.device(0):
            maps = kernels.fused_cam(a, g, RULES), kernels.gradient_map(a, normalise=True)
        for result, expected in zip(maps, truth, strict=True):
            assert result.device == torch.device("cuda:1")
            assert distance(result, expected) < 1e-5

    def test_two_streams_at_once(self):
        a, g = (noise(64, 512, 7, 7, seed=seed).to(DEVICE) for seed in (1, 2))
        truth = kernels.fused_cam(a, g, RULES)
        torch.cuda.synchronize()
        streams = [torch.cuda.Stream() for _ in range(4)]
        maps = []
        for turn in range(100):
            with torch.cuda.stream(streams[turn % 4]):
                maps.append(kernels.fused_cam(a, g, RULES))
        torch.cuda.synchronize()
        assert all(torch.equal(result, truth) for result in maps)
