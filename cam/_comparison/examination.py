"""Measure a method's cost, detail and stability on one picture."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, nn

from cam._attribution.attribution import attribute
from cam._comparison.detail import effective_resolution, total_variation
from cam._comparison.progress_shares import Parts, Tell
from cam._engine.layers import Layers
from cam._engine.method_sources import LayerGradients
from cam._methods.base.method_registry import Method, MethodInfo, methods
from cam._methods.base.method_registry import method as named
from cam._metrics.base.metric_registry import Metric, metric
from cam._models.model import Model
from cam.errors import CamError, CamWarning, Cancelled
from cam.targets import Targets
from cam.types import Attribution

# Question → metric.
STABILITY: Mapping[str, str] = MappingProxyType(
    {"noise": "stability_noise", "shift": "stability_shift", "light": "stability_light"}
)
# Directions of a shift, and kinds of light.
FOUR = 4
SHIFT = 8


@dataclass(frozen=True, eq=False)
class Examination:
    """What was measured of one method on one batch.

    Attributes:
        method: Its name.
        error: Why it does not run on this model, in one sentence; None where it does, and only then
            there is the rest.
        attribution: Its maps, with the passes that they took.
        resolution: (B,) float64, :func:`cam.effective_resolution` of the heatmaps, in pixels.
        variation: (B,) float64, :func:`cam.total_variation` of them.
        stability: "noise", "shift" and "light" → (B,) float32: Spearman's correlation of the
            heatmap with those of the changed picture, as the metrics "stability_noise",
            "stability_shift" and "stability_light" give it (shifts of 8 pixels, or of just less
            than half of a smaller picture); NaN where the map is the same everywhere.
    """

    method: str
    error: str | None = None
    attribution: Attribution | None = None
    resolution: Tensor | None = None
    variation: Tensor | None = None
    stability: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def reads(self) -> str:
        """What the method looks at, in words."""
        return describe_reads(methods()[self.method])


def describe_reads(info: MethodInfo) -> str:
    """Describe what a method reads to make its map."""
    if info.family == "attention":
        return "a transformer's attention"
    if info.family == "perturbation":
        return "scores of changed images"
    if info.layer:
        parts = ["a layer's activations"]
        parts += ["their gradients"] * issubclass(info.reads, LayerGradients)
        parts += ["separate passes"] * info.passes
        return " and ".join([", ".join(parts[:-1]), parts[-1]]) if parts[1:] else parts[0]
    if info.passes:
        return "gradients or relevance at the pixels, from separate passes"
    return "the gradient at the pixels"


def examine(
    model: Model | nn.Module,
    batch: Tensor,
    method: str | Method,
    targets: Targets = None,
    layers: Layers = None,
    *,
    tell: Tell | None = None,
) -> Examination:
    """Measure a method's cost, detail, and stability under changes of the picture.

    A method that this model does not allow is an answer too, and no exception.

    Args:
        model: A :class:`cam.Model` or any classifier; it comes back as it was.
        batch: (B, 3, H, W) floats on the model's device.
        method: A name, or :func:`cam.method` with parameters.
        targets: What is explained, as for :func:`cam.attribute`. The class that is found on the
            picture itself is explained on the changed ones too.
        layers: As for :func:`cam.attribute`.
        tell: Called with the share that is done and a note; an answer of False cancels.

    Raises:
        Cancelled: ``tell`` answered False.
        MethodError: There is no such method.
    """
    how = named(method) if isinstance(method, str) else method
    parts = Parts(tell, 1 + len(STABILITY))
    at = layers if how.info.layer else None
    with warnings.catch_warnings():
        # A map that is not finite shows as values that are NaN.
        warnings.simplefilter("ignore", CamWarning)
        parts.begin(how.info.title)
        try:
            (maps,) = attribute(model, batch, how, targets, at, progress=parts.report).values()
        except Cancelled:
            raise
        except CamError as error:
            return Examination(how.name, str(error))
        stability = {}
        for question, measure in _choose_metrics(batch).items():
            changed = measure.info.parameters.get("samples", FOUR)
            parts.begin(f"{how.info.title}, {question}", len(batch) * (1 + changed))
            stability[question] = measure(
                model, batch, maps, maps.targets, method=how, layers=at,
                # As small as the passes allow, so that Cancel is heard.
                batch_size=32 if batch.is_cuda else 4, progress=parts.report,
            ).cpu()  # fmt: skip
    with torch.no_grad():
        return Examination(
            how.name,
            None,
            maps,
            effective_resolution(maps.heatmap),
            total_variation(maps.heatmap),
            MappingProxyType(stability),
        )


def _choose_metrics(batch: Tensor) -> dict[str, Metric]:
    """Map each question to its metric; small pictures are shifted less."""
    pixels = max(1, min(SHIFT, (min(batch.shape[2:]) - 1) // 2))
    return {
        question: metric(name, pixels=pixels) if question == "shift" else metric(name)
        for question, name in STABILITY.items()
    }
