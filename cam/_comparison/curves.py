"""Trace the curves of deletion and insertion."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cam._comparison.progress_shares import Parts, Tell
from cam._metrics.base.metric_registry import metric
from cam._metrics.base.subject import open_subject
from cam._metrics.faithfulness.pixel_removal import integrate, trace_curve
from cam._models.model import Model
from cam.errors import MetricError
from cam.targets import Targets
from cam.types import Attribution


@dataclass(frozen=True, eq=False)
class Curves:
    """The score while pixels go, and while they come, the most important first.

    Attributes:
        shares: (n + 1,) float32, of the pixels, from 0 to 1.
        deletion: (B, n + 1) float32, the score with that share of the pixels hidden.
        insertion: (B, n + 1) float32, the score with only that share of them sharp.
    """

    shares: Tensor
    deletion: Tensor
    insertion: Tensor

    @property
    def areas(self) -> tuple[Tensor, Tensor]:
        """(B,) each: what the metrics "deletion" and "insertion" give."""
        return integrate(self.deletion), integrate(self.insertion)


def curves(
    model: Model | nn.Module,
    batch: Tensor,
    attribution: Attribution | Tensor,
    targets: Targets = None,
    *,
    steps: int = 28,
    polarity: str = "signed",
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Curves:
    """Trace the curves of deletion and insertion (Petsiuk et al. 2018).

    Hidden pixels show the mean colour in deletion, and the blurred picture in insertion.

    Args:
        model: A :class:`cam.Model` or any classifier; it comes back as it was.
        batch: (B, 3, H, W) floats on the model's device.
        attribution: What :func:`cam.attribute` returned, or signed maps (B, H, W).
        targets: What was explained, as :func:`cam.attribute` takes it.
        steps: n.
        polarity: How signed maps are read, of :data:`cam.polarity.POLARITIES`.
        batch_size: How many inputs go through the model at once.
        tell: Called with the share that is done and a note; an answer of False cancels.

    Raises:
        CamError: One of its subclasses, with one sentence on what was wrong. A map with values
            that are not finite has no order, and is refused.
    """
    maps = attribution.raw if isinstance(attribution, Attribution) else attribution
    if not bool(maps.isfinite().all()):
        raise MetricError("the map is not finite, so its pixels have no order")
    parts, traces = Parts(tell, 2), []
    for name in ("deletion", "insertion"):
        parts.begin(name, len(batch) * (1 + steps))
        configured = metric(name, steps=steps, polarity=polarity)
        parameters = {**configured.info.parameters, **configured.parameters}
        parameters.pop("polarity")
        with (
            open_subject(
                name,
                model,
                batch,
                attribution,
                targets,
                polarity=polarity,
                batch_size=batch_size,
                progress=parts.report,
            ) as subject,
            torch.no_grad(),
        ):
            trace = trace_curve(subject, **parameters, insert=name == "insertion")
            traces.append(trace.float().cpu())
    return Curves(torch.linspace(0, 1, steps + 1), *traces)
