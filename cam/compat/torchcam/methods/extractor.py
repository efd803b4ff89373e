"""Record layers during the caller's forward pass, and turn weights into maps."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cam.compat.torchcam.methods.default_layer import locate_layer
from cam.compat.torchcam.methods.map_sizes import largest_size, normalise, resize
from cam.errors import InputError, LayerError, TargetError

Layers = nn.Module | str | list[nn.Module | str] | None
OutputTarget = Callable[[Any], Tensor]
Classes = int | list[int] | None
OutputTargets = OutputTarget | list[OutputTarget] | None

_logger = logging.getLogger(__name__)


class Extractor:
    """Hooks at layers of a model, and the maps of what they saw.

    Args:
        model: A network; its hooks are removed at the end of a ``with`` block.
        target_layer: Layers or their names; None: the last that returns maps for zeros of
            ``input_shape``.
        input_shape: Of a picture.
        enable_hooks: Whether forward passes are recorded from the start.
        reshape_transform: From a layer's output to (B, C, h, w).

    Attributes:
        target_names: Dotted names of the layers.
        hook_a: What each layer returned, detached.
    """

    relu: ClassVar[bool] = True
    needs_scores: ClassVar[bool] = False
    takes_targets: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        target_layer: Layers = None,
        input_shape: tuple[int, ...] = (3, 224, 224),
        enable_hooks: bool = True,
        reshape_transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.model = model
        self.submodule_dict: dict[str, nn.Module] = dict(model.named_modules())
        self.target_names = self._resolve(target_layer, input_shape)
        self._reshape = reshape_transform or (lambda output: output)
        self._hooks_enabled = enable_hooks
        self.reset_hooks()
        self.hook_handles: list[RemovableHandle] = [
            self.submodule_dict[name].register_forward_hook(partial(self._record, index=index))
            for index, name in enumerate(self.target_names)
        ]

    def _resolve(self, target_layer: Layers, input_shape: tuple[int, ...]) -> list[str]:
        if target_layer is None:
            name = locate_layer(self.model, input_shape)
            _logger.warning("no value was provided for `target_layer`, thus set to '%s'.", name)
            return [name]
        layers = target_layer if isinstance(target_layer, list) else [target_layer]
        return [self._resolve_layer_name(layer) for layer in layers]

    def _resolve_layer_name(self, layer: nn.Module | str) -> str:
        if isinstance(layer, str):
            if layer not in self.submodule_dict:
                similar = ", ".join(get_close_matches(layer, self.submodule_dict))
                raise LayerError(
                    f"there is no layer {layer!r} in this model"
                    + (f"; similar: {similar}" if similar else "")
                )
            return layer
        if not isinstance(layer, nn.Module):
            raise LayerError(f"a layer is a module or its name, not {type(layer).__name__}")
        for name, module in self.submodule_dict.items():
            if module is layer:
                return str(name)
        raise LayerError(f"this {type(layer).__name__} is not a part of the model")

    def _record(self, _module: nn.Module, _inputs: object, output: Tensor, index: int) -> None:
        if self._hooks_enabled:
            self.outputs[index] = output
            self.hook_a[index] = self._reshape(output).detach()

    def enable_hooks(self) -> None:
        """Record forward passes."""
        self._hooks_enabled = True

    def disable_hooks(self) -> None:
        """Leave forward passes unrecorded."""
        self._hooks_enabled = False

    @contextmanager
    def _hooks_off(self) -> Iterator[None]:
        previous = self._hooks_enabled
        self._hooks_enabled = False
        try:
            yield
        finally:
            self._hooks_enabled = previous

    def reset_hooks(self) -> None:
        """Forget what was recorded."""
        self.hook_a: list[Any] = [None] * len(self.target_names)
        self.outputs: list[Any] = [None] * len(self.target_names)

    def remove_hooks(self) -> None:
        """Remove the hooks from the model."""
        for handle in self.hook_handles:
            handle.remove()
        self.hook_handles.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the hooks and forget what they recorded; swallow no exception."""
        self.remove_hooks()
        self.reset_hooks()

    def __call__(
        self,
        class_idx: Classes = None,
        scores: Any = None,
        normalized: bool = True,
        *,
        targets: OutputTargets = None,
        **kwargs: Any,
    ) -> list[Tensor]:
        """Explain the last recorded forward pass.

        Args:
            class_idx: The class of all pictures, or a list with that of each.
            scores: What the model returned, (B, classes), with its graph.
            normalized: Whether each map is brought to [0, 1].
            targets: From the output of a picture to a number, instead of classes; for all pictures
                or a list with that of each.
            kwargs: ``retain_graph`` and what else the extractor's weights take.

        Returns:
            (B, h, w) for each layer.

        Raises:
            InputError: No forward pass was recorded, or the scores are missing.
            TargetError: There are no classes, or they do not fit.
        """
        self._check(class_idx, scores, targets)
        return self.compute_cams(class_idx, scores, normalized, targets=targets, **kwargs)

    def compute_cams(
        self,
        class_idx: Classes = None,
        scores: Any = None,
        normalized: bool = True,
        *,
        targets: OutputTargets = None,
        **kwargs: Any,
    ) -> list[Tensor]:
        """Explain as a call does, without its checks."""
        if targets is not None:
            kwargs["targets"] = targets
        weights = self._weights(class_idx, scores, **kwargs)
        with torch.no_grad():
            maps = [
                (weight[(...,) + (None,) * (layer.ndim - weight.ndim)] * layer).sum(1)
                for weight, layer in zip(weights, self.hook_a, strict=True)
            ]
            maps = [part.relu() for part in maps] if self.relu else maps
            return [normalise(part) for part in maps] if normalized else maps

    def _weights(self, class_idx: Classes, scores: Any, **kwargs: Any) -> Sequence[Tensor]:
        """Return weights of each layer's maps, (B, C), or (B, C, h, w)."""
        raise NotImplementedError

    def _check(self, class_idx: Classes, scores: Any, targets: OutputTargets) -> None:
        if (class_idx is None) == (targets is None):
            raise TargetError("give either class_idx or targets")
        if targets is not None and not self.takes_targets:
            raise TargetError(f"{type(self).__name__} explains classes only; give class_idx")
        if any(layer is None for layer in self.hook_a):
            raise InputError("run the model on the images first, inside the with block")
        count = len(self.hook_a[0])
        for name, value in (("class_idx", class_idx), ("targets", targets)):
            if isinstance(value, list) and len(value) != count:
                raise TargetError(f"{name} has {len(value)} entries for {count} images")
        classes = class_idx if isinstance(class_idx, list) else [class_idx]
        if targets is None and any(not isinstance(part, int) or part < 0 for part in classes):
            raise TargetError(
                f"class_idx is a whole number of at least 0, or a list of them, not {class_idx!r}"
            )
        if self.needs_scores and scores is None:
            raise InputError(f"{type(self).__name__} needs the model's output as scores")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(target_layer={self.target_names})"

    @classmethod
    def fuse_cams(cls, cams: list[Tensor], target_shape: tuple[int, int] | None = None) -> Tensor:
        """Return the largest of several layers' maps at each place.

        Args:
            cams: (B, h, w) of each layer.
            target_shape: Size to which they are interpolated; None: the largest among them.

        Raises:
            InputError: There are no maps.
        """
        if not isinstance(cams, list) or not cams:
            raise InputError("cams is a list of at least one tensor of maps")
        if len(cams) == 1:
            return cams[0]
        size = target_shape or largest_size(cams)
        scaled = [resize(cls._scale(part), size) for part in cams]
        return torch.stack(scaled).amax(0)

    @staticmethod
    def _scale(maps: Tensor) -> Tensor:
        return maps


def select_outputs(output: Any, class_idx: Classes, targets: OutputTargets) -> Tensor:
    """Return the explained number of each output, (N,)."""
    if targets is not None:
        each = targets if isinstance(targets, list) else [targets] * len(output)
        return torch.stack(
            [target(sample).reshape(()) for target, sample in zip(each, output, strict=True)]
        )
    if isinstance(class_idx, int):
        class_idx = [class_idx] * len(output)
    index = torch.tensor(class_idx, device=output.device)[:, None]
    scores: Tensor = output.gather(1, index)[:, 0]
    return scores
