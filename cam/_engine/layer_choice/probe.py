"""Probe which layers lie on the picture by changing parts of it.

The network sees five pictures of noise in one forward pass: one, and four times the same with
another patch in it, one in each quarter. A layer lies on the picture, in one of the layouts that
its shape allows, where each of the four changes it most at the cells under that patch. Of a volume
or a clip there are nine, and a patch in each octant.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from cam._engine.evaluation_mode import attach, evaluation_mode
from cam._engine.forward import run_model
from cam._engine.layer_choice.grids import (
    Grid,
    find_patch_grids,
    possible_layouts,
    spatial_grid,
)
from cam._engine.token_layout import Layout, main_output

# How much more of its change a cell owes to the patch above it than to another one; of what is no
# map at most a few hundredths, by chance.
_LEAST_CONTRAST = 0.1


def count_pictures(picture: Tensor) -> int:
    """Return how many pictures the probe of a picture's size makes: one, and one for each part."""
    return 1 + (1 << (picture.ndim - 2))


def probe_layers(module: nn.Module, picture: Tensor) -> dict[str, Layout]:
    """Find each layer that lies on the picture, and how.

    Args:
        module: The network; it comes back as it was.
        picture: (1, C, H, W) or (1, C, D, H, W); only its size and kind matter.

    Returns:
        Dotted name → layout, in the order in which the layers finish.

    Raises:
        ModelError: The network fails on five pictures, or nine volumes.
    """
    pictures, patches = _make_pictures(picture)
    grids: set[Grid] = find_patch_grids(module, picture)
    layouts: dict[str, Layout] = {}

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def record(child: nn.Module, _inputs: object, output: object) -> None:
            values = main_output(output)
            layouts.pop(name, None)
            if not isinstance(values, Tensor) or not values.is_floating_point() or not values.ndim:
                return
            if len(values) != len(pictures):
                return
            if grid := spatial_grid(child, values, picture):
                grids.add(grid)
            layout = find_layout_of_changes(values.detach(), patches, pictures, grids)
            if layout is not None:
                layouts[name] = layout

        return record

    hooks = (
        child.register_forward_hook(watch(name)) for name, child in module.named_modules() if name
    )
    with evaluation_mode(module), torch.inference_mode(False), torch.no_grad(), attach(hooks):
        run_model(module, pictures)
    return layouts


def _make_pictures(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Return pictures, and where all but the first differ from it, (P, 1, H, W).

    P is 4, one patch in each quarter; of volumes 8, and there is an axis D before H.
    """
    generator = torch.Generator().manual_seed(0)
    sides = picture.shape[2:]
    first, other = (torch.randn(picture.shape[1:], generator=generator) for _ in range(2))
    patches = torch.zeros(2 ** len(sides), 1, *sides)
    for patch, halves in zip(patches, product((0, 1), repeat=len(sides)), strict=True):
        starts = [(half * 4 + 1) * side // 8 for half, side in zip(halves, sides, strict=True)]
        ends = [start - side // -4 for start, side in zip(starts, sides, strict=True)]
        patch[0][tuple(map(slice, starts, ends))] = 1
    changed = torch.where(patches.bool(), other + 2, first)
    return torch.cat([first[None], changed]).to(picture), patches


def find_layout_of_changes(
    outputs: Tensor, patches: Tensor, pictures: Tensor, grids: set[Grid]
) -> Layout | None:
    """Return the layout in which an output changes under each patch; None where there is none.

    Args:
        outputs: (1 + P, …), of the picture and of those that differ from it.
        patches: (P, 1, H, W), 1 where they differ; P is 4, or 8 with an axis D before H.
        pictures: (1 + P, C, H, W).
        grids: That the network had until then.
    """
    change = (outputs[1:].float() - outputs[:1].float()).abs()
    if change.ndim == 3:
        # There may be a hundred ways to lay tokens: a single channel makes each cheap.
        change = change.mean(2, keepdim=True)
    best, highest = None, _LEAST_CONTRAST
    for layout in possible_layouts(tuple(outputs.shape), pictures, grids):
        maps = layout.maps(change).mean(1)  # (P, h, w)
        contrast = _contrast(maps, patches.to(maps))
        if contrast > highest:
            best, highest = layout, contrast
    return best


def _contrast(changes: Tensor, patches: Tensor) -> float:
    """Return how much more a cell changes with the patch over it than with others, in shares.

    0 where one of the patches changes the cells under another one more than its own.
    """
    if changes.ndim == 4 and changes.shape[1] == 1:
        # Of one plane for the whole depth, as of a short clip, only the quarters can be told apart.
        changes, patches = _join_depths(changes), _join_depths(patches[:, 0])[:, None]
    total = changes.sum(0)
    shares = torch.where(total > 0, changes / total, 0)  # (P, h, w)
    under = functional.interpolate(patches, changes.shape[1:], mode="area")[:, 0]
    under = under / under.sum(tuple(range(1, under.ndim)), keepdim=True)
    # From the patch that changed (rows) to the cells under each (columns).
    letters = "hw" if changes.ndim == 3 else "dhw"
    table = torch.einsum(f"i{letters},j{letters}->ij", shares, under)
    diagonal = table.diagonal()
    others = table - torch.diag(torch.full_like(diagonal, torch.inf))
    least = torch.minimum(diagonal - others.amax(0), diagonal - others.amax(1)).min()
    pairs = len(table) * (len(table) - 1)
    return float(diagonal.mean() - (table.sum() - diagonal.sum()) / pairs) if least > 0 else 0.0


def _join_depths(parts: Tensor) -> Tensor:
    """Add up, over both halves of the depth and all planes, what is of a quarter: (4, h, w)."""
    return parts.view(2, 4, *parts.shape[1:]).sum((0, 2))
