"""Overwritten convolution outputs: torch's own bits, whoever reads them when."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import cam
from cam._engine.fast_ops import fast_forward
from cam._engine.fast_ops.direct_operations import DirectOperations
from cam._engine.fast_ops.overwritable_tensor import OverwritableTensor
from cam._engine.forward import run_model


class Network(nn.Module):
    """A convolution and a batch norm with varied statistics, used as ``steps`` says."""

    def __init__(self, steps, layers=1) -> None:
        super().__init__()
        self.steps = steps
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))
        for norm in self.norms:
            for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
                values.uniform_(0.5, 2)
        self.later = None
        self.eval()

    def forward(self, pixels):
        return self.steps(self, pixels).mean((2, 3))


def convolved(self, pixels):
    return self.convolutions[0](pixels)


def usual(self, pixels):
    return functional.relu(self.norms[0](convolved(self, pixels)), inplace=True)


def looked_at_again(self, pixels):
    output = convolved(self, pixels)
    return self.norms[0](output) + output


def two_norms(self, pixels):
    output = convolved(self, pixels)
    return self.norms[0](output) * self.norms[1](output)


def seen_first(self, pixels):
    output = convolved(self, pixels)
    part = output[:, :, 1:]
    return self.norms[0](output) + functional.pad(part, (0, 0, 1, 0))


def changed_first(self, pixels):
    output = convolved(self, pixels)
    output += 1
    output[:, 0] = 0.5
    torch.relu_(output)
    return self.norms[0](output)


def joined(self, pixels):
    output = convolved(self, pixels)
    return self.norms[0](torch.cat([output, output], 2))


def kept_for_later(self, pixels):
    self.later = convolved(self, pixels)
    return self.norms[0](self.later)


def kept_in_a_ring(self, pixels):
    """Only the collector would find it."""
    ring = {"found": convolved(self, pixels)}
    ring["ring"] = ring
    return self.norms[0](ring["found"])


def nothing_behind(self, pixels):
    return convolved(self, pixels)


def one_behind_the_other(self, pixels):
    return self.norms[0](self.convolutions[0](self.convolutions[0](pixels)))


def by_keyword(self, pixels):
    convolution, norm = self.convolutions[0], self.norms[0]
    output = functional.conv2d(pixels, weight=convolution.weight, bias=None, padding=1)
    return functional.batch_norm(
        input=output, running_mean=norm.running_mean, running_var=norm.running_var
    )


class Doubled(torch.autograd.Function):
    """Somebody's own: torch asks no mode and no class whether its argument is a tensor."""

    @staticmethod
    def forward(context, values):
        return values * 2

    @staticmethod
    def backward(context, gradient):
        return gradient * 2


def doubled(self, pixels):
    return self.norms[0](Doubled.apply(convolved(self, pixels)))


QUICK = [
    doubled,
    usual,
    seen_first,
    changed_first,
    joined,
    nothing_behind,
    one_behind_the_other,
    by_keyword,
]
PLAIN = [looked_at_again, two_norms, kept_for_later, kept_in_a_ring]


@pytest.mark.parametrize("gradients", [False, True], ids=["values", "gradients"])
@pytest.mark.parametrize("steps", [*QUICK, *PLAIN], ids=lambda steps: steps.__name__)
def test_is_torchs_whatever_the_network_does(steps, gradients):
    torch.manual_seed(0)
    network = Network(steps)
    pixels = torch.randn(2, 3, 6, 5, requires_grad=gradients)
    truth = network(pixels)
    with torch.set_grad_enabled(gradients):
        for _ in range(2):
            actual = run_model(network, pixels, quick=True)
            assert type(actual) is torch.Tensor
            assert torch.equal(actual, truth)
            if gradients:
                expected = torch.autograd.grad(truth[:, 0].sum(), pixels, retain_graph=True)
                torch.testing.assert_close(
                    torch.autograd.grad(actual[:, 0].sum(), pixels), expected
                )
    # What gradients pass is not written over.
    assert (network in fast_forward._plain_only) == (steps in PLAIN and not gradients)
    if steps is kept_for_later:
        assert torch.equal(network.later, convolved(network, pixels))


