"""Fused kernels for what comes after the backward pass of a visual attribution.

The package knows tensors only: nothing of models, images on disk, or pages. Where a tensor is on
a GPU the work is done by a Triton kernel in one launch; elsewhere by plain torch, which is also
each kernel's truth in the tests. `backend` says which road a tensor takes.
"""

from kernels.colormaps import COLORMAPS
from kernels.dispatch import backend
from kernels.fused_cam import fused_cam
from kernels.masked_batch import masked_batch, ranked_batch, region_batch
from kernels.moments import Moments
from kernels.overlay import overlay
from kernels.reference import RULES, normalise
from kernels.saliency import gradient_map

__all__ = [
    "COLORMAPS",
    "RULES",
    "Moments",
    "backend",
    "fused_cam",
    "gradient_map",
    "masked_batch",
    "normalise",
    "overlay",
    "ranked_batch",
    "region_batch",
]
