"""Who is timed on the same activations and gradients, each with all that its users wait for.

The formulas are written here once more, in straightforward eager torch, and not taken from
``kernels.reference``: they are the yardstick of the kernel's speed and, input by input, of its
result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import kernels
from benchmarks.gpu_machine import Machine
from benchmarks.gpu_plan import Cell

Tail = Callable[[Tensor, Tensor], object]

EPSILON = 1e-7


def _weighted(a: Tensor, weights: Tensor) -> Tensor:
    return (weights[:, :, None, None] * a).sum(1)  # (B, h, w)


def _gradcam(a: Tensor, g: Tensor) -> Tensor:
    return _weighted(a, g.mean((2, 3)))


def _xgradcam(a: Tensor, g: Tensor) -> Tensor:
    return _weighted(a, (a * g).sum((2, 3)) / (a.sum((2, 3)) + EPSILON))


def _gradcam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    total = a.sum((2, 3), keepdim=True)  # (B, C, 1, 1)
    alpha = torch.where(g != 0, g**2 / (2 * g**2 + total * g**3), 0)
    return _weighted(a, (alpha * g.clamp(min=0)).sum((2, 3)))


def _layercam(a: Tensor, g: Tensor) -> Tensor:
    return (g.clamp(min=0) * a).sum(1)


def _hirescam(a: Tensor, g: Tensor) -> Tensor:
    return (g * a).sum(1)


def _gradcam_elementwise(a: Tensor, g: Tensor) -> Tensor:
    return (g * a).clamp(min=0).sum(1)


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": _gradcam,
    "xgradcam": _xgradcam,
    "gradcam_plus_plus": _gradcam_plus_plus,
    "layercam": _layercam,
    "hirescam": _hirescam,
    "gradcam_elementwise": _gradcam_elementwise,
}


def plain(activations: Tensor, gradients: Tensor, rules: Sequence[str]) -> Tensor:
    """Every rule by its formula in float32, then ReLU and min-max, as anybody would write it.

    The inputs are converted once for all rules.

    Args:
        activations: (B, C, h, w), floating point.
        gradients: The same shape and dtype.
        rules: Names out of ``FORMULAS``; K of them.

    Returns:
        (B, K, h, w) float32 in [0, 1].
    """
    a, g = activations.float(), gradients.float()
    maps = torch.stack([FORMULAS[rule](a, g) for rule in rules], dim=1).clamp(min=0)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (EPSILON + (high - low))


def captum_tail(activations: Tensor, gradients: Tensor) -> Tensor:
    """What captum's ``LayerGradCam.attribute`` does behind its passes: (B, 1, h, w), signed.

    In the dtype of its inputs, without ReLU and normalisation, which captum leaves to its user.
    """
    weights = torch.mean(gradients, dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    return torch.sum(weights * activations, dim=1, keepdim=True)


def grad_cam_tail(rules: Sequence[str]) -> Tail:
    """What grad-cam does behind its passes, one explainer a rule: to the CPU, numpy, scaled there.

    Args:
        rules: Names of this project; each has a class in grad-cam.

    Returns:
        A function from activations and gradients to one array (B, h, w) a rule.

    Raises:
        ImportError: grad-cam is not installed.
    """
    import numpy as np
    import pytorch_grad_cam as peer
    from pytorch_grad_cam.utils.image import scale_cam_image

    classes = {
        "gradcam": peer.GradCAM,
        "xgradcam": peer.XGradCAM,
        "gradcam_plus_plus": peer.GradCAMPlusPlus,
        "layercam": peer.LayerCAM,
        "hirescam": peer.HiResCAM,
        "gradcam_elementwise": peer.GradCAMElementWise,
    }
    # The model is looked at only for its device and its mode.
    explainers = [classes[rule](torch.nn.Conv2d(1, 1, 1), []) for rule in rules]

    def tail(activations: Tensor, gradients: Tensor) -> list[np.ndarray]:
        maps = []
        for explainer in explainers:
            # Once a rule: a user of several makes several explainers, and each fetches its own.
            a, g = activations.cpu().data.numpy(), gradients.cpu().data.numpy()
            signed = explainer.get_cam_image(None, None, None, a, g, False)
            maps.append(scale_cam_image(np.maximum(signed, 0)))
        return maps

    return tail


@dataclass(frozen=True)
class Rival:
    """One way to the maps.

    Attributes:
        name: As the results call it.
        make: From the machine and the rules to the function that is timed.
        takes: Whether it can do the rules on the cell's input.
        checked: Whether its result must equal the formulas'.
        on_host: Whether it works on the CPU, so that the device's own time says nothing.
    """

    name: str
    make: Callable[[Machine, Sequence[str]], Tail]
    takes: Callable[[Cell, Sequence[str]], bool] = lambda _cell, _rules: True
    checked: bool = False
    on_host: bool = False


def _fused(_machine: Machine, rules: Sequence[str]) -> Tail:
    return lambda a, g: kernels.fused_cam(a, g, rules=rules)


def _plain(_machine: Machine, rules: Sequence[str]) -> Tail:
    return lambda a, g: plain(a, g, rules)


def _compiled(machine: Machine, rules: Sequence[str]) -> Tail:
    return machine.compile(lambda a, g: plain(a, g, rules))


FUSED = Rival("fused", _fused, checked=True)
PLAIN = Rival("plain torch", _plain)
COMPILED = Rival("compiled torch", _compiled, checked=True)
CAPTUM = Rival(
    "captum",
    lambda _machine, _rules: captum_tail,
    takes=lambda _cell, rules: tuple(rules) == ("gradcam",),
)
GRAD_CAM = Rival(
    "grad-cam",
    lambda _machine, rules: grad_cam_tail(rules),
    # Numpy has no bfloat16. One layout is enough to see what the way over the CPU costs.
    takes=lambda cell, _rules: cell.dtype != "bf16" and cell.layout != "contiguous",
    on_host=True,
)
