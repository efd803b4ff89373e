"""Pack an image and its maps for the viewer in the browser."""

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL.Image import Image

from cam import kernels
from cam._methods.base.method_registry import methods
from cam._output.explanation_files import data_uri
from cam._output.viewer.description import describe_map
from cam._output.viewer.marks import Marks, pack_marks
from cam.errors import InputError, require_known
from cam.kernels.blending.colormaps import colormap_table
from cam.polarity import DIVERGING, KINDS
from cam.types import Attribution

COLORMAPS = ("inferno", "viridis", "magma", "plasma", "cividis", "turbo", "jet", "gray")
"""Of maps without signs; those whose lightness rises steadily come first."""

SIGNS = ("auto", "both", "for", "against")
"""Which values are drawn; "auto": of both signs for contributions, else those for the target."""

_NAN = 65535
_ZERO = 32768


@dataclass(frozen=True)
class ViewerMap:
    """A map as the viewer draws it.

    Attributes:
        name: What the viewer calls it in answers and file names.
        title: What the visitor reads.
        heatmap: (H, W) float32 in [0, 1], as :func:`cam.overlay` takes it.
        signed: (H, W) float32 in [-1, 1], as :func:`cam.overlay` takes it with ``signed``; None
            where the map has no signs.
        unit: What a signed value of 1 stands for, in the units of the score.
        kind: One of :data:`cam.polarity.KINDS`.
        percentile: Where the colours end, as for :func:`cam.overlay`.
        captions: Lines under the map.
        growing: Whether it is not done; NaN where nothing is known yet.
    """

    name: str
    title: str
    heatmap: np.ndarray
    signed: np.ndarray | None = None
    unit: float = 1.0
    kind: str = "evidence"
    percentile: float = 100
    captions: tuple[str, ...] = ()
    growing: bool = False


@dataclass(frozen=True)
class ViewerOptions:
    """How the viewer opens; its visitor may change all of it.

    Attributes:
        alpha: Opacity, 0 to 1.
        fade: Whether the opacity follows the evidence; see :func:`cam.overlay`.
        threshold: Values below this fraction of where the colours end are hidden, 0 to 1.
        colormap: One of :data:`COLORMAPS`.
        signs: One of :data:`SIGNS`.
    """

    alpha: float = 0.85
    fade: bool = True
    threshold: float = 0.0
    colormap: str = COLORMAPS[0]
    signs: Literal["auto", "both", "for", "against"] = "auto"

    def __post_init__(self) -> None:
        """Refuse what the viewer could not draw."""
        for name, value in (("opacity", self.alpha), ("threshold", self.threshold)):
            if not 0 <= value <= 1:
                raise InputError(f"the {name} must lie between 0 and 1, but is {value}")
        require_known(self.colormap, COLORMAPS, "colour map")
        require_known(self.signs, SIGNS, "choice of signs")


def view_attribution(
    attribution: Attribution, index: int = 0, captions: Sequence[str] = (), title: str = ""
) -> ViewerMap:
    """Take one image's map for the viewer.

    Args:
        attribution: One method's answer for the batch.
        index: Which image of the batch.
        captions: Lines under the map.
        title: What the visitor reads; empty: the method's title.
    """
    info = methods()[attribution.method]
    raw = attribution.raw[index]
    both = attribution.kind == "contribution" or bool((raw < 0).any())
    signed, unit = None, 1.0
    if both:
        values = attribution.signed[index]
        strongest = torch.where(values.isnan(), 0, values.abs()).amax()
        unit = float(strongest)
        signed = (values / strongest.where(strongest != 0, 1)).float().cpu().numpy()
    return ViewerMap(
        attribution.method,
        title or info.title,
        attribution.heatmap[index].float().cpu().numpy(),
        signed,
        unit,
        attribution.kind,
        info.percentile,
        tuple(captions),
    )


def pack(
    crop: Image,
    maps: Sequence[ViewerMap],
    label: str,
    options: ViewerOptions | None = None,
    stem: str = "image",
    group: str = "page",
    title: str = "Image",
    captions: Sequence[str] = (),
    encoded: str | None = None,
    marks: Marks | None = None,
) -> dict[str, Any]:
    """Pack an image with its maps, ready for JSON.

    Args:
        crop: What the model saw, in any resolution; it is drawn, and saved, at its own size.
        maps: All of one size.
        label: What is explained, such as the class.
        options: How the viewer opens.
        stem: What names of files begin with.
        group: Viewers of one group on a page share zoom, pointer and looks.
        title: What the visitor reads under the image.
        captions: Lines under it, after its size.
        encoded: The crop as a ``data:`` address; None: it is encoded as PNG.
        marks: Boxes and segments that lie over the image.

    Raises:
        InputError: Maps that do not fit each other, or have no kind.
    """
    height, width = _read_size(maps) or (crop.height, crop.width)
    payload: dict[str, Any] = {
        "label": label,
        "title": title,
        "captions": list(captions),
        "stem": stem,
        "group": group,
        "crop": encoded or data_uri(crop.convert("RGB")),
        "size": [crop.width, crop.height],
        "grid": [width, height],
        "colormaps": {name: _pack_table(name) for name in (*COLORMAPS, DIVERGING)},
        "diverging": DIVERGING,
        "maps": [_pack_map(map_, label) for map_ in maps],
        "marks": None if marks is None else pack_marks(marks),
    }
    return {**payload, "options": asdict(options or ViewerOptions()), "digest": _digest(payload)}


