"""Gradients without their zeros are those of torch, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import roi_align

from cam._engine.fast_ops.sparse_backward import SparseBackward


def gradients(run, inputs, where, sparse):
    inputs = inputs.clone().requires_grad_()
    if sparse:
        with SparseBackward():
            output = run(inputs)
    else:
        output = run(inputs)
    score = output[where].square().sum()
    return torch.autograd.grad(score, inputs)[0], output


def assert_same(run, inputs, where):
    (actual, output), (expected, truth) = (gradients(run, inputs, where, s) for s in (True, False))
    assert torch.equal(output, truth)
    assert torch.allclose(actual, expected, rtol=1e-10, atol=1e-12)


CELLS = [(0, 0), (5, 6), (-1, -1), (slice(2, 5), slice(1, 3)), (slice(None), slice(None))]


@pytest.mark.filterwarnings("ignore:Using padding=")
@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("kernel", [1, 3, (5, 2)], ids=str)
@pytest.mark.parametrize("stride", [1, 2, (1, 3)], ids=str)
@pytest.mark.parametrize("padding", [0, 1, (2, 3), "same"], ids=str)
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution(cell, kernel, stride, padding, dilation, groups):
    if padding == "same" and stride != 1:
        pytest.skip("torch does not")
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups).double()
    inputs = torch.randn(2, 4, 19, 23, dtype=torch.float64)
    assert_same(layer, inputs, (slice(None), slice(None), *cell))


def test_a_window_in_the_middle_is_not_empty():
    layer = nn.Conv2d(1, 1, 3, padding=1).double()
    inputs = torch.randn(1, 1, 9, 9, dtype=torch.float64)
    (actual, _) = gradients(layer, inputs, (0, 0, 4, 4), sparse=True)
    assert int(actual.ne(0).sum()) == 9
    assert actual[0, 0, 3:6, 3:6].all()


def test_rows_of_a_linear_layer():
    torch.manual_seed(0)
    layer = nn.Linear(5, 7).double()
    for rows in ([3], [0, 99], range(100)):
        assert_same(layer, torch.randn(100, 5, dtype=torch.float64), torch.tensor(list(rows)))


def test_regions():
    torch.manual_seed(0)
    boxes = torch.rand(80, 4, dtype=torch.float64) * 8
    boxes[:, 2:] += boxes[:, :2]
    numbers = torch.arange(80)[:, None] % 2
    regions = torch.cat([numbers.double(), boxes], 1)
    inputs = torch.randn(2, 3, 16, 12, dtype=torch.float64)
    for aligned in (True, False):
        for rows in ([5], [4, 70], range(80)):
            assert_same(
                lambda x, aligned=aligned: roi_align(x, regions, (3, 2), 0.5, 2, aligned),
                inputs,
                torch.tensor(list(rows)),
            )


def test_a_gradient_of_zeros_and_layers_that_do_not_follow():
    layer = nn.Conv2d(1, 1, 3)
    inputs = torch.rand(1, 1, 8, 8, requires_grad=True)
    with SparseBackward():
        output = layer(inputs)
        without = layer(inputs.detach())
    (gradient,) = torch.autograd.grad((output * 0).sum(), inputs)
    assert torch.equal(gradient, torch.zeros_like(inputs))
    assert torch.equal(without, functional.conv2d(inputs, layer.weight, layer.bias))
