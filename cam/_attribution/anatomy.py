"""Grad-CAM and saliency taken apart: every quantity on the way from the scores to the two maps."""

import warnings
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cam import kernels
from cam._attribution.planner import check_kernels, class_index_of, preset_of
from cam._engine.capture import Capture, LayerCapture, capture, check_batch
from cam._engine.evaluation_mode import original_module
from cam._engine.heatmaps import heatmap_and_raw
from cam._engine.layers import Layer, resolve_layers
from cam._engine.precision import computing
from cam._methods.base.method_registry import methods
from cam._models.model import Model
from cam.errors import CamWarning, LayerError, MethodError, ModelError
from cam.parameters import integer
from cam.targets import Targets
from cam.types import TargetFunction


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The steps of Grad-CAM and of the saliency map, for one batch.

    With y the raw score that is explained, A a layer's activations and x the pixels, all detached
    and on the model's device:

    Attributes:
        logits: (B, classes) float32, what the forward pass gave.
        targets: (B,) int64 class of each image, or the callables that were explained.
        scores: (B,) float32, y.
        layer: Dotted name of the layer.
        activations: (B, C, h, w), A.
        gradients: (B, C, h, w), G = ∂y/∂A.
        weights: (B, C), w_c = mean over space of G_c (Selvaraju et al. 2017, equation 1).
        summed: (B, h, w) float32, Σ_c w_c A_c, before the ReLU.
        rectified: (B, h, w) float32, max(summed, 0) (equation 2).
        normalised: (B, h, w), rectified and stretched to [0, 1].
        heatmap: (B, H, W) float32, normalised at the picture's size: Grad-CAM's map.
        pixel_gradients: (B, 3, H, W), ∂y/∂x.
        pixel_maximum: (B, H, W) float32, max over colours of |∂y/∂x| (Simonyan et al. 2013, §3.1).
        saliency: (B, H, W) float32, pixel_maximum stretched to [0, 1]: the saliency map.
    """

    logits: Tensor
    targets: Tensor | tuple[TargetFunction, ...]
    scores: Tensor
    layer: str
    activations: Tensor
    gradients: Tensor
    weights: Tensor
    summed: Tensor
    rectified: Tensor
    normalised: Tensor
    heatmap: Tensor
    pixel_gradients: Tensor
    pixel_maximum: Tensor
    saliency: Tensor

    @property
    def weighted(self) -> Tensor:
        """(B, C, h, w), w_c A_c: its sum over the channels is ``summed``. Made when it is read."""
        return self.weights[:, :, None, None] * self.activations

    def strongest(
        self, image: int = 0, count: int = 6, by: str = "weight"
    ) -> tuple[list[int], list[int]]:
        """The channels that count most for the target, and most against it, strongest first.

        Args:
            image: Which one of the batch.
            count: How many of each sign; fewer where there are no more.
            by: "weight", or "sum": what a channel adds to ``summed`` over all places. A channel of
                large weight that does not fire in this picture adds nothing.

        Raises:
            MethodError: ``count`` is no whole number of at least 1, or ``by`` is neither.
        """
        if not integer(1).holds(count):
            raise MethodError(f"anatomy's count must be {integer(1).words}, but is {count!r}")
        count = min(count, self.weights.shape[1])
        if by not in ("weight", "sum"):
            raise MethodError(f"by is {by!r}, but must be 'weight' or 'sum'")
        values = self.weights[image]
        if by == "sum":
            values = values * self.activations[image].sum((1, 2))
        for_it, against = values.topk(count), values.topk(count, largest=False)
        return (
            for_it.indices[for_it.values > 0].tolist(),
            against.indices[against.values < 0].tolist(),
        )


def anatomy(
    model: Model | nn.Module,
    batch: Tensor,
    targets: Targets = None,
    layer: Layer | None = None,
) -> Anatomy:
    """Take Grad-CAM and the saliency map apart, in one forward and one backward pass.

    ``heatmap`` and ``saliency`` are those of :func:`attribute` for "gradcam" and "saliency", and
    ``summed`` and ``pixel_maximum`` their ``raw``, bit by bit.

    Args:
        model: A :class:`cam.Model` or any classifier; it comes back as it was.
        batch: (B, 3, H, W) floats on the model's device, as ``model.prepare(pictures)`` gives.
        targets: What is explained, as for :func:`attribute`.
        layer: Where Grad-CAM looks: a dotted name or a module. None: the model's preset.

    Raises:
        CamError: One of its subclasses, with one sentence on what was wrong.
    """
    module = original_module(model.module if isinstance(model, Model) else model)
    if not isinstance(module, nn.Module):
        raise ModelError(f"a model is a cam.Model or torch.nn.Module, not {type(model).__name__}")
    check_kernels()
    check_batch(module, batch)
    needs = methods()["gradcam"].needs | methods()["saliency"].needs
    with model.lock if isinstance(model, Model) else nullcontext():
        at = resolve_layers(module, preset_of(model, batch) if layer is None else layer)
        if len(at) > 1:
            raise LayerError(
                f"an anatomy is of one layer, and these are {len(at)}: "
                f"{', '.join(name for name, _ in at)}; name one of them"
            )
        with computing(None, batch.device):
            captured = capture(module, batch, targets, at, needs, class_index_of(model))
            found = _taken_apart(captured, captured.layers[0])
    if captured.was_training:
        warnings.warn(
            "the model was in training mode; it was explained in evaluation mode (dropout off, "
            "batch norm fixed) and put back",
            CamWarning,
            stacklevel=2,
        )
    return found


def _taken_apart(captured: Capture, layer: LayerCapture) -> Anatomy:
    assert layer.gradients is not None and captured.input_gradient is not None
    size = (captured.inputs.shape[2], captured.inputs.shape[3])
    with torch.inference_mode(False), torch.no_grad():
        weights: Tensor = kernels.fused_cam(
            layer.activations, layer.gradients, ("gradcam",), return_weights=True
        )[-1][:, 0]
        coarse = methods()["gradcam"].function(layer)
        fine = methods()["saliency"].function(captured)
        heatmap, summed = heatmap_and_raw([coarse], size, "mean")
        saliency, pixel_maximum = heatmap_and_raw([fine], None, "mean")
        unsound = captured.unsound[:, None, None]
        summed = summed.float().masked_fill(unsound, torch.nan)
        return Anatomy(
            logits=captured.logits.float(),
            targets=captured.targets,
            scores=captured.scores.float(),
            layer=layer.name,
            activations=layer.activations,
            gradients=layer.gradients,
            weights=weights,
            summed=summed,
            rectified=summed.clamp(min=0),
            normalised=coarse.normalised.float().masked_fill(unsound, torch.nan),
            heatmap=heatmap.float().masked_fill(unsound, torch.nan),
            pixel_gradients=captured.input_gradient,
            pixel_maximum=pixel_maximum.float().masked_fill(unsound, torch.nan),
            saliency=saliency.float().masked_fill(unsound, torch.nan),
        )


def neighbour_correlation(maps: Tensor) -> Tensor:
    """How much a value says of the one beside it: near 1 in a smooth map, near 0 in noise.

    Pearson's correlation over all pairs of values that lie side by side, in rows and in columns.

    Args:
        maps: (B, H, W) floats, at least 2 × 2.

    Returns:
        (B,) float64 in [-1, 1]; NaN where a map is the same everywhere.

    Raises:
        MethodError: Maps of another shape.
    """
    one, other = _pairs(maps)
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    return (one * other).sum(1) / (one.square().sum(1) * other.square().sum(1)).sqrt()


def sign_changes(maps: Tensor) -> Tensor:
    """The share of pairs side by side that disagree on the sign: one half is a coin's.

    Args:
        maps: (B, H, W) floats, at least 2 × 2; a pair with a zero in it does not count.

    Returns:
        (B,) float64 in [0, 1]; NaN where no pair counts.

    Raises:
        MethodError: Maps of another shape.
    """
    one, other = (part.sign() for part in _pairs(maps))
    counted = (one * other).abs()
    return (one * other < 0).sum(1) / counted.sum(1)


def _pairs(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Both values of all pairs that lie side by side, (B, pairs) each."""
    if maps.ndim != 3 or min(maps.shape[1:]) < 2:
        raise MethodError(f"maps must be (B, H, W), at least 2 × 2, but are {tuple(maps.shape)}")
    maps = maps.double()
    across, down = (maps[:, :, :-1], maps[:, :, 1:]), (maps[:, :-1], maps[:, 1:])
    return (
        torch.cat([across[0].flatten(1), down[0].flatten(1)], 1),
        torch.cat([across[1].flatten(1), down[1].flatten(1)], 1),
    )
