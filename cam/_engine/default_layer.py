"""Choose the default layer, which is shown to lie on the picture.

A plain convolutional classifier is read from its structure, without a pass. Any other network is
watched while it runs on one picture, forwards and backwards; where the shape of a layer's output
leaves doubt, a probe of five pictures shows whether it lies on the picture.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from cam._engine.layer_choice.grids import is_grid
from cam._engine.layer_choice.layer_memory import (
    find_certain_layout,
    is_doubtful,
    probed_layouts,
    recall,
)
from cam._engine.layer_choice.pyramid import find_levels
from cam._engine.layer_choice.structure import find_by_structure
from cam._engine.layer_choice.survey import Survey, is_bypassed, survey_layers
from cam._engine.token_layout import Layout, name_maps
from cam.errors import LayerError, ModelError

LOG = logging.getLogger("cam.models")

# Inside these the tokens are taken apart: heads, queries, hidden features.
_INSIDE = re.compile(r"(^|\.)(\w*attn\w*|\w*attention\w*|mlp\w*|\w*ffn\w*|token_mixer)\.")
_TAKES_APART = re.compile(r"(Attention|AttentionSubsample|Attn|MLP|Mlp|FFN|FeedForward)$")
# Where networks with an output for each place keep their features.
_ENCODER = re.compile(r"(^|\.)(\w*(backbone|encoder|bottleneck)\w*|body|bridge|trunk)\.")
_DECODER = re.compile(r"decoder|head|(?<!bottle)neck|fpn|aux|classifier", re.IGNORECASE)
# The coarsest maps that are one for the whole network; what is coarser are levels beside it.
_LARGEST_STRIDE = 36
_CANDIDATES = 3


def find_default_layers(module: nn.Module, picture: Callable[[], Tensor]) -> tuple[str, ...]:
    """Return the last layer that lies on the picture and that the scores are made of.

    For a classifier that is what it pools; for a detector with a pyramid the levels that its head
    reads; for any other network that answers for each pixel, box or query, the end of its encoder,
    which all of its answers read.

    Args:
        module: The network.
        picture: Returns (1, C, H, W), or (1, C, D, H, W), on its device, of the size that will be
            explained; called only where the network has to be watched, and what it shows does not
            matter.

    Raises:
        LayerError: No layer is shown to lie on the picture; the message has three candidates.
        ModelError: The network fails on the picture.
    """
    memory = recall(module)
    if memory.default is None:
        structural = find_by_structure(module)
        memory.default = (structural,) if structural else _find_by_watching(module, picture())
        memory.is_pyramid = len(memory.default) > 1
    return memory.default


def choose_fusion(module: nn.Module, names: Sequence[str]) -> str:
    """Return how the maps of layers are fused where a call does not say.

    Args:
        module: The network.
        names: Dotted names of the layers.

    Returns:
        "max" for the levels of a detector's pyramid, each of which has objects of its size, and
        "mean" for others.
    """
    memory = recall(module)
    return "max" if memory.is_pyramid and tuple(names) == memory.default else "mean"


def suggest_layers(module: nn.Module, picture: Tensor) -> str:
    """Name up to three layers that lie on a picture, as a clause of an error.

    Args:
        module: The network; it is watched, and probed, where that was not done before.
        picture: (B, C, H, W).
    """
    try:
        # Inside of attention, only where there is nothing else.
        layouts = _lay_out(module, survey_layers(module, picture[:1])) or probed_layouts(
            module, picture
        )
    except ModelError:
        layouts = {}
    names = list(layouts)
    # The last of each resolution first: layers that differ.
    by_grid = {layouts[name].grid: name for name in names}
    candidates = sorted(by_grid.values(), key=names.index)[-_CANDIDATES:]
    candidates += [name for name in names[::-1] if name not in candidates][
        : _CANDIDATES - len(candidates)
    ]
    if not candidates:
        return (
            "no layer with maps of the image is known; use 'saliency', or name a layer whose "
            f"output is {name_maps(picture)} or (B, tokens, C)"
        )
    listed = ", ".join(repr(name) for name in sorted(candidates, key=names.index))
    return f"layers that lie on the image are {listed}"


def _find_by_watching(module: nn.Module, picture: Tensor) -> tuple[str, ...]:
    """Return the default layer of a network that has to run for it, or a detector's levels."""
    survey = survey_layers(module, picture)
    if survey.has_places and picture.ndim == 4 and (levels := find_levels(module, picture)):
        return levels
    for scores in survey.scores():
        gradients = [survey.gradients(score) for score in scores]
        name = None if survey.has_places else _choose_certain(module, survey, gradients)
        choose = _choose_encoder if survey.has_places else _choose_last
        if name := name or choose(module, survey, _lay_out(module, survey), gradients):
            LOG.info(
                "watched %s on one image, once: a forward and %d backward passes; it is "
                "explained at %r",
                type(module).__name__,
                len(scores),
                name,
            )
            return (name,)
    raise LayerError(
        f"{type(module).__name__} has no layer with maps of the image that its score depends on; "
        f"{suggest_layers(module, picture)}"
    )