def test_it_is_written_over():
    """The batch norm's memory is the convolution's, and no other."""
    network = Network(usual)
    with torch.no_grad(), DirectOperations() as mode:
        output = network.convolutions[0](torch.randn(2, 3, 6, 6))
        address = output.value.data_ptr()
        assert network.norms[0](output).data_ptr() == address
        assert mode.leaked
        del output
        assert not mode.leaked


@pytest.mark.parametrize("part", ["", "convolutions.0", "norms.0"])
@pytest.mark.parametrize("kind", ["hook", "pre-hook", "hook of all"])
def test_hooks_are_called_once_and_see_tensors(kind, part):
    network, pixels = Network(usual), torch.randn(2, 3, 6, 6)
    truth = convolved(network, pixels)
    tensors = []
    target = network.get_submodule(part)

    def look(module, *call):
        if module is target:
            tensors.extend(
                tensor for each in call for tensor in (each if type(each) is tuple else [each])
            )

    handle = {
        "hook": target.register_forward_hook,
        "pre-hook": target.register_forward_pre_hook,
        "hook of all": torch.nn.modules.module.register_module_forward_hook,
    }[kind](look)
    with handle, torch.no_grad():
        run_model(network, pixels)
    assert len(tensors) == (1 if kind == "pre-hook" else 2)
    assert all(type(tensor) is torch.Tensor for tensor in tensors)
    if part:
        # The norm's input is the convolution's output.
        first = kind == "pre-hook" or part == "norms.0"
        into = (kind, part) == ("pre-hook", "convolutions.0")
        assert torch.equal(tensors[0 if first else 1], pixels if into else truth)
    assert network not in fast_forward._plain_only


def test_the_engines_own_hooks_do_not_keep_it_from_being_quick(monkeypatch):
    """The bundled model is explained at a batch norm."""
    taken = []
    spend = OverwritableTensor.spend
    monkeypatch.setattr(
        OverwritableTensor, "spend", lambda self: taken.append(self.shape) or spend(self)
    )
    model = cam.load_model("efficientnet_lite0")
    batch = model.prepare([cam.sample("chelsea"), cam.sample("coffee")])
    cam.attribute(model, batch, "gradcam")
    assert len(taken) == sum(
        isinstance(module, nn.BatchNorm2d) for module in model.module.modules()
    )


def test_its_shape_is_no_look_at_its_values():
    value = torch.randn(2, 3, 4, 5)
    wrapper = OverwritableTensor.of(value)
    assert isinstance(wrapper, torch.Tensor)
    assert (wrapper.shape, wrapper.size(1), wrapper.dim(), wrapper.ndim) == (value.shape, 3, 4, 4)
    assert (wrapper.dtype, wrapper.device, wrapper.requires_grad) == (
        value.dtype,
        value.device,
        False,
    )
    assert not wrapper.shared
    assert torch.equal(wrapper, value)
    assert wrapper.shared


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("kind", ["script", "compile", "vmap", "checkpoint"])
def test_what_torch_does_with_functions(kind):
    torch.manual_seed(0)
    inner = Network(usual)
    pixels = torch.randn(2, 3, 6, 6)
    truth = inner(pixels)
    if kind == "script":
        second = torch.jit.trace(copy.deepcopy(inner), pixels)
    elif kind == "compile":
        second = torch.compile(copy.deepcopy(inner), backend="eager")
    elif kind == "vmap":
        second = torch.vmap(lambda image: inner(image[None])[0])
    else:
        second = partial(checkpoint, inner, use_reentrant=False)

    class Outer(nn.Module):
        def forward(self, values):
            return second(values)

    with torch.no_grad():
        torch.testing.assert_close(run_model(Outer(), pixels), truth)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v3_small", "densenet121", "googlenet", "shufflenet_v2_x0_5"],
)
def test_networks_are_quick_and_their_maps_the_same(name):
    model = cam.load_model(f"torchvision/{name}", weights=None)
    batch = torch.randn(2, 3, 64, 64)
    truth = model.module(batch)
    with torch.no_grad():
        assert torch.equal(run_model(model.module, batch), truth)
    assert model.module not in fast_forward._plain_only
