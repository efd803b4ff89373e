"""Name and count the classes of a network by its structure."""

from functools import lru_cache

from torch import nn


@lru_cache(maxsize=1)
def imagenet_labels() -> tuple[str, ...]:
    """Return ImageNet-1k's 1,000 class names, as torchvision's weights carry them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def infer_labels(module: nn.Module) -> tuple[str, ...] | None:
    """Return ImageNet's or a relative's names, by the number of a network's classes."""
    if count_classes(module) == len(imagenet_labels()):
        return imagenet_labels()
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(module)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def count_classes(module: nn.Module) -> int:
    """Read from a network how many classes its last layer tells apart."""
    classes = getattr(module, "num_classes", None)
    if classes is None:
        linear = [child for child in module.modules() if isinstance(child, nn.Linear | nn.Conv2d)]
        last = linear[-1]
        classes = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    return int(classes)
