"""Compute the maps of several gradient-CAM rules by one kernel."""

from collections.abc import Collection

from torch import Tensor

from cam import kernels
from cam.types import Maps


def rule_maps(activations: Tensor, gradients: Tensor, rules: Collection[str]) -> dict[str, Maps]:
    """Return each rule's map of a layer.

    Args:
        activations: (B, C, h, w) floats.
        gradients: The same shape and dtype.
        rules: Names of rules of :func:`kernels.fused_cam`.
    """
    if not rules:
        return {}
    names = tuple(sorted(rules))
    normalised, signed = kernels.fused_cam(activations, gradients, names, return_signed=True)
    return {rule: Maps(signed[:, k], normalised[:, k]) for k, rule in enumerate(names)}
