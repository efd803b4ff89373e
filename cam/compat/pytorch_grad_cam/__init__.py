"""Offer pytorch-grad-cam's classes (1.5.7) over :func:`cam.attribute`.

``from pytorch_grad_cam import GradCAM`` becomes ``from cam.compat.pytorch_grad_cam import
GradCAM``. What differs: the model's gradients, hooks and modes stay as they were, a ``with`` block
swallows no exception, and an image whose map is NaN is named in a warning.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from cam._attribution.attribution import attribute
from cam._engine.evaluation_mode import device_of
from cam._methods.base.method_registry import method
from cam.compat.pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from cam.errors import InputError, MethodError
from cam.types import TargetFunction

__all__ = [
    "FEM",
    "KPCA_CAM",
    "AblationCAM",
    "BaseCAM",
    "EigenCAM",
    "EigenGradCAM",
    "FinerCAM",
    "FullGrad",
    "GradCAM",
    "GradCAMElementWise",
    "GradCAMPlusPlus",
    "HiResCAM",
    "LayerCAM",
    "RandomCAM",
    "RefineCAM",
    "ScoreCAM",
    "ShapleyCAM",
    "XGradCAM",
]


class BaseCAM:
    """A method at some layers of a model; the classes below say which.

    Args:
        model: Any classifier; it comes back as it was.
        target_layers: The layers; their maps are averaged.
        reshape_transform: Accepted so that old calls keep working, and not called: this library
            finds how a layer's tokens lie on the picture, for any size of input. A layer where it
            cannot is refused with a :class:`cam.LayerError`.

    Attributes:
        batch_size: How many inputs a method with extra passes sends through at once.
        parameters: Of the method, where the peer's variant is not its default.
    """

    method: str
    parameters: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module],
        reshape_transform: Callable[..., Tensor] | None = None,
    ) -> None:
        self.model = model
        self.target_layers = target_layers
        self.reshape_transform = reshape_transform
        self.batch_size = 32

    def __call__(
        self,
        input_tensor: Tensor,
        targets: Sequence[TargetFunction] | None = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> np.ndarray:
        """Explain a batch.

        Args:
            input_tensor: (B, 3, H, W) floats; brought to the model's device.
            targets: One for each image, from its output to a scalar, such as those of
                ``utils.model_targets``. None: each image's top class.
            aug_smooth: Mean over the mirrored picture and factors of 0.9, 1 and 1.1.
            eigen_smooth: The first component of the weighted maps in the place of their sum.

        Returns:
            (B, H, W) float32 in [0, 1].

        Raises:
            CamError: As :func:`cam.attribute`.
        """
        if not isinstance(input_tensor, Tensor):
            raise InputError(f"input_tensor is a tensor, not {type(input_tensor).__name__}")
        # These show the first component anyway.
        eigen_smooth = eigen_smooth and self.method not in ("eigencam", "eigengradcam")
        return self._explain(
            input_tensor, targets, aug_smooth=aug_smooth, eigen_smooth=eigen_smooth
        )

    def _explain(
        self, input_tensor: Tensor, targets: Sequence[TargetFunction] | None, **parameters: Any
    ) -> np.ndarray:
        # What is off is left out: not every method can be smoothed.
        switched_on = {key: value for key, value in parameters.items() if value is not False}
        configured = method(self.method, **self.parameters, **switched_on)
        (attribution,) = attribute(
            self.model,
            input_tensor.to(device_of(self.model)),
            configured,
            targets=None if targets is None else _plain_targets(targets),
            layers=self.target_layers if configured.info.layer else None,
            batch_size=self.batch_size,
        ).values()
        heatmap: np.ndarray = attribution.heatmap.cpu().numpy()
        return heatmap

    def __enter__(self) -> "BaseCAM":
        return self

    def __exit__(self, *_: object) -> None:
        """Release nothing, and swallow no exception."""


def _plain_targets(targets: Sequence[TargetFunction]) -> list[Any]:
    """Return class indices where all targets are classes: some methods require them.

    A target that counts from the end stays a callable, as Python's indices do.
    """
    classes = [
        target.category
        for target in targets
        if isinstance(target, ClassifierOutputTarget) and target.category >= 0
    ]
    return classes if len(classes) == len(targets) else list(targets)


class GradCAM(BaseCAM):
    """Grad-CAM."""

    method = "gradcam"


class HiResCAM(BaseCAM):
    """HiResCAM."""

    method = "hirescam"


class GradCAMElementWise(BaseCAM):
    """Grad-CAM, elementwise."""

    method = "gradcam_elementwise"


class GradCAMPlusPlus(BaseCAM):
    """Grad-CAM++."""

    method = "gradcam_plus_plus"


class XGradCAM(BaseCAM):
    """XGrad-CAM."""

    method = "xgradcam"


class LayerCAM(BaseCAM):
    """LayerCAM."""

    method = "layercam"


class EigenCAM(BaseCAM):
    """Eigen-CAM."""

    method = "eigencam"


class EigenGradCAM(BaseCAM):
    """Eigen-Grad-CAM."""

    method = "eigengradcam"


class ScoreCAM(BaseCAM):
    """Score-CAM."""

    method = "scorecam"


class AblationCAM(BaseCAM):
    """Ablation-CAM.

    Args:
        model: As for :class:`BaseCAM`.
        target_layers: As for :class:`BaseCAM`.
        reshape_transform: As for :class:`BaseCAM`.
        ablation_layer: Accepted and not needed: a channel is set to zero whatever the layer.
        batch_size: How many ablations run at once.
        ratio_channels_to_ablate: 1; all channels are tried.

    Raises:
        MethodError: Another ratio is asked for.
    """

    method = "ablationcam"

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module],
        reshape_transform: Callable[..., Tensor] | None = None,
        ablation_layer: object = None,
        batch_size: int = 32,
        ratio_channels_to_ablate: float = 1.0,
    ) -> None:
        super().__init__(model, target_layers, reshape_transform)
        if ratio_channels_to_ablate != 1:
            raise MethodError(
                "ratio_channels_to_ablate must be 1, since ablationcam tries every channel, but is "
                f"{ratio_channels_to_ablate!r}"
            )
        self.batch_size = batch_size


class _ComposedCAM(BaseCAM):
    """A method that explains with another method's rule.

    Args:
        model: As for :class:`BaseCAM`.
        target_layers: As for :class:`BaseCAM`; for RefineCAM from early to late.
        reshape_transform: As for :class:`BaseCAM`.
        base_method: The class of the rule; None: Grad-CAM for FinerCAM, Grad-CAM++ for RefineCAM.
    """

    _base: type[BaseCAM]

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module],
        reshape_transform: Callable[..., Tensor] | None = None,
        base_method: type[BaseCAM] | None = None,
    ) -> None:
        super().__init__(model, target_layers, reshape_transform)
        self._base = base_method or self._base


class FinerCAM(_ComposedCAM):
    """Finer-CAM: the difference to the most similar classes."""

    method = "finercam"
    _base = GradCAM

    def __call__(  # type: ignore[override]  # the peer's order of arguments
        self,
        input_tensor: Tensor,
        targets: Sequence[TargetFunction] | None = None,
        eigen_smooth: bool = False,
        alpha: float = 1,
        comparison_categories: Sequence[int] | None = None,
        target_idx: int | None = None,
    ) -> np.ndarray:
        """Explain a batch.

        Args:
            input_tensor: As for :class:`BaseCAM`.
            targets: Given, the base method explains them as they are.
            eigen_smooth: As for :class:`BaseCAM`.
            alpha: How much of what the others have in common is taken away.
            comparison_categories: Ranks of the classes to compare with, from the most alike: 1 to
                some number.
            target_idx: The class of all images; None: each image's top class.

        Returns:
            (B, H, W) float32 in [0, 1].

        Raises:
            CamError: As :func:`cam.attribute`.
            MethodError: Ranks that leave one out.
        """
        if targets is not None:
            plain = self._base(self.model, self.target_layers)
            return plain(input_tensor, targets, eigen_smooth=eigen_smooth)
        ranks = [1, 2, 3] if comparison_categories is None else list(comparison_categories)
        if not ranks or ranks != list(range(1, len(ranks) + 1)):
            raise MethodError(
                f"comparison_categories must be 1 to some number, in order, but is {ranks}"
            )
        classes = None
        if target_idx is not None:
            classes = [ClassifierOutputTarget(target_idx)] * len(input_tensor)
        return self._explain(
            input_tensor,
            classes,
            eigen_smooth=eigen_smooth,
            alpha=alpha,
            references=len(ranks),
            base=self._base.method,
            weighting="probability",
        )


class RefineCAM(_ComposedCAM):
    """RefineCAM: the product of the layers' maps."""

    method = "refinecam"
    _base = GradCAMPlusPlus

    def __call__(  # type: ignore[override]  # the peer has no aug_smooth here
        self,
        input_tensor: Tensor,
        targets: Sequence[TargetFunction] | None = None,
        eigen_smooth: bool = False,
    ) -> np.ndarray:
        """Explain a batch, without the peer's slip, which takes eigen_smooth for aug_smooth.

        Returns:
            (B, H, W) float32 in [0, 1].

        Raises:
            CamError: As :func:`cam.attribute`.
        """
        return self._explain(
            input_tensor, targets, eigen_smooth=eigen_smooth, base=self._base.method
        )


class FullGrad(BaseCAM):
    """FullGrad; it looks at all layers, so ``target_layers`` does not count."""

    method = "fullgrad"


class ShapleyCAM(BaseCAM):
    """ShapleyCAM."""

    method = "shapleycam"
    parameters: ClassVar[dict[str, Any]] = {"utility": "score"}


class KPCA_CAM(BaseCAM):
    """KPCA-CAM."""

    method = "kpcacam"


class FEM(BaseCAM):
    """Feature explanation method."""

    method = "fem"
    parameters: ClassVar[dict[str, Any]] = {"sum_of": "maps"}


class RandomCAM(BaseCAM):
    """Random weights: what a map without any knowledge looks like."""

    method = "randomcam"
