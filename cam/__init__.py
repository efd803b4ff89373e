"""Explains what vision models see: many attribution methods in one forward and one backward pass.

The names below are the public interface; everything else may change.
"""

from cam import targets
from cam.anatomy import Anatomy, anatomy
from cam.attribute import attribute
from cam.errors import (
    CamError,
    CamWarning,
    Cancelled,
    CheckpointError,
    ImageError,
    InputError,
    LayerError,
    MethodError,
    ModelError,
    TargetError,
)
from cam.images import load_image, sample, samples
from cam.methods import (  # noqa: F401 (they register the methods)
    activation_cam,
    attention,
    class_cam,
    contrast_cam,
    deeplift,
    expected,
    extremal,
    full_gradient,
    gradient_cam,
    integrated,
    lrp,
    modified_backward,
    noise,
    paths,
    perturbation,
    pixel_gradient,
    projection_cam,
    score_cam,
    shapley_cam,
    smooth_cam,
    smooth_score_cam,
    superpixels,
    xrai,
)
from cam.methods.registry import Method, MethodInfo, method, methods
from cam.models.load import load_model, model_names
from cam.models.model import Model
from cam.render import overlay
from cam.types import Attribution, Cost, Needs, Progress
from cam.version import __version__

__all__ = [
    "Anatomy",
    "Attribution",
    "CamError",
    "CamWarning",
    "Cancelled",
    "CheckpointError",
    "Cost",
    "ImageError",
    "InputError",
    "LayerError",
    "Method",
    "MethodError",
    "MethodInfo",
    "Model",
    "ModelError",
    "Needs",
    "Progress",
    "TargetError",
    "__version__",
    "anatomy",
    "attribute",
    "load_image",
    "load_model",
    "method",
    "methods",
    "model_names",
    "overlay",
    "sample",
    "samples",
    "targets",
]
