"""Test which backend a tensor takes, with absent GPUs too."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from cam import kernels
from cam.kernels.launch import dispatch

HERE = torch.zeros(1)


def on_gpu(dtype=torch.float32):
    return SimpleNamespace(is_cuda=True, dtype=dtype, device=torch.device("cuda", 0))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv("CAM_KERNELS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))


def test_the_device_decides():
    assert kernels.backend(HERE) == "reference"
    assert kernels.backend(on_gpu()) == "triton"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_gpu_takes_triton(dtype):
    assert kernels.backend(on_gpu(dtype)) == "triton"


@pytest.mark.parametrize("override", ["", "triton"])
def test_what_triton_cannot_do_stays_with_the_reference(override, monkeypatch):
    monkeypatch.setenv("CAM_KERNELS", override)
    assert kernels.backend(on_gpu(torch.float64)) == "reference"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert kernels.backend(on_gpu(torch.bfloat16)) == "reference"
    assert kernels.backend(on_gpu(torch.float16)) == "triton"


def test_the_environment_overrides(monkeypatch):
    monkeypatch.setenv("CAM_KERNELS", "reference")
    assert kernels.backend(on_gpu()) == "reference"
    monkeypatch.setenv("CAM_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert kernels.backend(HERE) == "triton"


def test_another_word_is_refused(monkeypatch):
    monkeypatch.setenv("CAM_KERNELS", "cuda")
    with pytest.raises(ValueError, match="CAM_KERNELS is 'cuda', but only 'triton' and"):
        kernels.backend(HERE)


def test_triton_on_a_cpu_needs_its_interpreter(monkeypatch):
    monkeypatch.setenv("CAM_KERNELS", "triton")
    with pytest.raises(RuntimeError, match="set TRITON_INTERPRET=1 before Python starts"):
        kernels.backend(HERE)


def test_without_triton_all_is_reference(monkeypatch):
    monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: None)
    assert kernels.backend(on_gpu()) == "reference"
    monkeypatch.setenv("CAM_KERNELS", "triton")
    with pytest.raises(RuntimeError, match="Triton is not installed"):
        kernels.backend(on_gpu())


def test_the_package_works_where_triton_is_missing():
    program = """
import sys
sys.modules["triton"] = None
import torch, kernels
maps = kernels.fused_cam(torch.ones(1, 2, 2, 2), torch.arange(8.0).view(1, 2, 2, 2))
kernels.gradient_map(torch.ones(1, 2, 2, 2))
kernels.overlay(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), maps[:, 0])
assert kernels.backend(maps) == "reference"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_package_does_not_import_the_triton_kernels():
    program = (
        "import sys, kernels; sys.exit('cam.kernels.class_activation.launcher' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
