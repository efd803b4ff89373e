"""Metrics computed by hand, and a network, for tests of runs."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor, nn

import cam


@dataclass(frozen=True, eq=False)
class Scores:
    values: Tensor
    reasons: tuple[str | None, ...]
    remarks: tuple[str | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Metric:
    """The part of a metric that a run reads."""

    name: str
    direction: int = 1
    needs_masks: bool = False
    parameters: dict = field(default_factory=dict)

    @property
    def info(self) -> SimpleNamespace:
        return SimpleNamespace(
            needs_masks=self.needs_masks,
            needs_method=False,
            direction=self.direction,
            parameters={"steps": 4},
        )

    def __str__(self) -> str:
        listed = ", ".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self.name}({listed})" if listed else self.name


class Inside(Metric):
    """Share of the heatmap inside the mask."""

    def __init__(self, **parameters: int) -> None:
        super().__init__("inside", 1, True, parameters)

    def measure(self, model, batch, attribution, targets, masks=None, **_) -> Scores:
        heatmap = attribution.heatmap
        total = heatmap.sum((1, 2))
        values = torch.where(total > 0, (heatmap * masks).sum((1, 2)) / total, torch.nan)
        return Scores(
            values, tuple(None if positive else "it has no mass" for positive in total > 0)
        )


class Drop(Metric):
    """How much of the target's probability is lost under the heatmap as a mask; lower is better."""

    def __init__(self, **parameters: int) -> None:
        super().__init__("drop", -1, False, parameters)

    def measure(self, model, batch, attribution, targets, masks=None, **_) -> Scores:
        heatmap = attribution.heatmap
        before = model.predict(batch).gather(1, targets[:, None])[:, 0]
        after = model.predict(batch * heatmap[:, None]).gather(1, targets[:, None])[:, 0]
        return Scores((before - after).clamp(min=0) / before, (None,) * len(batch))


class Broken(Metric):
    """It fails wherever an image's target is ``target``, and so in each batch with such a one."""

    def __init__(self, target: int) -> None:
        super().__init__("broken")
        object.__setattr__(self, "target", target)

    def measure(self, model, batch, attribution, targets, masks=None, **_) -> Scores:
        heatmap = attribution.heatmap
        if (targets == self.target).any():
            raise RuntimeError("it broke\nwith a long trace")
        return Scores(heatmap.mean((1, 2)), (None,) * len(batch))


def network(seed: int = 0) -> cam.Model:
    """Two convolutions and a pooled classifier of 1,000 classes."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 1000),
    )
    return cam.Model(module.eval(), layers="3", name="tiny")
