"""Explains what vision models see: many attribution methods in one forward and one backward pass.

The names below are the public interface; everything else may change.
"""

from cam import targets
from cam.anatomy import Anatomy, anatomy
from cam.attribute import attribute
from cam.comparison.agreement import agreement
from cam.comparison.cascade import Cascade, cascade
from cam.comparison.curves import Curves, curves
from cam.comparison.detail import effective_resolution, total_variation
from cam.comparison.examine import Examination, examine
from cam.comparison.frame import shared_view
from cam.comparison.scale import common_scale
from cam.data.dataset import Dataset, Item
from cam.data.source import dataset
from cam.errors import (
    CamError,
    CamWarning,
    Cancelled,
    CheckpointError,
    DataError,
    ImageError,
    InputError,
    LayerError,
    MethodError,
    MetricError,
    ModelError,
    RunError,
    TargetError,
)
from cam.evaluate.evaluate import evaluate, resume
from cam.evaluate.run import Run
from cam.evaluate.states import RunState, runs
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
from cam.metrics import (  # noqa: F401 (they register the metrics)
    complexity,
    faithfulness,
    infidelity,
    information,
    localisation,
    randomisation,
    road,
    robustness,
)
from cam.metrics.registry import Metric, MetricInfo, Scores, metric, metrics
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
    "Cascade",
    "CheckpointError",
    "Cost",
    "Curves",
    "DataError",
    "Dataset",
    "Examination",
    "ImageError",
    "InputError",
    "Item",
    "LayerError",
    "Method",
    "MethodError",
    "MethodInfo",
    "Metric",
    "MetricError",
    "MetricInfo",
    "Model",
    "ModelError",
    "Needs",
    "Progress",
    "Run",
    "RunError",
    "RunState",
    "Scores",
    "TargetError",
    "__version__",
    "agreement",
    "anatomy",
    "attribute",
    "cascade",
    "common_scale",
    "curves",
    "dataset",
    "effective_resolution",
    "evaluate",
    "examine",
    "load_image",
    "load_model",
    "method",
    "methods",
    "metric",
    "metrics",
    "model_names",
    "overlay",
    "resume",
    "runs",
    "sample",
    "samples",
    "shared_view",
    "targets",
    "total_variation",
]
