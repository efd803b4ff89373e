"""List what a method may read, for :func:`cam.register_method`."""

from cam._engine.method_sources import (
    Attention,
    AttentionGradients,
    LayerActivations,
    LayerGradients,
    PixelGradients,
    Pixels,
    Source,
    TransformerBlocks,
)
from cam._engine.passes import Passes

__all__ = [
    "Attention",
    "AttentionGradients",
    "LayerActivations",
    "LayerGradients",
    "Passes",
    "PixelGradients",
    "Pixels",
    "Source",
    "TransformerBlocks",
]
