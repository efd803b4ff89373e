"""Take Grad-CAM and saliency apart into every step of their computation."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cam import kernels
from cam._attribution.attribution import TRAINING_MODE, check_kernels
from cam._detection.final_detections import keep_all_candidates
from cam._engine.capture import capture, check_batch
from cam._engine.evaluation_mode import evaluation_mode
from cam._engine.heatmaps import heatmap_and_raw
from cam._engine.layers import Layer, resolve_layers
from cam._engine.method_sources import LayerGradients, PixelGradients
from cam._engine.precision import use_precision
from cam._methods.base.method_registry import methods
from cam._models.model import Model
from cam._models.network import Network
from cam._targets.detection_targets import read_everything
from cam._targets.places import require_inside
from cam._targets.questions import list_questions
from cam.errors import CamWarning, LayerError, MethodError, TargetError
from cam.parameters import integer
from cam.targets import Targets
from cam.types import TargetFunction


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The steps of Grad-CAM and of the saliency map, for one batch.

    With y the raw score that is explained, A a layer's activations and x the pixels, all detached
    and on the model's device:

    Attributes:
        logits: (B, classes) float32, the output of the forward pass.
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
        """(B, C, h, w), w_c A_c: its sum over the channels is ``summed``. Made when read."""
        return self.weights[:, :, None, None] * self.activations

    def contributions(self, region: Tensor | None = None) -> Tensor:
        """Compute what each channel adds to the score, (B, C): the sum of G_c A_c over space.

        Where everything behind the layer is linear but for a bias, such as pooling and a linear
        layer, they add up to the score less that bias; else they are its first-order part.

        Args:
            region: (h, w) shares of each place in [0, 1]; None: all of it.
        """
        products = self.gradients.float() * self.activations.float()  # (B, C, h, w)
        if region is not None:
            products = products * region.to(products)
        return products.sum((2, 3))

    def strongest(
        self, image: int = 0, count: int = 6, by: str = "weight"
    ) -> tuple[list[int], list[int]]:
        """List the strongest channels for the target, and those against it.

        Args:
            image: Index in the batch.
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
    """Take Grad-CAM and the saliency map apart, in one pass.

    ``heatmap`` and ``saliency`` are those of :func:`attribute` for "gradcam" and "saliency", and
    ``summed`` and ``pixel_maximum`` their ``raw``, bit by bit.

    Args:
        model: A :class:`cam.Model` or any classifier; it comes back as it was.
        batch: (B, 3, H, W) floats on the model's device, as ``model.prepare(pictures)`` gives.
        targets: What is explained, as for :func:`attribute`.
        layer: Where Grad-CAM explains: a dotted name or a module. None: the model's preset; of the
            levels of a detector's pyramid the one that the scores are made of most, by Σ |G_c A_c|.

    Raises:
        CamError: One of its subclasses, with one sentence on what was wrong.
    """
    network = Network.of(model)
    check_kernels()
    check_batch(network.module, batch)
    targets, owners = list_questions(targets, len(batch))
    if owners is not None:
        raise TargetError("an anatomy is of one target an image; leave out the inner lists")
    require_inside(targets, (batch.shape[-2], batch.shape[-1]))
    complete = keep_all_candidates(network.module, read_everything(targets))
    with network.lock, complete, evaluation_mode(network.module) as was_training:
        requested = network.default_layers(batch) if layer is None else layer
        at = resolve_layers(network.module, requested)
        if len(at) > 1 and layer is not None:
            raise LayerError(
                f"an anatomy is of one layer, and these are {len(at)}: "
                f"{', '.join(name for name, _ in at)}; name one of them"
            )
        with use_precision(None, batch.device):
            captured = capture(
                network.module,
                batch,
                targets,
                network.class_index,
                (LayerGradients, PixelGradients),
                at,
                ("gradcam",),
            )
            source = max(captured.read(LayerGradients), key=_weigh)
            (pixels,) = captured.read(PixelGradients)
            steps = _take_apart(pixels, source)
    if was_training:
        warnings.warn(TRAINING_MODE, CamWarning, stacklevel=2)
    return steps


def _weigh(layer: LayerGradients) -> float:
    """Add up how much of the scores is made at a layer, whatever its sign."""
    return float((layer.gradients.float() * layer.activations.float()).abs().sum())


def _take_apart(pixels: PixelGradients, layer: LayerGradients) -> Anatomy:
    size = (pixels.inputs.shape[2], pixels.inputs.shape[3])
    with torch.inference_mode(False), torch.no_grad():
        weights: Tensor = kernels.fused_cam(
            layer.activations, layer.gradients, ("gradcam",), return_weights=True
        )[-1][:, 0]
        coarse = methods()["gradcam"].function(layer)
        fine = methods()["saliency"].function(pixels)
        heatmap, summed = heatmap_and_raw([coarse], size, "mean")
        saliency, pixel_maximum = heatmap_and_raw([fine], None, "mean")
        unsound = pixels.unsound[:, None, None]
        summed = summed.float().masked_fill(unsound, torch.nan)
        return Anatomy(
            logits=pixels.logits.float(),
            targets=pixels.targets,
            scores=pixels.scores.float(),
            layer=layer.name,
            activations=layer.activations,
            gradients=layer.gradients,
            weights=weights,
            summed=summed,
            rectified=summed.clamp(min=0),
            normalised=coarse.normalised.float().masked_fill(unsound, torch.nan),
            heatmap=heatmap.float().masked_fill(unsound, torch.nan),
            pixel_gradients=pixels.gradients,
            pixel_maximum=pixel_maximum.float().masked_fill(unsound, torch.nan),
            saliency=saliency.float().masked_fill(unsound, torch.nan),
        )


def neighbour_correlation(maps: Tensor) -> Tensor:
    """Correlate neighbouring values: 1 in smooth maps, 0 in noise.

    Pearson's correlation over all pairs of values that lie side by side, in rows and in columns.

    Args:
        maps: (B, H, W) floats, at least 2 × 2.

    Returns:
        (B,) float64 in [-1, 1]; NaN where a map is the same everywhere.

    Raises:
        MethodError: Maps of another shape.
    """
    values, others = (part - part.mean(1, keepdim=True) for part in _pairs(maps))
    norms = (values.square().sum(1) * others.square().sum(1)).sqrt()
    return (values * others).sum(1) / norms


def sign_changes(maps: Tensor) -> Tensor:
    """Return the share of neighbours with different signs: in noise one half.

    Args:
        maps: (B, H, W) floats, at least 2 × 2; a pair with a zero in it does not count.

    Returns:
        (B,) float64 in [0, 1]; NaN where no pair counts.

    Raises:
        MethodError: Maps of another shape.
    """
    signs, others = (part.sign() for part in _pairs(maps))
    products = signs * others
    return (products < 0).sum(1) / products.abs().sum(1)


def _pairs(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return both values of all neighbouring pairs, (B, pairs) each."""
    if maps.ndim != 3 or min(maps.shape[1:]) < 2:
        raise MethodError(f"maps must be (B, H, W), at least 2 × 2, but are {tuple(maps.shape)}")
    maps = maps.double()
    across, down = (maps[:, :, :-1], maps[:, :, 1:]), (maps[:, :-1], maps[:, 1:])
    return (
        torch.cat([across[0].flatten(1), down[0].flatten(1)], 1),
        torch.cat([across[1].flatten(1), down[1].flatten(1)], 1),
    )
