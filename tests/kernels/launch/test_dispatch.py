"""Test which backend a tensor takes, with absent GPUs too."""

import subprocess
import sys
import warnings
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
    dispatch.obstacle.cache_clear()
    dispatch._warn_once.cache_clear()
    yield
    dispatch.obstacle.cache_clear()
    dispatch._warn_once.cache_clear()


def only_warning(choose, *tensors):
    """Ask twice for each tensor; all take the reference, and one sentence says why."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert {choose(tensor) for tensor in 2 * tensors} == {"reference"}
    (warning,) = caught
    return str(warning.message)


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
    assert "Triton is not installed" in only_warning(kernels.backend, on_gpu())
    assert kernels.backend(HERE) == "reference"
    monkeypatch.setenv("CAM_KERNELS", "triton")
    with pytest.raises(RuntimeError, match="Triton is not installed"):
        kernels.backend(on_gpu())


def test_an_old_gpu_takes_the_reference_and_says_why(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    sentence = only_warning(kernels.backend, on_gpu(), on_gpu(torch.float16))
    assert "cuda:0 has compute capability 6.1, and they need 7.0" in sentence
    assert "CAM_KERNELS=reference" in sentence
    monkeypatch.setenv("CAM_KERNELS", "triton")
    with pytest.raises(RuntimeError, match=r"CAM_KERNELS=triton, but cuda:0 has compute"):
        kernels.backend(on_gpu())


def test_without_a_compiler_all_is_reference(monkeypatch):
    triton = pytest.importorskip("triton")
    build = pytest.importorskip("triton.runtime.build")
    starts = []

    class Driver:
        def get_current_target(self):
            starts.append(1)
            monkeypatch.delenv("CC", raising=False)
            monkeypatch.setattr(build.shutil, "which", lambda name: None)
            build._find_compiler.cache_clear()
            return build._find_compiler("c")  # as the real driver does, which needs a GPU

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(triton.runtime.driver, "_active", Driver())
    sentence = only_warning(kernels.backend, on_gpu())
    build._find_compiler.cache_clear()
    assert "Triton's driver does not start here (Failed to find C compiler" in sentence
    assert len(starts) == 1


def test_amd_takes_the_reference_where_programs_read_what_others_stored(monkeypatch):
    assert dispatch.backend_across_programs(on_gpu()) == "triton"
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert kernels.backend(on_gpu(torch.bfloat16)) == "triton"
    sentence = only_warning(dispatch.backend_across_programs, on_gpu())
    assert "AMD's GPUs do not order the stores of several waves" in sentence
    monkeypatch.setenv("CAM_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert dispatch.backend_across_programs(HERE) == "triton"  # the interpreter orders all


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
