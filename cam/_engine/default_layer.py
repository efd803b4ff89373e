"""Choose the default layer: the last one that keeps spatial resolution.

A convolutional network is read from its structure, without a pass. Any other is watched while it
runs on one picture.
"""

import re
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cam._engine.evaluation_mode import attach, evaluation_mode
from cam._engine.forward import run_model
from cam._engine.token_layout import count_prefix_tokens, find_layout, is_map_of, main_output
from cam.errors import LayerError

# Modules that hand their input on, so that naming them as a layer would only confuse.
TRANSPARENT = (nn.Identity, nn.Dropout, nn.Dropout2d)
# Auxiliary heads run beside the features, and timm's VGG flattens in its "pre_logits".
_BESIDE = ("aux", "pre_logits")
_CONTAINERS_WITHOUT_FORWARD = (nn.ModuleList, nn.ModuleDict)

# Parts that say that a network does not only convolve.
_NOT_CONVOLUTION = re.compile(
    r"(?<!fl)atten|attn|transformer|mixer|mlpblock|spatialgating", re.IGNORECASE
)
# Inside these the tokens are taken apart: heads, queries, hidden features.
_INSIDE = re.compile(r"(^|\.)(\w*attn\w*|\w*attention\w*|mlp\w*|\w*ffn\w*|token_mixer)\.")

_observed: WeakKeyDictionary[nn.Module, tuple[str, ...]] = WeakKeyDictionary()


def find_default_layers(module: nn.Module, picture: Callable[[], Tensor]) -> tuple[str, ...]:
    """Return the layer whose maps the classifier pools.

    Args:
        module: A classifier.
        picture: Returns (1, 3, H, W) on its device, of the size that will be explained; called
            only where the network has to be watched, and what it shows does not matter.

    Raises:
        LayerError: It has no layer whose maps the score depends on.
    """
    names = {name for name, _ in module.named_modules()}
    if observed := _observed.get(module):
        if names.issuperset(observed):
            return observed
        del _observed[module]
    if not any(_NOT_CONVOLUTION.search(type(child).__name__) for child in module.modules()):
        structural = _find_by_structure(module)
        if structural is not None:
            return (structural,)
    name = _find_by_gradient(module, picture())
    if name is None:
        raise LayerError(
            f"{type(module).__name__} has no layer with maps of the picture that its score depends "
            "on; use 'saliency', or name a layer whose output is (B, C, h, w) or (B, tokens, C)"
        )
    _observed[module] = (name,)
    return (name,)


def _find_by_gradient(module: nn.Module, picture: Tensor) -> str | None:
    """Return the last module to finish whose maps matter at most positions.

    After the last attention only the class token may go on: the patches' tokens are there, but
    the score does not depend on them.
    """
    ran: dict[str, Tensor] = {}
    features: list[Tensor] = []
    before = count_prefix_tokens(module)

    def record(name: str, output: object) -> None:
        maps = main_output(output)
        if isinstance(maps, Tensor) and maps.requires_grad:
            ran.pop(name, None)
            ran[name] = maps

    def record_features(_child: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            features.append(inputs[0])

    hooks = [
        child.register_forward_hook(lambda _child, _, output, name=name: record(name, output))
        for name, child in module.named_modules()
        if name and not isinstance(child, TRANSPARENT) and not _INSIDE.search(name)
    ]
    hooks += [
        child.register_forward_pre_hook(record_features)
        for child in module.modules()
        if isinstance(child, nn.Linear)
    ]
    with evaluation_mode(module), torch.inference_mode(False), torch.enable_grad():
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(picture.shape, generator=generator).to(picture)
        with attach(hooks):
            logits = run_model(module, noise.requires_grad_().clone())
        names = list(ran)[::-1]
        # A classifier that starts at zero, as torchvision's transformers have it before they are
        # trained, hides what it reads: then its input is the score.
        for score in (logits, *features[-1:]):
            if not names or not score.requires_grad:
                continue
            weights = torch.randn(score.shape, generator=generator).to(score)
            gradients = torch.autograd.grad(
                (score * weights).sum(),
                list(ran.values())[::-1],
                allow_unused=True,
                retain_graph=True,
            )
            if last := _find_first_map(names, gradients, ran, picture, before):
                return last
    return None


def _find_first_map(
    names: list[str],
    gradients: tuple[Tensor | None, ...],
    ran: dict[str, Tensor],
    picture: Tensor,
    before: int | None,
) -> str | None:
    """Return the first name whose output is a map that matters."""
    for name, gradient in zip(names, gradients, strict=True):
        layout = None if gradient is None else find_layout(ran[name], picture, before)
        if layout is None or gradient is None:
            continue
        rows, columns = layout.grid
        if rows * columns < 2 or not is_map_of(rows, columns, picture):
            continue
        if layout.maps(gradient).ne(0).any(1).float().mean() > 0.5:
            return name
    return None


def _find_by_structure(module: nn.Module) -> str | None:
    """Return the module before the global pooling, or around the last convolution.

    That is the one registered just before the global pooling, or, where the pooling is written in
    ``forward``, the outermost one that ends in the last convolution. None where there is no
    convolution, or only those that cut the picture into patches.
    """
    children = dict(module.named_modules())
    convolutions = {k: child for k, child in children.items() if isinstance(child, nn.Conv2d)}
    # Patch embeddings; also true where there is no convolution.
    if all(max(c.kernel_size) > 1 and c.kernel_size == c.stride for c in convolutions.values()):
        return None
    if "backbone.fpn" in children and isinstance(children.get("backbone.body"), nn.ModuleDict):
        # torchvision's detectors, in which proposals and boxes follow.
        return f"backbone.body.{list(children['backbone.body']._modules)[-1]}"
    pools = [
        name
        for name, child in children.items()
        if isinstance(child, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
        # 1 × 1 pools inside squeeze-and-excitation blocks come before the last convolutions.
        or type(child).__name__ in ("SelectAdaptivePool2d", "FastAdaptiveAvgPool", "GlobalAvgPool")
    ]
    order = list(children)
    last = _last_feature(convolutions)
    # A pool of the network itself counts even where a convolution follows it: on 1 × 1 maps, in
    # the head of MobileNetV3 and similar. One inside a block counts only after all of them.
    pools = [pool for pool in pools if "." not in pool or order.index(pool) > order.index(last)]
    before = _previous(module, pools[-1]) if pools else None
    return before or _outermost(module, last)


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
