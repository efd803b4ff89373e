"""Pack a run's images and their maps for the viewer."""

import base64
import json
from collections.abc import Sequence
from typing import Any

from cam._methods.base.method_registry import methods
from cam._output.viewer.payload import ViewerMap, ViewerOptions, pack
from cam._runs.results.run_images import RunImage
from cam._runs.results.titles import title_method


def pack_image(
    image: RunImage,
    keys: Sequence[str],
    options: ViewerOptions | None = None,
    group: str = "page",
) -> dict[str, Any]:
    """Pack what a run kept of an image; its picture stays the JPEG that it is.

    Args:
        image: With a picture.
        keys: Of the methods, in the order in which their maps stand; those without a map are left
            out.
        options: How the viewer opens.
        group: Viewers of one group share zoom, pointer and looks.
    """
    if image.jpeg is None or image.picture is None:
        raise ValueError("the run kept no image of this image")
    facts = image.facts
    label = str(facts["label"])
    predicted = str(facts["predicted_label"])
    captions = [f"Explained for {label}" + (f", predicted {predicted}" * (predicted != label))]
    return pack(
        image.picture,
        [view_map(image, key) for key in keys if key in image.heatmaps],
        label,
        options,
        str(facts["id"]),
        group,
        "Model input",
        captions,
        f"data:image/jpeg;base64,{base64.b64encode(image.jpeg).decode()}",
    )


def view_map(image: RunImage, key: str) -> ViewerMap:
    """Take a kept map for the viewer, at the size that was kept."""
    info = methods().get(key.partition("(")[0])
    values = image.heatmaps[key]
    return ViewerMap(
        key,
        title_method(key),
        values.clip(min=0),
        values if key in image.signed else None,
        kind="evidence" if info is None else info.kind,
        percentile=100.0 if info is None else info.percentile,
    )


class ImageViews:
    """The images of a page that its viewer opens, each once, while there is room.

    Attributes:
        payloads: Of :func:`pack_image`, in the order in which they were added.
        full: Whether an image had no room.
    """

    def __init__(self, keys: Sequence[str], most_bytes: int) -> None:
        self.payloads: list[dict[str, Any]] = []
        self.full = False
        self._keys = keys
        self._rest = most_bytes
        self._numbers: dict[int, int] = {}

    def add(self, image: RunImage) -> int | None:
        """Return an image's number among the payloads; None where it has no picture or no room."""
        item = int(image.facts["item"])
        if item in self._numbers or image.picture is None or not image.heatmaps:
            return self._numbers.get(item)
        payload = pack_image(image, self._keys, group="report")
        # Colours are on the page once, whatever the number of images.
        size = len(json.dumps({**payload, "colormaps": None}))
        if size > self._rest:
            self.full = True
            return None
        self._rest -= size
        self._numbers[item] = len(self.payloads)
        self.payloads.append(payload)
        return self._numbers[item]