def renew_maps(
    payload: dict[str, Any], maps: Sequence[ViewerMap], order: Sequence[str]
) -> dict[str, Any]:
    """Return a packed image with more maps; the image and its other maps are not packed again.

    Args:
        payload: Of :func:`pack`.
        maps: New ones, of the size of the others.
        order: In which maps with these names stand.

    Raises:
        InputError: As for :func:`pack`.
    """
    height, width = _read_size(maps) or payload["grid"][::-1]
    if payload["maps"] and [width, height] != payload["grid"]:
        raise InputError(
            f"the maps of an image are all of one size, {payload['grid']}, "
            f"but these are {[width, height]}"
        )
    packed = {map_["name"]: map_ for map_ in payload["maps"]}
    packed |= {map_.name: _pack_map(map_, payload["label"]) for map_ in maps}
    renewed = {
        **payload,
        "grid": [width, height],
        "maps": [packed[name] for name in order if name in packed],
    }
    # The image is part of the old digest.
    parts = {"before": payload["digest"], "maps": renewed["maps"]}
    return {**renewed, "digest": _digest(parts)}


def _read_size(maps: Sequence[ViewerMap]) -> tuple[int, ...] | None:
    """Return the one size of all maps, and check that their names differ."""
    sizes = {map_.heatmap.shape for map_ in maps}
    sizes |= {map_.signed.shape for map_ in maps if map_.signed is not None}
    if len(sizes) > 1 or any(len(size) != 2 or 0 in size for size in sizes):
        raise InputError(f"the maps of an image are all (H, W) of one size, but these are {sizes}")
    if len({map_.name for map_ in maps}) < len(maps):
        raise InputError("two maps have the same name, but each needs another")
    return next(iter(sizes), None)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _pack_map(map_: ViewerMap, label: str) -> dict[str, Any]:
    require_known(map_.kind, KINDS, "kind of map")
    return {
        "name": map_.name,
        "title": map_.title,
        "kind": map_.kind,
        "negative": map_.signed is not None and bool((map_.signed < 0).any()),
        "alt": f"{map_.title} heatmap for {label}",
        "description": _describe(map_),
        "growing": map_.growing,
        "captions": list(map_.captions),
        "heatmap": _pack_layer(map_.heatmap, map_.percentile, 1.0, False),
        "signed": None
        if map_.signed is None
        else _pack_layer(map_.signed, map_.percentile, map_.unit, True),
    }


def _describe(map_: ViewerMap) -> str:
    if map_.growing and bool(np.isnan(map_.heatmap).all()):
        return "No map yet."
    description = describe_map(map_.heatmap, map_.signed)
    return f"So far: {description}" if map_.growing else description


def _pack_layer(values: np.ndarray, percentile: float, unit: float, signed: bool) -> dict[str, Any]:
    """Pack values as codes of 16 bits that keep the library's colour of each.

    A colour is a range of 1/256 of [0, 1], or 1/128 with ``signed``. Each is split into a whole
    number of steps, so that a value and its code's middle have one colour.
    """
    values = np.asarray(values, dtype=np.float32)
    end = 1.0
    if percentile < 100:
        sizes = np.abs(values) if signed else values
        quantile = float(torch.from_numpy(sizes.copy()).nanquantile(percentile / 100))
        end = max(0.0 if math.isnan(quantile) else quantile, float(np.finfo(np.float32).tiny))
    scaled = (values / np.float32(end)).astype(np.float64)
    highest = float(np.nanmax(np.abs(scaled), initial=0))
    most = (_ZERO if signed else _NAN) - 2
    colours = 128 if signed else 256
    parts = max(1, math.floor(most / (colours * max(highest, 1))))
    codes = np.floor(np.nan_to_num(scaled) * (colours * parts)).clip(-most - 1, most)
    codes = np.where(np.isnan(scaled), _NAN, codes + (_ZERO if signed else 0)).astype(np.uint16)
    # Smooth maps shrink well as differences, high bytes apart from low ones.
    codes = np.diff(codes, axis=1, prepend=np.uint16(0))
    planes = codes.astype(">u2").tobytes()
    packed = zlib.compress(planes[::2] + planes[1::2], 6)
    return {
        "codes": base64.b64encode(packed).decode(),
        "zero": _ZERO if signed else 0,
        "steps": colours * parts,
        "most": most + (_ZERO if signed else 0),
        "end": end,
        "unit": unit,
    }


def _pack_table(name: str) -> str:
    require_known(name, kernels.COLORMAPS, "colour map")
    return base64.b64encode(colormap_table(name).numpy().tobytes()).decode()
