"""Make copies of a network that forget their layers, and stay alive."""

import copy
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from cam._detection.outputs import declare_alike
from cam._engine.evaluation_mode import attach, device_of, evaluation_mode, original_module
from cam._engine.shared_state.random_state import seeded
from cam.errors import MetricError

ORDERS = ("top_down", "bottom_up", "independent")
Colours = tuple[tuple[float, ...], tuple[float, ...]] | None
# Enough values for the moments of a channel, also where 7 × 7 pixels are left of a picture.
_PICTURES = 8


def layers_in_stages(
    network: nn.Module, stages: int, order: str = "top_down"
) -> tuple[tuple[str, ...], ...]:
    """List the layers that become random at each stage.

    Raises:
        MetricError: The network has no parameters.
    """
    names = _layers_with_parameters(network)
    if not names:
        raise MetricError("the model has no parameters that could be made random")
    if order == "bottom_up":
        names = names[::-1]
    stages = min(stages, len(names))
    ends = [round(len(names) * stage / stages) for stage in range(stages + 1)]
    return tuple(tuple(names[start:end]) for start, end in pairwise(ends))


def _layers_with_parameters(network: nn.Module) -> list[str]:
    """List them by name, the last first."""
    return [
        name
        for name, child in network.named_modules()
        if next(child.parameters(recurse=False), None) is not None
    ][::-1]


def randomise_in_stages(
    network: nn.Module,
    like: Tensor,
    stages: int,
    seed: int,
    order: str = "top_down",
    colours: Colours = None,
) -> Iterator[nn.Module]:
    """Yield a copy of a network for each stage of randomisation.

    A layer is drawn anew by its initialisation, or else its parameters are shuffled. That alone
    leaves dead networks: PyTorch's initialisation shrinks what passes a layer, batch norms go on
    with the statistics of other activations, and after some layers nothing but biases is left,
    whose map is the same everywhere. So, from the first random layer on and in the order in which
    layers run, each random layer's output gets the spread that the trained one's has, and each
    batch norm the mean and variance of what it now receives. Both are measured on pictures of
    coloured noise, and not on those that are explained: a picture's value must not depend on its
    neighbours in a batch.

    Args:
        network: Copied, with the first stage.
        like: (B, C, H, W), of whose size, type and device the pictures of noise are.
        stages: How many; no more than there are layers.
        seed: Of the parameters. A layer is drawn the same in every stage and order.
        order: "top_down", from the last layer on, "bottom_up", from the first, or "independent",
            the layers of one stage alone.
        colours: What the model's transform takes off and divides by; None for pictures of mean 0
            and deviation 1.

    Raises:
        MetricError: The network has no parameters, or cannot be copied.
    """
    in_stages = layers_in_stages(network, stages, order)
    try:
        trained = copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise MetricError(f"the model cannot be copied to be randomised: {reason}") from error
    declare_alike(trained, network)
    generator = torch.Generator().manual_seed(seed)
    seeds = {
        name: int(torch.randint(2**62, (), generator=generator))
        for name in _layers_with_parameters(trained)
    }
    pictures = draw_pictures(like, colours)
    spreads = _measure_spreads(trained, pictures)
    for names in in_stages if order == "independent" else accumulate(in_stages):
        randomised = copy.deepcopy(trained)
        declare_alike(randomised, network)
        for name in names:
            _make_random(randomised.get_submodule(name), seeds[name])
        _revive(randomised, names, spreads, pictures)
        yield randomised


def draw_pictures(like: Tensor, colours: Colours = None) -> Tensor:
    """Draw noise that is as smooth as photos are, the same at each call.

    Its amplitude falls with the frequency f as 1/f (Field, Relations between the Statistics of
    Natural Images and the Response Properties of Cortical Cells, 1987); every channel has mean 0
    and deviation 1, or those of photos, 0.45 and 0.225 of white, where colours are known.

    Returns:
        (8, C, H, W), of the device and type of ``like``.
    """
    channels, height, width = like.shape[1:]
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(_PICTURES, channels, height, width, generator=generator)
    down = torch.fft.fftfreq(height)[:, None] * height
    along = torch.fft.rfftfreq(width) * width
    frequency = torch.hypot(down, along).clamp(min=1)
    noise = torch.fft.irfft2(torch.fft.rfft2(white) / frequency, s=(height, width))
    noise = noise - noise.mean((2, 3), keepdim=True)
    noise = noise / noise.square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-12)
    if colours is not None and len(colours[0]) == channels:
        mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in colours)
        noise = (0.45 + 0.225 * noise - mean) / deviation
    pictures: Tensor = noise.to(like.device, like.dtype)
    return pictures


