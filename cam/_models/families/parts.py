"""Hold the parts that a model is made of."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from cam._models.checkpoint import load_weights
from cam._models.download import no_weights
from cam._models.families.class_names import count_classes
from cam._models.preprocessing import Transform

Weights = Literal["DEFAULT"] | str | os.PathLike[str] | None


@dataclass(frozen=True, eq=False)
class Parts:
    """What a family's loader gives.

    Attributes:
        module: The network.
        transform: From an image to its input.
        labels: One name a class; None where the family knows none.
        layer: Where to explain; None where the network is to be looked at.
        task: As of :class:`cam.Model`.
    """

    module: nn.Module
    transform: Transform
    labels: tuple[str, ...] | None = None
    layer: str | None = None
    task: str | None = None

    @property
    def classes(self) -> int:
        """How many classes the network tells apart."""
        return len(self.labels) if self.labels is not None else count_classes(self.module)


def build_network(
    name: str,
    weights: Weights,
    create: Callable[[int | None], nn.Module],
    load_published: Callable[[], nn.Module],
) -> nn.Module:
    """Build a network with published, random or a file's weights."""
    if weights == "DEFAULT":
        try:
            return load_published()
        except (OSError, RuntimeError) as error:
            raise no_weights(name, error) from None
    return create(None) if weights is None else load_weights(create, weights)