def _choose_certain(
    module: nn.Module, survey: Survey, gradients: list[dict[str, Tensor]]
) -> str | None:
    """Return a classifier's last layer, where neither it nor what follows needs a probe."""
    certain = _certain_layouts(module, survey)
    name = _choose_last(module, survey, certain, gradients)
    names = [name for name in survey.outputs if not _is_inside(module, name)]
    behind = names[names.index(name) + 1 :] if name else []
    axes = (3, survey.picture.ndim)
    doubtful = [key for key in behind if key not in certain and survey.outputs[key].ndim in axes]
    return None if doubtful else name


def _certain_layouts(module: nn.Module, survey: Survey) -> dict[str, Layout]:
    """Return the layouts that need no probe, in the order in which the layers finish."""
    layouts = {}
    for name, output in survey.outputs.items():
        layout = find_certain_layout(module, output, survey.picture)
        if layout and is_grid(layout.grid, survey.picture) and not _is_inside(module, name):
            layouts[name] = layout
    return layouts


def _lay_out(module: nn.Module, survey: Survey) -> dict[str, Layout]:
    """Return how layers lie on the picture, in the order in which they finish."""
    certain = _certain_layouts(module, survey)
    if not any(
        is_doubtful(module, tuple(output.shape), survey.picture)
        for name, output in survey.outputs.items()
        if name not in certain
    ):
        return certain
    layouts = probed_layouts(module, survey.picture) | certain
    return {
        name: layouts[name]
        for name in survey.outputs
        if name in layouts and not _is_inside(module, name)
    }


def _choose_last(
    _module: nn.Module,
    survey: Survey,
    layouts: dict[str, Layout],
    gradients: list[dict[str, Tensor]],
) -> str | None:
    """Return the last layer of a classifier that matters at most positions.

    After the last attention only the class token may go on: the patches' tokens are there, but
    the score does not depend on them. Maps of the classes themselves are taken only where there
    are no others.
    """
    classes = None
    for name in reversed(layouts):
        if any(name not in slopes for slopes in gradients):
            continue
        reached = [layouts[name].maps(slopes[name]).ne(0).any(1) for slopes in gradients]
        if min(float(each.float().mean()) for each in reached) <= 0.5:
            continue
        if not survey.shows_classes(name, layouts[name]):
            return name
        classes = classes or name
    return classes


def _choose_encoder(
    module: nn.Module,
    survey: Survey,
    layouts: dict[str, Layout],
    gradients: list[dict[str, Tensor]],
) -> str | None:
    """Return the end of the encoder, which the answers for all places read."""
    names = [
        name
        for name in layouts
        # Of the places, and not of other tokens: what is detected may be read from those alone.
        if all(
            name in slopes and bool(layouts[name].maps(slopes[name]).any()) for slopes in gradients
        )
        and not survey.shows_classes(name, layouts[name])
    ]
    fine_enough = [
        name
        for name in names
        if survey.picture.shape[-2] <= _LARGEST_STRIDE * layouts[name].grid[-2]
    ]
    names = [name for name in fine_enough or names if not _DECODER.search(name)]
    # Where nothing is called an encoder, the coarsest maps are its end, as in a U-Net.
    names = [name for name in names if _ENCODER.search(f"{name}.")] or names
    if not names:
        return None
    coarsest = min(_cells(layouts[name]) for name in names)
    for name in [name for name in names if _cells(layouts[name]) == coarsest][::-1]:
        slopes = [by_layer[name] for by_layer in gradients]
        if not _reads_in_place(survey, layouts[name], slopes) or is_bypassed(module, survey, name):
            return name
    return None


def _is_inside(module: nn.Module, name: str) -> bool:
    """Test whether a layer lies inside of a block that takes tokens apart."""
    if _INSIDE.search(name):
        return True
    parts = name.split(".")
    outer = (".".join(parts[:depth]) for depth in range(1, len(parts)))
    return any(_TAKES_APART.search(type(module.get_submodule(key)).__name__) for key in outer)


def _cells(layout: Layout) -> int:
    return prod(layout.grid)


def _reads_in_place(survey: Survey, layout: Layout, slopes: Iterable[Tensor]) -> bool:
    """Test whether each pixel of an output reads only the cells above it, and their neighbours.

    Then what follows is the last step of the prediction, and the layer's map is the prediction.
    """
    size = survey.map_size
    if size is None or _cells(layout) <= 16:
        return False
    widen = functional.max_pool2d if len(size) == 2 else functional.max_pool3d
    for slope, (top, bottom, left, right) in zip(slopes, survey.parts, strict=False):
        mask = torch.zeros(1, 1, *size)
        mask[..., top:bottom, left:right] = 1
        under = functional.interpolate(mask, layout.grid, mode="area")[0, 0] > 0
        near = widen(under.float()[None], 3, 1, 1)[0] > 0
        if bool((layout.maps(slope)[0].ne(0).any(0).cpu() & ~near).any()):
            return False
    return True
