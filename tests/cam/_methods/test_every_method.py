"""Promises that hold for every method."""

import gc
import warnings
from functools import lru_cache

import pytest
import timm
import torch
from torch import nn

import cam

SIZE = 32
# So that each takes a moment.
SMALLER: dict[str, dict] = {
    "integrated_gradients": {"steps": 4},
    "guided_integrated_gradients": {"steps": 6},
    "blur_integrated_gradients": {"steps": 4, "sigma": 4.0},
    "expected_gradients": {"samples": 3},
    "gradientshap": {"samples": 3},
    "smoothgrad": {"samples": 3},
    "vargrad": {"samples": 3},
    "squaregrad": {"samples": 3},
    "smoothgradcam_plus_plus": {"samples": 3},
    "sscam": {"samples": 2},
    "iscam": {"steps": 2},
    "xrai": {"steps": 2},
    "extremal_perturbation": {"areas": (0.2,), "steps": 4},
    "rise": {"masks": 12},
    "lime": {"samples": 30, "segments": 8},
    "kernelshap": {"samples": 30, "segments": 8},
    "partitionshap": {"segments": 8},
    "sobol": {"designs": 4, "cells": 3},
    "hsic": {"samples": 20, "cells": 3},
    "idgi": {"steps": 4},
    "tis": {"masks": 12},
}
# D-RISE asks a detector; its promises are kept in perturbation/test_drise.py.
NAMES = [name for name in cam.methods() if name != "drise"]
# XRAI cuts each picture into segments at many scales, which takes seconds; its passes are those of
# integrated gradients.
QUICK = [name for name in NAMES if name != "xrai"]


def configure(name: str) -> cam.Method:
    return cam.method(name, **SMALLER.get(name, {}))


