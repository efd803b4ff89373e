"""Which layers a model has, which one to explain at, and finding one by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cam.errors import LayerError, nearest
from cam.models.state import evaluation_mode

Layer = str | nn.Module
Layers = Layer | Sequence[Layer] | None

# Modules that hand their input on, so that naming them as a layer would only confuse.
_TRANSPARENT = (nn.Identity, nn.Dropout, nn.Dropout2d)
# Auxiliary heads run beside the features, and timm's VGG flattens in its "pre_logits".
_BESIDE = ("aux", "pre_logits")
_CONTAINERS_WITHOUT_FORWARD = (nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class LayerInfo:
    """A layer with feature maps.

    Attributes:
        name: Dotted, as ``named_modules()`` gives it.
        kind: The module's class name.
        shape: (C, h, w) of its output for one image.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]


def resolve_layers(module: nn.Module, layers: Layers) -> list[tuple[str, nn.Module]]:
    """Turn names or modules into (dotted name, module) pairs, without duplicates.

    Raises:
        LayerError: No such layer, or an empty list.
    """
    by_name = dict(module.named_modules())
    if layers is None:
        return [(name, by_name[name]) for name in preset_layers(module)]
    if not isinstance(layers, str | nn.Module | Iterable):
        raise LayerError(f"a layer is a dotted name or a module, not {type(layers).__name__}")
    wanted = [layers] if isinstance(layers, str | nn.Module) else list(layers)
    if not wanted:
        raise LayerError("layers is empty; name at least one layer, or leave it out")
    names = {id(child): name for name, child in module.named_modules()}
    found: dict[str, nn.Module] = {}
    for layer in wanted:
        if isinstance(layer, str):
            if layer not in by_name or not layer:
                known = [name for name in by_name if name]
                raise LayerError(f"the model has no layer {layer!r}; {nearest(layer, known)}")
            found[layer] = by_name[layer]
        elif isinstance(layer, nn.Module):
            if not names.get(id(layer)):
                raise LayerError(
                    f"the given {type(layer).__name__} is not a layer of this model; "
                    "take one from model.named_modules()"
                )
            found[names[id(layer)]] = layer
        else:
            raise LayerError(f"a layer is a dotted name or a module, not {type(layer).__name__}")
    return list(found.items())


