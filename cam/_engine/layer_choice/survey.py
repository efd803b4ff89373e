"""Watch a network on one picture: its layers and its scores."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cam._engine.evaluation_mode import attach, evaluation_mode
from cam._engine.forward import run_model
from cam._engine.layer_choice.grids import is_grid
from cam._engine.layer_choice.structure import TRANSPARENT
from cam._engine.token_layout import Layout, main_output, replace_main_output

# Where scores are taken from an output with places: (down, across) in shares.
_CENTRES = ((0.1, 0.1), (0.1, 0.9), (0.5, 0.5), (0.9, 0.1), (0.9, 0.9))
# Half the side of each such place, in shares.
_HALF = 0.06
_CLASSES_TRIED = 3


@dataclass(frozen=True, eq=False)
class Survey:
    """One forward pass of a network, with its graph.

    Attributes:
        picture: (1, C, H, W) or (1, C, D, H, W).
        logits: The output, (1, …).
        outputs: Dotted name → output (1, …) of each module that is part of the graph, in the order
            in which they finish.
        features: What the last linear layers took in, in the order in which they ran.
    """

    picture: Tensor
    logits: Tensor
    outputs: dict[str, Tensor]
    features: list[Tensor]

    @property
    def has_places(self) -> bool:
        """Whether the output is more than a vector: pixels, boxes, queries."""
        return self.logits.ndim > 2

    @property
    def map_size(self) -> tuple[int, ...] | None:
        """(h, w) of an output that is a map of the picture itself; None for others.

        (d, h, w) of a volume.
        """
        if not self.has_places:
            return None
        if self.picture.ndim == 5:
            volume = tuple(self.logits.shape[2:])
            return volume if is_grid(volume, self.picture) else None
        size = (self.logits.shape[-2], self.logits.shape[-1])
        if self.logits.ndim == 4 or (self.logits.ndim == 3 and min(size) > 16):
            return size if is_grid(size, self.picture) else None
        return None

    def scores(self) -> list[list[Tensor]]:
        """Return groups of scalars; a default layer is read by each one of a group.

        The first group is of the output. A classifier that starts at zero, as torchvision's
        transformers have it before they are trained, hides what it reads: then its input is the
        score. A detector may detect nothing in noise: then what ran last is.
        """
        groups = [self._output_scores(), [_weigh(each) for each in self.features[-1:]]]
        if self.has_places and self.outputs:
            groups.append([_weigh(list(self.outputs.values())[-1])])
        groups = [[score for score in group if score.requires_grad] for group in groups]
        return [group for group in groups if group]

    def _output_scores(self) -> list[Tensor]:
        logits = self.logits
        if not logits.numel():
            return []
        if not self.has_places:
            return [_weigh(logits)]
        return [
            _weigh(logits[..., top:bottom, left:right]) for top, bottom, left, right in self.parts
        ]

    @property
    def parts(self) -> list[tuple[int, int, int, int]]:
        """(top, bottom, left, right) of the parts of an output whose scores are taken."""
        height, width = self.logits.shape[-2:]
        return [(*_around(down, height), *_around(across, width)) for down, across in _CENTRES]

    def gradients(self, score: Tensor) -> dict[str, Tensor]:
        """Return a scalar's gradient by each output that it reads."""
        names = list(self.outputs)
        slopes = torch.autograd.grad(
            score, list(self.outputs.values()), allow_unused=True, retain_graph=True
        )
        return {name: slope for name, slope in zip(names, slopes, strict=True) if slope is not None}

    def shows_classes(self, name: str, layout: Layout) -> bool:
        """Test whether a layer's channels are the classes: its maps are the prediction itself.

        Then a class reads its own channel alone; or, through a softmax, its own as much as all
        others together.
        """
        output = self.outputs[name]
        channels = layout.maps(output).shape[1]
        if self.map_size is not None and self.logits.ndim == 3:
            return channels == 1
        axes = (1, 2) if self.logits.ndim == 3 else (1,)
        return any(
            self.logits.ndim > axis
            and self.logits.shape[axis] == channels
            and self._reads_its_channel(output, layout, axis)
            for axis in axes
        )

    def _reads_its_channel(self, output: Tensor, layout: Layout, axis: int) -> bool:
        """Test whether each class along an axis of the output reads the channel of its number."""
        for index in range(min(self.logits.shape[axis], _CLASSES_TRIED)):
            slopes: tuple[Tensor | None, ...] = torch.autograd.grad(
                self.logits.select(axis, index).sum(), output, allow_unused=True, retain_graph=True
            )
            slope = slopes[0]
            if slope is None:
                return False
            maps = layout.maps(slope).double()
            by_channel = maps.sum((0, *range(2, maps.ndim)))  # (C,)
            alone = by_channel.clone()
            alone[index] = 0
            scale = by_channel.abs().sum() * 1e-4
            if alone.abs().sum() > scale and by_channel.sum().abs() > scale:
                return False
        return True


def _around(share: float, side: int) -> tuple[int, int]:
    """Return the start and the end of a part of one side of an output."""
    return int((share - _HALF) * side), min(int((share + _HALF) * side) + 1, side)


def _weigh(values: Tensor) -> Tensor:
    """Add values up with random weights, so that a softmax's do not cancel."""
    generator = torch.Generator().manual_seed(1)
    return (values * torch.randn(values.shape, generator=generator).to(values)).sum()


def survey_layers(module: nn.Module, picture: Tensor) -> Survey:
    """Run a network on noise of a picture's size, recording a graph.

    Args:
        module: The network; it comes back as it was.
        picture: (1, C, H, W) or (1, C, D, H, W); only its size and kind matter.

    Raises:
        ModelError: It fails, or returns no tensor.
    """
    outputs: dict[str, Tensor] = {}
    features: list[Tensor] = []

    def record(name: str) -> Callable[[nn.Module, object, object], None]:
        def keep(_child: nn.Module, _inputs: object, output: object) -> None:
            values = main_output(output)
            if isinstance(values, Tensor) and values.requires_grad:
                outputs.pop(name, None)
                outputs[name] = values

        return keep

    def keep_features(_child: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            features.append(inputs[0])

    hooks = [
        child.register_forward_hook(record(name))
        for name, child in module.named_modules()
        if name and not isinstance(child, TRANSPARENT)
    ]
    hooks += [
        child.register_forward_pre_hook(keep_features)
        for child in module.modules()
        if isinstance(child, nn.Linear)
    ]
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)).to(picture)
    with evaluation_mode(module), torch.inference_mode(False), torch.enable_grad(), attach(hooks):
        logits = run_model(module, noise.requires_grad_().clone(), candidates=False)
    return Survey(noise.detach(), logits, outputs, features)


def is_bypassed(module: nn.Module, survey: Survey, name: str) -> bool:
    """Test whether a network's output depends on the picture by a way around a layer.

    Costs one forward pass, in which the layer's output is cut off from what made it.
    """

    def cut(_child: nn.Module, _inputs: object, output: object) -> object:
        values = main_output(output)
        return replace_main_output(output, values.detach()) if isinstance(values, Tensor) else None

    pixels = survey.picture.clone().requires_grad_()
    hooks = [module.get_submodule(name).register_forward_hook(cut)]
    with evaluation_mode(module), torch.inference_mode(False), torch.enable_grad(), attach(hooks):
        logits = run_model(module, pixels.clone(), candidates=False)
    if not logits.requires_grad:
        return False
    slopes: tuple[Tensor | None, ...] = torch.autograd.grad(logits.sum(), pixels, allow_unused=True)
    return slopes[0] is not None
