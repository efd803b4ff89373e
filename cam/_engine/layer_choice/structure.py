"""Read the default layer of convolutional classifiers from their structure."""

import re
from collections.abc import Iterable

from torch import nn

# Modules that hand their input on, so that naming them as a layer would only confuse.
TRANSPARENT = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Dropout3d)
_GLOBAL_POOLS = (
    *(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
)
# Auxiliary heads run beside the features, and timm's VGG flattens in its "pre_logits".
_BESIDE = ("aux", "pre_logits")
_CONTAINERS_WITHOUT_FORWARD = (nn.ModuleList, nn.ModuleDict)
# Libraries whose blocks return a tensor each, and whose classifiers end in pooling and classes.
_KNOWN_CLASSIFIERS = re.compile(
    r"(torchvision\.models\.(?!detection|segmentation|video|optical_flow)|timm\.models\.)"
)
_KNOWN_BLOCKS = ("torch.", "torchvision.models.", "torchvision.ops.", "timm.")

# Parts that say that a network does not only convolve.
_NOT_CONVOLUTION = re.compile(
    r"(?<!fl)atten|attn|transformer|mixer|mlpblock|spatialgating|perceiver", re.IGNORECASE
)


def only_convolves(module: nn.Module) -> bool:
    """Test whether every tensor (B, C, h, w) in a network is what convolutions make of a picture.

    Attention, mixers of tokens, and tables of words say that it may be something else.
    """
    return not any(
        isinstance(child, nn.Embedding) or _NOT_CONVOLUTION.search(type(child).__name__)
        for child in module.modules()
    )


def find_by_structure(module: nn.Module) -> str | None:
    """Return the module before the global pooling, or around the last convolution.

    That is the one registered just before the global pooling, or, where the pooling is written in
    ``forward``, the outermost one that ends in the last convolution.

    Returns:
        None where the structure leaves doubt: no convolution, or only those that cut the picture
        into patches; blocks of an unknown kind, which may return anything; no linear classifier
        behind, so that the last maps may be those of the classes.
    """
    if not only_convolves(module):
        return None
    children = dict(module.named_modules())
    kinds = nn.Conv2d | nn.Conv3d
    convolutions = {k: child for k, child in children.items() if isinstance(child, kinds)}
    # Patch embeddings; also true where there is no convolution.
    if all(max(c.kernel_size) > 1 and c.kernel_size == c.stride for c in convolutions.values()):
        return None
    if "backbone.fpn" in children and isinstance(children.get("backbone.body"), nn.ModuleDict):
        # torchvision's detectors, in which proposals and boxes follow: their pyramid is found.
        return None
    pools = [
        name
        for name, child in children.items()
        if isinstance(child, _GLOBAL_POOLS)
        # 1 × 1 pools inside squeeze-and-excitation blocks come before the last convolutions.
        or type(child).__name__ in ("SelectAdaptivePool2d", "FastAdaptiveAvgPool", "GlobalAvgPool")
    ]
    order = list(children)
    last = _last_feature(convolutions)
    # A pool of the network itself counts even where a convolution follows it: on 1 × 1 maps, in
    # the head of MobileNetV3 and similar. One inside a block counts only after all of them.
    pools = [pool for pool in pools if "." not in pool or order.index(pool) > order.index(last)]
    before = _previous(module, pools[-1]) if pools else None
    name = before or _outermost(module, last)
    return name if _leaves_no_doubt(module, name, pooled=before is not None) else None


def _leaves_no_doubt(module: nn.Module, name: str, pooled: bool) -> bool:
    """Test whether a layer surely returns feature maps that a linear classifier reads."""
    order = list(module.named_modules())
    position = [key for key, _ in order].index(name)
    if not any(isinstance(child, nn.Linear) for _, child in order[position + 1 :]):
        return False
    if _KNOWN_CLASSIFIERS.match(type(module).__module__):
        return True
    return pooled and all(
        type(child).__module__.startswith(_KNOWN_BLOCKS)
        for child in module.get_submodule(name).modules()
    )


def _last_feature(convolutions: Iterable[str]) -> str:
    """Return the last convolution before the classifier."""
    in_head = ("classifier", "head", "fc", "aux")
    features = [name for name in convolutions if not name.lower().startswith(in_head)]
    return (features or list(convolutions))[-1]


def _previous(module: nn.Module, name: str) -> str | None:
    """Return the module with a forward that is registered just before ``name``."""
    while name:
        parent_name, _, child_name = name.rpartition(".")
        siblings = list(module.get_submodule(parent_name).named_children())
        position = [key for key, _ in siblings].index(child_name)
        for key, child in reversed(siblings[:position]):
            if isinstance(child, TRANSPARENT) or key.lower().startswith(_BESIDE):
                continue
            previous = _descend(f"{parent_name}.{key}".lstrip("."), child)
            if previous:
                return previous
        name = parent_name
    return None


def _descend(name: str, child: nn.Module) -> str | None:
    """Follow containers without a forward to their last member."""
    while isinstance(child, _CONTAINERS_WITHOUT_FORWARD):
        members = list(child.named_children())
        if not members:
            return None
        key, child = members[-1]
        name = f"{name}.{key}"
    return name


def _outermost(module: nn.Module, name: str) -> str:
    """Return the largest module around a convolution without a linear classifier inside."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        outer = ".".join(parts[:depth])
        child = module.get_submodule(outer)
        if isinstance(child, _CONTAINERS_WITHOUT_FORWARD):
            continue
        leaves = [leaf for leaf in child.modules() if not list(leaf.children())]
        with_parameters = [leaf for leaf in leaves if list(leaf.parameters(recurse=False))]
        # A linear layer at the end means that the pooling is inside too: go further in.
        if not with_parameters or not isinstance(with_parameters[-1], nn.Linear):
            return outer
    return name
