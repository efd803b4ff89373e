"""Fixtures of every test: Triton's interpreter, one thread, model and photos."""

import os

# Read by Triton when a kernel is decorated, so it must be set before anything imports `kernels`.
# With a GPU at hand the kernels run on it instead.
if not os.environ.get("CAM_TEST_ON_GPU"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch

import cam

# Several threads on a small or busy machine wait for each other more than they help.
torch.set_num_threads(1)
# As in every process of this project.
cam.keep_memory()


@pytest.fixture(scope="session")
def bundled() -> cam.Model:
    return cam.load_model("efficientnet_lite0")


@pytest.fixture(scope="session")
def photos() -> list:
    """Three real photos in different classes: a cat, a cup of coffee, a rocket."""
    return [cam.sample(name) for name in ("chelsea", "coffee", "rocket")]


@pytest.fixture(scope="session")
def batch(bundled, photos) -> torch.Tensor:
    return bundled.prepare(photos)