def _measure_spreads(network: nn.Module, pictures: Tensor) -> dict[str, float]:
    """Measure each layer's output in one pass: its standard deviation."""
    spreads: dict[str, float] = {}

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def measure(_layer: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                spreads.setdefault(name, _spread(output))

        return layer.register_forward_hook(measure)

    layers = [(name, layer) for name, layer in network.named_modules() if _has_weights(layer)]
    with attach(watch(name, layer) for name, layer in layers):
        _run(network, pictures)
    return spreads


def _revive(
    network: nn.Module, names: Sequence[str], spreads: dict[str, float], pictures: Tensor
) -> None:
    """Set random layers' scales and the statistics after them, in one pass."""
    random, finished = set(names), set[str]()

    def enter(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def calibrate(_layer: nn.Module, inputs: tuple[object, ...]) -> None:
            # A layer that runs twice is set by its first call.
            if name in random:
                finished.add(name)
            elif not finished:
                return
            if _has_statistics(layer) and name not in calibrated:
                calibrated.add(name)
                _set_statistics(layer, inputs[0])

        return layer.register_forward_pre_hook(calibrate)

    def leave(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def scale(_layer: nn.Module, _inputs: object, output: object) -> Tensor | None:
            if name in scaled or not isinstance(output, Tensor) or name not in spreads:
                return None
            scaled.add(name)
            spread, target = _spread(output), spreads[name]
            if not (0 < spread < float("inf") and 0 < target < float("inf")):
                return None
            for parameter in layer.parameters(recurse=False):
                parameter.mul_(target / spread)
            return output * (target / spread)

        return layer.register_forward_hook(scale)

    calibrated: set[str] = set()
    scaled: set[str] = set()
    layers = list(network.named_modules())
    watched = [layer for layer in layers if layer[0] in random or _has_statistics(layer[1])]
    drawn = [(name, layer) for name, layer in layers if name in random and _has_weights(layer)]
    with (
        attach(enter(name, layer) for name, layer in watched),
        attach(leave(name, layer) for name, layer in drawn),
    ):
        _run(network, pictures)


def _run(network: nn.Module, pictures: Tensor) -> None:
    module = original_module(network)
    # A copy of the pictures: a model may change its input in place.
    with torch.no_grad(), evaluation_mode(module):
        module(pictures.clone())


def _spread(output: Tensor) -> float:
    return float(output.double().std(correction=0))


def _has_weights(layer: nn.Module) -> bool:
    """Tell a linear layer or a convolution, whose output scales with its parameters."""
    weight = layer._parameters.get("weight")
    drawn = callable(getattr(layer, "reset_parameters", None))
    return weight is not None and weight.ndim > 1 and drawn and not _has_statistics(layer)


def _has_statistics(layer: nn.Module) -> bool:
    return isinstance(getattr(layer, "running_mean", None), Tensor)


def _set_statistics(layer: nn.Module, inputs: object) -> None:
    """Set a batch norm's running mean and variance to those of its input."""
    if not isinstance(inputs, Tensor):
        return
    over = [dimension for dimension in range(inputs.ndim) if dimension != 1]
    variance, mean = torch.var_mean(inputs.double(), over, correction=0)
    for buffer, value in ((layer.running_mean, mean), (layer.running_var, variance)):
        if isinstance(buffer, Tensor) and bool(value.isfinite().all()):
            buffer.copy_(value)


def _make_random(layer: nn.Module, seed: int) -> None:
    """Initialise a layer's direct parameters again, or else shuffle them."""
    device = device_of(layer)
    with seeded(seed, device), torch.no_grad():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
            return
        for parameter in layer.parameters(recurse=False):
            order = torch.randperm(parameter.numel()).to(device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
