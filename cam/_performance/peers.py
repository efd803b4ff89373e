"""Compute Grad-CAM by other packages, where they are installed.

They are yardsticks; the product needs none of them. They leave gradients on the parameters, so
they need a copy of the model.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from torch import Tensor, nn

from cam import kernels

# Package → the module that it is imported by.
PACKAGES = {"grad-cam": "pytorch_grad_cam", "captum": "captum", "torchcam": "torchcam"}

Call = Callable[[], object]


def installed() -> dict[str, str]:
    """Find the packages that are installed: name → version."""
    versions = {}
    for package, module in PACKAGES.items():
        with suppress(PackageNotFoundError):
            if find_spec(module) is not None:
                versions[package] = version(package)
    return versions


def prepare_gradcam(
    module: nn.Module, layer: str, batch: Tensor, targets: Sequence[int]
) -> dict[str, Call]:
    """Prepare Grad-CAM of a batch by each installed package.

    Args:
        module: The network, in evaluation mode.
        layer: Dotted name of the layer that is explained.
        batch: (B, 3, H, W).
        targets: Each image's class.

    Returns:
        Package → a call that computes the maps anew, with what a user would write: hooks set, one
        pass forward, one back, the map at the layer's or the picture's size as the package gives
        it, hooks removed.
    """
    calls: dict[str, Call] = {
        "grad-cam": lambda: grad_cam("GradCAM", module, layer, batch, targets),
        "captum": lambda: _captum(module, layer, batch, targets),
        "torchcam": lambda: _torchcam(module, layer, batch, targets),
    }
    here = installed()
    return {package: call for package, call in calls.items() if package in here}


# The kernel's rules by the names of grad-cam's classes.
CLASSES = {
    "gradcam": "GradCAM",
    "xgradcam": "XGradCAM",
    "gradcam_plus_plus": "GradCAMPlusPlus",
    "layercam": "LayerCAM",
    "hirescam": "HiResCAM",
    "gradcam_elementwise": "GradCAMElementWise",
}


def prepare_every_cam(
    module: nn.Module, layer: str, batch: Tensor, targets: Sequence[int]
) -> Call | None:
    """Prepare all of :data:`kernels.RULES` by grad-cam, if it is installed."""
    if "grad-cam" not in installed():
        return None
    return lambda: [
        grad_cam(CLASSES[rule], module, layer, batch, targets) for rule in kernels.RULES
    ]


def grad_cam(
    kind: str, module: nn.Module, layer: str, batch: Tensor, targets: Sequence[int]
) -> object:
    """Run a new explainer of grad-cam; hooks that stay would slow others."""
    import pytorch_grad_cam as peer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with getattr(peer, kind)(module, [module.get_submodule(layer)]) as explainer:
        return explainer(batch, [ClassifierOutputTarget(target) for target in targets])


def _captum(module: nn.Module, layer: str, batch: Tensor, targets: Sequence[int]) -> object:
    from captum.attr import LayerGradCam

    return LayerGradCam(module, module.get_submodule(layer)).attribute(batch, target=list(targets))


def _torchcam(module: nn.Module, layer: str, batch: Tensor, targets: Sequence[int]) -> object:
    from torchcam.methods import GradCAM

    with GradCAM(module, target_layer=layer) as explainer:
        return explainer(list(targets), module(batch))
