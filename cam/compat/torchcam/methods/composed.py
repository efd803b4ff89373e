"""Offer torchcam's extractors over another: RefineCAM and Finer-CAM."""

from typing import Any

import torch
from torch import Tensor, nn

from cam.compat.torchcam.methods.extractor import (
    Classes,
    Extractor,
    Layers,
    OutputTargets,
)
from cam.compat.torchcam.methods.gradient import GradCAM, GradCAMpp, LayerCAM
from cam.compat.torchcam.methods.map_sizes import largest_size, normalise, resize
from cam.errors import InputError, LayerError, MethodError, TargetError


class _Wrapper:
    """An extractor over another one, whose hooks it has."""

    def __init__(self, base_cam: Extractor) -> None:
        self.base_cam = base_cam

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.base_cam.model

    @property
    def target_names(self) -> list[str]:
        """Dotted names of the layers."""
        return self.base_cam.target_names

    def enable_hooks(self) -> None:
        """Record forward passes."""
        self.base_cam.enable_hooks()

    def disable_hooks(self) -> None:
        """Leave forward passes unrecorded."""
        self.base_cam.disable_hooks()

    def reset_hooks(self) -> None:
        """Forget what was recorded."""
        self.base_cam.reset_hooks()

    def remove_hooks(self) -> None:
        """Remove the hooks from the model."""
        self.base_cam.remove_hooks()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the hooks; swallow no exception."""
        self.base_cam.__exit__(*error)


class RefineCAM(_Wrapper):
    """RefineCAM: the product of several layers' maps, each min-max normalised.

    Args:
        model: As for :class:`Extractor`.
        target_layer: At least two layers or their names.
        input_shape: As for :class:`Extractor`.
        base_method: The extractor of each map.
        base_kwargs: For that.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layer: list[nn.Module | str],
        input_shape: tuple[int, ...] = (3, 224, 224),
        *,
        base_method: type[Extractor] = GradCAMpp,
        **base_kwargs: Any,
    ) -> None:
        if not isinstance(target_layer, list) or len(target_layer) < 2:
            raise LayerError("RefineCAM multiplies the maps of layers, so name at least two")
        super().__init__(base_method(model, target_layer, input_shape=input_shape, **base_kwargs))

    def __call__(
        self,
        class_idx: Classes = None,
        scores: Any = None,
        normalized: bool = True,
        target_shape: tuple[int, ...] | None = None,
        *,
        targets: OutputTargets = None,
        **kwargs: Any,
    ) -> list[Tensor]:
        """Explain the last recorded forward pass: one map for all layers."""
        cams = self.base_cam(class_idx, scores, True, targets=targets, **kwargs)
        return [self.fuse_cams(cams, target_shape, normalized)]

    @staticmethod
    def fuse_cams(
        cams: list[Tensor], target_shape: tuple[int, ...] | None = None, normalized: bool = True
    ) -> Tensor:
        """Return the product of maps, brought to one size.

        Args:
            cams: (B, h, w) of each layer.
            target_shape: That size; None: the largest among them.
            normalized: Whether the product is brought to [0, 1].

        Raises:
            InputError: There are no maps.
        """
        if not isinstance(cams, list) or not cams:
            raise InputError("cams is a list of at least one tensor of maps")
        size = target_shape or largest_size(cams)
        product = torch.stack([resize(normalise(part), size) for part in cams]).prod(0)
        return normalise(product) if normalized else product


class FinerCAM(_Wrapper):
    """Finer-CAM: the score less γ times the mean of those of similar classes.

    Args:
        model: As for :class:`Extractor`.
        target_layer: As for :class:`Extractor`.
        input_shape: As for :class:`Extractor`.
        base_method: ``GradCAM``, ``GradCAMpp`` or ``LayerCAM``.
        gamma: γ.
        num_references: Classes to compare with, those whose scores are next to the target's.
        base_kwargs: For the base method.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layer: Layers = None,
        input_shape: tuple[int, ...] = (3, 224, 224),
        *,
        base_method: type[Extractor] = GradCAM,
        gamma: float = 0.6,
        num_references: int = 3,
        **base_kwargs: Any,
    ) -> None:
        if base_method not in (GradCAM, GradCAMpp, LayerCAM):
            raise MethodError("base_method must be GradCAM, GradCAMpp or LayerCAM")
        if not gamma >= 0 or num_references < 1:
            raise MethodError(
                "gamma must be at least 0 and num_references at least 1, but they are "
                f"{gamma!r} and {num_references!r}"
            )
        super().__init__(base_method(model, target_layer, input_shape=input_shape, **base_kwargs))
        self.gamma = gamma
        self.num_references = num_references

    def __call__(
        self,
        class_idx: int | list[int],
        scores: Tensor | None = None,
        comparison_idx: int | list[int] | list[list[int]] | None = None,
        normalized: bool = True,
        **kwargs: Any,
    ) -> list[Tensor]:
        """Explain the last recorded forward pass.

        Args:
            class_idx: The class of all pictures, or a list with that of each.
            scores: What the model returned, (B, classes), with its graph.
            comparison_idx: The classes to compare with, for all pictures or each; None: those
                whose scores are next to the target's.
            normalized: Whether each map is brought to [0, 1].
            kwargs: For the base method.

        Returns:
            (B, h, w) for each layer.

        Raises:
            InputError: The scores are missing.
            TargetError: The classes do not fit.
        """
        if not isinstance(scores, Tensor) or scores.ndim != 2:
            raise InputError("FinerCAM needs the model's output (B, classes) as scores")
        count, classes = scores.shape
        each = class_idx if isinstance(class_idx, list) else [class_idx] * count
        if len(each) != count or not all(0 <= index < classes for index in each):
            raise TargetError(f"class_idx {class_idx!r} does not fit scores of {count, classes}")
        own_class = torch.tensor(each, device=scores.device)[:, None]
        references = self._choose_references(comparison_idx, scores, own_class)
        mean = scores.gather(1, references).mean(1, keepdim=True)
        contrast = scores.gather(1, own_class) - self.gamma * mean
        return self.base_cam([0] * count, contrast, normalized, **kwargs)

    def _choose_references(
        self,
        comparison: int | list[int] | list[list[int]] | None,
        scores: Tensor,
        own_class: Tensor,
    ) -> Tensor:
        count, classes = scores.shape
        if comparison is None:
            distances = (scores.detach() - scores.detach().gather(1, own_class)).abs()
            distances.scatter_(1, own_class, torch.inf)
            number = min(self.num_references, classes - 1)
            return distances.topk(number, dim=1, largest=False).indices
        index = torch.tensor(comparison, device=scores.device)
        index = index.reshape(1, -1).expand(count, -1) if index.ndim < 2 else index
        fits = len(index) == count and index.numel() and index.min() >= 0 and index.max() < classes
        if not fits or (index == own_class).any():
            raise TargetError(
                f"comparison_idx {comparison!r} must be classes other than the explained, for all "
                "images or each"
            )
        return index

    def fuse_cams(self, cams: list[Tensor], target_shape: tuple[int, int] | None = None) -> Tensor:
        """Fuse maps as the base method does."""
        return self.base_cam.fuse_cams(cams, target_shape)


class LeGrad:
    """Refuse torchcam's LeGrad, whose parameters are not this library's.

    Raises:
        MethodError: Always.
    """

    def __init__(self, *_: object, **__: object) -> None:
        raise MethodError(
            "torchcam's LeGrad takes blocks and a grid that this library finds alone; call "
            "cam.attribute(model, inputs, 'legrad')"
        )
