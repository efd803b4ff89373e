"""Remember how layers lie on the picture."""

import logging
from dataclasses import dataclass, field
from math import prod
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from cam._engine.layer_choice.grids import Grid, find_patch_grids, is_grid
from cam._engine.layer_choice.probe import count_pictures, probe_layers
from cam._engine.layer_choice.structure import only_convolves
from cam._engine.token_layout import Layout, count_prefix_tokens, find_layout
from cam.errors import ModelError

LOG = logging.getLogger("cam.models")
# Sizes of pictures for which a network's layouts are kept.
_MOST_SIZES = 8


@dataclass
class LayerMemory:
    """What is known of a network's layers.

    Attributes:
        names: Its modules when this was learned: another network is learned anew.
        convolutional: Whether it only convolves, so that (B, C, h, w) are maps.
        before: Tokens before the grid, where the network says so.
        side_paths: Whether it has tokens that are none of the picture's: words, queries.
        default: The default layers, once they were chosen.
        is_pyramid: Whether those are the levels of a detector's pyramid.
        layouts: (H, W) or (D, H, W) → layer → how it lies on such a picture, as the probe showed.
        patch_grids: Shape of a picture → grids of the patches that it is cut into.
    """

    names: frozenset[str]
    convolutional: bool
    before: int | None
    side_paths: bool
    default: tuple[str, ...] | None = None
    is_pyramid: bool = False
    layouts: dict[tuple[int, ...], dict[str, Layout]] = field(default_factory=dict)
    patch_grids: dict[tuple[int, ...], set[Grid]] = field(default_factory=dict)


_memories: WeakKeyDictionary[nn.Module, LayerMemory] = WeakKeyDictionary()


def recall(module: nn.Module, check: bool = True) -> LayerMemory:
    """Return what is known of a network; nothing yet where its modules have changed.

    Args:
        module: The network.
        check: Whether they may have changed since the last call.
    """
    memory = _memories.get(module)
    if memory is not None and not check:
        return memory
    names = frozenset(name for name, _ in module.named_modules())
    if memory is None or memory.names != names:
        memory = LayerMemory(
            names, only_convolves(module), count_prefix_tokens(module), _has_side_paths(module)
        )
        _memories[module] = memory
    return memory


def find_certain_layout(module: nn.Module, output: Tensor, picture: Tensor) -> Layout | None:
    """Return a layout that the structure proves; None where only a probe can show it.

    Proven are the maps of a network that only convolves, and tokens on the very grid of the
    patches that the network cuts the picture into, where it says how many others stand in front.

    Args:
        module: The network.
        output: Of one of its layers.
        picture: (B, C, H, W) that it was given.
    """
    memory = recall(module, check=False)
    if output.ndim == picture.ndim and memory.convolutional:
        layout = find_layout(output, picture)
        return layout if layout and prod(layout.grid) > 1 else None
    if picture.ndim == 5:
        # How many tubelets lie along each axis, their number alone does not tell.
        return None
    if output.ndim != 3 or memory.before is None or memory.side_paths:
        return None
    layout = find_layout(output, picture, memory.before)
    shape = tuple(picture.shape[1:])
    if shape not in memory.patch_grids:
        memory.patch_grids = {shape: find_patch_grids(module, picture)}
    if layout is None or layout.grid not in memory.patch_grids[shape]:
        return None
    is_complete = layout.after == 0 and layout.before in (0, memory.before)
    return layout if is_complete and is_grid(layout.grid, picture) else None


def is_doubtful(module: nn.Module, shape: tuple[int, ...], picture: Tensor) -> bool:
    """Test whether an output that no structure proves may still be a map of the picture."""
    if len(shape) == 3:
        return min(shape[1:]) > 1
    return len(shape) == picture.ndim and not recall(module, check=False).convolutional


def _has_side_paths(module: nn.Module) -> bool:
    """Test whether a network has tokens that are none of the picture's: words, queries."""
    return any(
        isinstance(child, nn.Embedding | nn.TransformerDecoder | nn.Transformer)
        or any(word in type(child).__name__.lower() for word in ("cross", "decoder", "text"))
        for child in module.modules()
    )


def probed_layouts(module: nn.Module, picture: Tensor) -> dict[str, Layout]:
    """Return the layers that lie on a picture of this size, by a probe the first time.

    Args:
        module: The network.
        picture: (B, C, H, W) or (B, C, D, H, W).

    Returns:
        Dotted name → layout, in the order in which the layers finish. Empty where the network does
        not run on as many pictures.
    """
    memory = recall(module)
    size = tuple(picture.shape[2:])
    if size not in memory.layouts:
        while len(memory.layouts) >= _MOST_SIZES:
            memory.layouts.pop(next(iter(memory.layouts)))
        name = type(module).__name__
        try:
            memory.layouts[size] = probe_layers(module, picture[:1])
        except ModelError as error:
            LOG.info("the layers of %s could not be probed: %s", name, error)
            memory.layouts[size] = {}
        else:
            LOG.info(
                "probed which layers of %s lie on an image of %s: one further forward pass "
                "of %d images, once for this size",
                name,
                " × ".join(map(str, size)),
                count_pictures(picture),
            )
    return memory.layouts[size]
