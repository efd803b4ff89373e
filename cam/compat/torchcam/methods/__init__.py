"""List the extractors by the names that torchcam gives them."""

from cam.compat.torchcam.methods.activation import CAM, ISCAM, SSCAM, ScoreCAM
from cam.compat.torchcam.methods.composed import FinerCAM, LeGrad, RefineCAM
from cam.compat.torchcam.methods.gradient import (
    GradCAM,
    GradCAMpp,
    LayerCAM,
    SmoothGradCAMpp,
    XGradCAM,
)

__all__ = [
    "CAM",
    "ISCAM",
    "SSCAM",
    "FinerCAM",
    "GradCAM",
    "GradCAMpp",
    "LayerCAM",
    "LeGrad",
    "RefineCAM",
    "ScoreCAM",
    "SmoothGradCAMpp",
    "XGradCAM",
]