@lru_cache(maxsize=1)
def convolutional() -> nn.Sequential:
    """A network as users have them: batch norm, an in-place ReLU, a linear head."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    with torch.no_grad():  # statistics and scales as after some training
        for _ in range(3):
            model(torch.randn(8, 3, SIZE, SIZE))
        model[1].weight.uniform_(0.5, 1.5)
        model[1].bias.normal_()
    return model.eval()


@lru_cache(maxsize=1)
def transformer() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", img_size=SIZE, patch_size=8, depth=2, num_classes=5).eval()


def model_for(name: str) -> nn.Module:
    return transformer() if cam.methods()[name].attention else convolutional()


def pictures() -> torch.Tensor:
    """Smooth, so that superpixels and segments find something."""
    coarse = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")


def explained(name: str, batch: torch.Tensor, **options: object) -> cam.Attribution:
    targets = options.pop("targets", [1] * len(batch))
    layers = None if cam.methods()[name].attention else "5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cam.CamWarning)
        attributions = cam.attribute(
            model_for(name), batch, configure(name), targets, layers, **options
        )
    return attributions[name]


def state_of(model: nn.Module) -> tuple:
    return (
        {
            key: (value.clone(), id(value))
            for key, value in model.state_dict(keep_vars=True).items()
        },
        [(p.grad, p.requires_grad) for p in model.parameters()],
        [
            (
                id(m),
                m.training,
                dict(m._forward_hooks),
                dict(m._forward_pre_hooks),
                dict(m._backward_hooks),
                set(vars(m)),
            )
            for m in model.modules()
        ],
    )


def assert_as_it_was(before: tuple, after: tuple) -> None:
    for key, (value, identity) in before[0].items():
        assert torch.equal(value, after[0][key][0]), key
        assert identity == after[0][key][1], key
    assert before[1:] == after[1:]


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_out(name):
    batch = pictures()
    actual = explained(name, batch)
    assert actual.heatmap.shape == (2, SIZE, SIZE)
    assert actual.heatmap.dtype == actual.raw.dtype == torch.float32
    assert actual.heatmap.isfinite().all()
    assert actual.raw.isfinite().all()
    assert 0 <= actual.heatmap.min() <= actual.heatmap.max() <= 1
    assert not actual.heatmap.requires_grad
    assert (actual.raw.flatten(1).std(1) > 0).all(), "the same everywhere"
    assert actual.cost.forwards >= 1
    assert actual.method == name


@pytest.mark.parametrize("name", QUICK)
def test_twice_gives_the_same_bits(name):
    torch.manual_seed(1)
    first = explained(name, pictures())
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = explained(name, pictures())
    assert torch.equal(first.heatmap, second.heatmap)
    assert torch.equal(state, torch.get_rng_state()), "the caller's random numbers were used"


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_its_images_give_one_by_one(name):
    batch = pictures()
    whole = explained(name, batch)
    for index in range(2):
        single = explained(name, batch[index : index + 1])
        assert torch.allclose(single.heatmap[0], whole.heatmap[index], atol=2e-4), index


@pytest.mark.parametrize("name", NAMES)
def test_the_model_and_the_batch_stay_as_they_were(name):
    model, batch = model_for(name), pictures()
    before, original = state_of(model), batch.clone()
    explained(name, batch)
    assert_as_it_was(before, state_of(model))
    assert torch.equal(batch, original)
    assert batch.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_also_after_a_target_that_fails(name):
    model = model_for(name)
    before = state_of(model)

    def fails(_output: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of luck")

    with pytest.raises((RuntimeError, cam.CamError)):
        explained(name, pictures(), targets=[fails, fails])
    assert_as_it_was(before, state_of(model))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_inside_the_callers_context(name, context):
    expected = explained(name, pictures())
    with context():
        actual = explained(name, pictures() * 1)
    assert torch.allclose(actual.heatmap, expected.heatmap, atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_in_bfloat16(name):
    expected = explained(name, pictures())
    full = cam.methods()[name].full
    short = explained(name, pictures(), precision="bf16")
    assert short.precision == ("fp32" if full else "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        ambient = explained(name, pictures())
    assert ambient.precision == short.precision
    for attribution in (short, ambient):
        assert attribution.heatmap.dtype == torch.float32
        assert attribution.heatmap.isfinite().all()
        if full:
            assert torch.allclose(attribution.raw, expected.raw, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", QUICK)
def test_a_frozen_model(name):
    expected = explained(name, pictures())
    model = model_for(name).requires_grad_(False)
    try:
        actual = explained(name, pictures())
    finally:
        model.requires_grad_(True)
    assert torch.allclose(actual.heatmap, expected.heatmap, atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_an_image_with_nan_stays_alone(name):
    batch = pictures()
    expected = explained(name, batch).heatmap[0]
    batch[1, 0, 3, 3] = torch.nan
    actual = explained(name, batch).heatmap
    assert torch.allclose(actual[0], expected, atol=2e-4)
    assert actual[1].isnan().all()


@pytest.mark.parametrize("name", [key for key in NAMES if cam.methods()[key].passes])
def test_stopping_leaves_nothing_behind(name):
    model = model_for(name)
    before = state_of(model)
    reports = []

    def stop(progress: cam.Progress) -> bool:
        reports.append(progress)
        return False

    try:
        explained(name, pictures(), progress=stop, batch_size=1)
    except cam.Cancelled:
        assert reports
    else:
        assert not reports, "it was cancelled, and went on"
    assert_as_it_was(before, state_of(model))


@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_kept(name):
    """Tensors of a call must not outlive it."""

    def tensors() -> int:
        gc.collect()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    batch = pictures()
    for _ in range(2):  # what is loaded once, such as colours or tables
        explained(name, batch)
    before = tensors()
    for _ in range(3):
        explained(name, batch)
    assert tensors() <= before


@pytest.mark.parametrize("name", NAMES)
def test_what_it_is_can_be_read(name):
    info = cam.methods()[name]
    assert info.title
    assert info.description.endswith(".") or "." in info.description
    assert any(character.isdigit() for character in info.citation), "no year"
    assert info.cost
