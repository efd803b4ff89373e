"""The faster operations against torch's own values and gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cam._engine.fast_ops import fast_forward
from cam._engine.fast_ops.direct_operations import DirectOperations
from cam._engine.forward import run_model


def both(network, shape, dtype=torch.float32, steps=1):
    """Output and gradient by the input, torch's way and the short way, each from the same start."""
    torch.manual_seed(0)
    start = torch.randn(shape, dtype=dtype)
    results = []
    for quick in (False, True):
        pixels = start.clone().requires_grad_()
        if quick:
            with DirectOperations():
                output = network(pixels * 1)
        else:
            output = network(pixels * 1)
        gradient = output.square().sum()
        for _ in range(steps):
            (gradient,) = torch.autograd.grad(gradient.sum(), pixels, create_graph=True)
        results.append((output.detach(), gradient.detach()))
    return results


def fixed(norm):
    """Batch norm with statistics and parameters that are none of the first ones."""
    with torch.no_grad():
        for values in (*norm.buffers(), *norm.parameters()):
            if values.is_floating_point():
                values.uniform_(0.5, 2)
    return norm.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.BatchNorm1d, (4, 5)),
        (nn.BatchNorm1d, (4, 5, 3)),
        (nn.BatchNorm2d, (2, 5, 7, 3)),
        (nn.BatchNorm3d, (2, 5, 3, 2, 4)),
    ],
)
def test_fixed_batch_norm(kind, shape, affine, dtype):
    network = nn.Sequential(fixed(kind(shape[1], affine=affine).to(dtype)), nn.ReLU(inplace=True))
    (output, gradient), (mine, torch_gradient) = both(network, shape, dtype)
    assert torch.equal(output, mine)
    torch.testing.assert_close(gradient, torch_gradient, rtol=4 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 2)},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 2, "stride": 1, "dilation": 2},
    ],
)
@pytest.mark.parametrize("rectified", [True, False], ids=["ties", "distinct"])
def test_max_pooling(options, rectified):
    pool = nn.MaxPool2d(**options)
    network = nn.Sequential(nn.ReLU(), pool) if rectified else pool
    (output, gradient), (mine, torch_gradient) = both(network, (2, 5, 9, 12))
    assert torch.equal(output, mine)
    assert torch.equal(gradient, torch_gradient)
    assert mine.is_contiguous()


def test_second_derivatives():
    network = nn.Sequential(fixed(nn.BatchNorm2d(3)), nn.MaxPool2d(2), nn.Tanh())
    (_, gradient), (_, torch_gradient) = both(network, (2, 3, 6, 6), torch.float32, steps=2)
    assert gradient.abs().max() > 0
    torch.testing.assert_close(gradient, torch_gradient)


def test_batch_norm_in_training_is_torchs():
    norm = nn.BatchNorm2d(3)
    (output, gradient), _ = both(norm, (2, 3, 4, 4))
    norm = nn.BatchNorm2d(3)
    _, (mine, torch_gradient) = both(norm, (2, 3, 4, 4))
    torch.testing.assert_close(output, mine)
    torch.testing.assert_close(gradient, torch_gradient)
    assert norm.num_batches_tracked == 2


def test_autocast_and_planes_apart_are_torchs():
    pixels = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = fixed(nn.BatchNorm2d(3))
    with DirectOperations():
        assert functional.max_pool2d(pixels, 2).is_contiguous(memory_format=torch.channels_last)
        assert norm(pixels.bfloat16()).dtype == torch.bfloat16


def test_the_short_way_is_taken():
    pixels = torch.randn(2, 3, 8, 8, requires_grad=True)
    with DirectOperations():
        assert "_FixedNorm" in type(fixed(nn.BatchNorm2d(3))(pixels).grad_fn).__name__
        assert "_MaxPool" in type(functional.max_pool2d(pixels, 2).grad_fn).__name__
        with torch.no_grad():
            assert functional.max_pool2d(pixels, 2).grad_fn is None


def test_the_switch_runs_every_pass_plainly(monkeypatch):
    """The mode is not entered at all; the values are torch's own either way."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    batch = torch.rand(2, 3, 8, 8)
    entered = []
    enter = DirectOperations.__enter__
    monkeypatch.setattr(
        DirectOperations, "__enter__", lambda self: entered.append(1) or enter(self)
    )
    with torch.no_grad():
        truth = network(batch)
        for enabled in (True, False):
            entered.clear()
            monkeypatch.setattr(fast_forward, "ENABLED", enabled)
            assert torch.equal(run_model(network, batch), truth)
            assert bool(entered) == enabled
