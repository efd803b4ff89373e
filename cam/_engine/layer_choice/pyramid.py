"""Find the levels of a detector's pyramid: what its head is given."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from cam._detection.outputs import QUERIES, Detected
from cam._engine.evaluation_mode import attach, evaluation_mode
from cam._engine.forward import find_detected
from cam._engine.layer_choice.layer_memory import find_certain_layout, probed_layouts


def find_levels(module: nn.Module, picture: Tensor) -> tuple[str, ...]:
    """Return the layers whose maps of several resolutions a detector's head is given together.

    They are found by one forward pass: the last time that a module is called with maps of several
    resolutions, and the modules that returned these very tensors. torchvision's and YOLO's heads
    are called so; queries read one grid, the encoder's.

    Args:
        module: The network.
        picture: (1, C, H, W).

    Returns:
        Dotted names, the finest level first; empty where it detects nothing by a pyramid.

    Raises:
        ModelError: The network fails on the picture.
    """
    makers: dict[int, str] = {}
    # Kept, so that no other tensor gets the same identity.
    outputs: list[Tensor] = []
    handed: list[tuple[Tensor, ...]] = []

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def record(_child: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                makers[id(output)] = name
                outputs.append(output)

        return record

    def look(_child: nn.Module, inputs: tuple[object, ...]) -> None:
        handed.extend(levels for value in inputs if (levels := _as_levels(value)))

    children = [(name, child) for name, child in module.named_modules() if name]
    hooks = [child.register_forward_hook(keep(name)) for name, child in children]
    hooks += [child.register_forward_pre_hook(look) for _, child in children]
    with evaluation_mode(module), torch.no_grad(), attach(hooks):
        detected = find_detected(module, picture.clone())
    if not _has_pyramid(detected):
        return ()
    for levels in reversed(handed):
        named = {makers[id(level)]: level for level in levels if id(level) in makers}
        names = _lying_on(module, picture, named)
        if len(names) > 1:
            return names
    return ()


def _has_pyramid(detected: Detected | None) -> bool:
    return detected is not None and detected.kind != QUERIES


def _as_levels(value: object) -> tuple[Tensor, ...]:
    """Return maps of several resolutions, the finest first; nothing for anything else."""
    values = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(values, list | tuple) or len(values) < 2:
        return ()
    if not all(isinstance(each, Tensor) and each.ndim == 4 for each in values):
        return ()
    sizes = {tuple(each.shape[2:]) for each in values}
    return tuple(sorted(values, key=_count_cells, reverse=True)) if len(sizes) > 1 else ()


def _count_cells(maps: Tensor) -> int:
    return maps[0, 0].numel()


def _lying_on(module: nn.Module, picture: Tensor, named: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return those layers that are shown to lie on the picture: of one cell none is."""
    certain = {
        name
        for name, level in named.items()
        if find_certain_layout(module, level, picture) is not None
    }
    doubtful = any(_count_cells(level) > 1 for name, level in named.items() if name not in certain)
    shown_by_probe = probed_layouts(module, picture).keys() if doubtful else set()
    return tuple(name for name in named if name in certain or name in shown_by_probe)
