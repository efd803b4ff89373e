"""Offer Captum's attribution classes (0.9), with its signs, shapes and dtypes.

``from captum.attr import Saliency`` becomes ``from cam.compat.captum import Saliency``. What
differs: the model is explained in evaluation mode, whatever mode it is in, and comes back as it
was; one tensor of pictures (B, C, H, W) is explained, alone or in a tuple, and what else
``forward_func`` takes are ``additional_forward_args``. A call that would give other numbers than
Captum's is refused, with what to call instead.
"""

from cam.compat.captum.deeplift import DeepLift, DeepLiftShap
from cam.compat.captum.gradients import InputXGradient, IntegratedGradients, Saliency
from cam.compat.captum.layers import (
    Deconvolution,
    GuidedBackprop,
    GuidedGradCam,
    LayerAttribution,
    LayerGradCam,
)
from cam.compat.captum.noise import GradientShap, NoiseTunnel
from cam.compat.captum.perturbations import FeatureAblation, Occlusion
from cam.compat.captum.relevance import LRP
from cam.compat.captum.surrogates import KernelShap, Lime

__all__ = [
    "LRP",
    "Deconvolution",
    "DeepLift",
    "DeepLiftShap",
    "FeatureAblation",
    "GradientShap",
    "GuidedBackprop",
    "GuidedGradCam",
    "InputXGradient",
    "IntegratedGradients",
    "KernelShap",
    "LayerAttribution",
    "LayerGradCam",
    "Lime",
    "NoiseTunnel",
    "Occlusion",
    "Saliency",
]