def preset_layers(module: nn.Module) -> tuple[str, ...]:
    """The layer whose feature maps the classifier pools: the last place that still knows where.

    Found from the structure, without a forward pass: what is registered just before the global
    pooling, or, where the pooling is written in ``forward``, the outermost part that ends in the
    last convolution.

    Raises:
        LayerError: The model has no convolution, or only those that cut the picture into patches.
    """
    convolutions = [name for name, child in module.named_modules() if isinstance(child, nn.Conv2d)]
    if not convolutions:
        raise LayerError(
            f"{type(module).__name__} has no convolutions, so Grad-CAM has no feature maps to "
            "weight; use 'saliency', or name a layer whose output is (B, C, h, w)"
        )
    children = dict(module.named_modules())
    if all(_is_patch_embedding(children[name]) for name in convolutions):
        raise LayerError(
            f"{type(module).__name__} has no convolutions but its patch embedding, whose maps know "
            "nothing of the class yet; use 'saliency', or name a layer whose output is (B, C, h, w)"
        )
    if "backbone.fpn" in children and isinstance(children.get("backbone.body"), nn.ModuleDict):
        # torchvision's detectors, in which proposals and boxes follow.
        return (f"backbone.body.{list(children['backbone.body']._modules)[-1]}",)
    pools = [
        name
        for name, child in children.items()
        if isinstance(child, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
        # 1 × 1 pools inside squeeze-and-excitation blocks stand before the last convolutions.
        or type(child).__name__ in ("SelectAdaptivePool2d", "FastAdaptiveAvgPool", "GlobalAvgPool")
    ]
    order = list(children)
    last = _last_feature(convolutions)
    # A pool of the network itself counts even where a convolution follows it: on 1 × 1 maps, in
    # the head of MobileNetV3 and its like. One inside a block counts only behind all of them.
    pools = [pool for pool in pools if "." not in pool or order.index(pool) > order.index(last)]
    before = _previous(module, pools[-1]) if pools else None
    return (before or _outermost(module, last),)


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else size


def _is_patch_embedding(child: nn.Module) -> bool:
    return (
        isinstance(child, nn.Conv2d)
        and _pair(child.kernel_size) == _pair(child.stride)
        and max(_pair(child.kernel_size)) > 1
    )


def _last_feature(convolutions: list[str]) -> str:
    """The last convolution that is not itself a classifier: those follow the pooling."""
    in_head = ("classifier", "head", "fc", "aux")
    features = [name for name in convolutions if not name.lower().startswith(in_head)]
    return (features or convolutions)[-1]


def _previous(module: nn.Module, name: str) -> str | None:
    """The part with a forward of its own that is registered just before ``name``."""
    while name:
        parent_name, _, own = name.rpartition(".")
        siblings = list(module.get_submodule(parent_name).named_children())
        position = [key for key, _ in siblings].index(own)
        for key, child in reversed(siblings[:position]):
            if isinstance(child, _TRANSPARENT) or key.lower().startswith(_BESIDE):
                continue
            found = _descend(f"{parent_name}.{key}".lstrip("."), child)
            if found:
                return found
        name = parent_name
    return None


def _descend(name: str, child: nn.Module) -> str | None:
    """A container without a forward stands for its last member."""
    while isinstance(child, _CONTAINERS_WITHOUT_FORWARD):
        members = list(child.named_children())
        if not members:
            return None
        key, child = members[-1]
        name = f"{name}.{key}"
    return name


def _outermost(module: nn.Module, name: str) -> str:
    """The largest part around a convolution that has a forward and holds no linear classifier."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        outer = ".".join(parts[:depth])
        child = module.get_submodule(outer)
        if isinstance(child, _CONTAINERS_WITHOUT_FORWARD):
            continue
        # A linear layer inside means that the pooling is inside too: go further in.
        if _ends_in_classifier(child):
            continue
        return outer
    return name


def _ends_in_classifier(child: nn.Module) -> bool:
    leaves = [leaf for leaf in child.modules() if not list(leaf.children())]
    with_parameters = [leaf for leaf in leaves if list(leaf.parameters(recurse=False))]
    return bool(with_parameters) and isinstance(with_parameters[-1], nn.Linear)


def is_map_of(rows: int, columns: int, picture: Tensor) -> bool:
    """Whether a grid has the proportions of a picture (B, 3, H, W), to a cell or two."""
    height, width = picture.shape[-2:]
    return abs(rows * width - columns * height) <= 2 * max(height, width)


def is_channels_last(output: Tensor, picture: Tensor) -> bool:
    """Whether an output (B, a, b, c) is (B, h, w, C), as blocks of Swin and others give it.

    Told by the proportions of the picture (B, 3, H, W), which feature maps have.
    """
    first, second, third = output.shape[1:]
    return is_map_of(first, second, picture) and not is_map_of(second, third, picture)


def feature_layers(module: nn.Module, example: Tensor) -> list[LayerInfo]:
    """All layers whose output for ``example`` (1, 3, H, W) is a feature map larger than 1 × 1.

    Runs one forward pass without gradients, in evaluation mode. Listed in the order in which they
    run, so that a slider over them goes through the depth of the network.
    """
    found: dict[str, LayerInfo] = {}

    def record(name: str, child: nn.Module, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.is_floating_point():
            channels, height, width = output.shape[1:]
            # What has other proportions is no map of the picture: tokens, windows, channels last.
            if height * width > 1 and is_map_of(height, width, example):
                found.pop(name, None)
                found[name] = LayerInfo(name, type(child).__name__, (channels, height, width))

    handles = [
        child.register_forward_hook(lambda child, _, output, name=name: record(name, child, output))
        for name, child in module.named_modules()
        if name and not isinstance(child, _TRANSPARENT)
    ]
    try:
        with evaluation_mode(module), torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())
