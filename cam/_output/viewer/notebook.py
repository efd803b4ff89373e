"""Show attributions in a notebook, in a frame without a network."""

import json
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from cam._output.viewer.payload import ViewerMap, pack, view_attribution
from cam._output.viewer.standalone import write_page
from cam.types import Attribution

MOST_IMAGES = 8
# Of a cell's data: notebooks are files that people send. One image is shown in any case.
MOST_BYTES = 2_000_000
_SCRIPT = Path(__file__).with_name("browser") / "notebook.js"


class ViewedResult(Protocol):
    """What a notebook needs of a result beside its maps."""

    @property
    def batch(self) -> Tensor:
        """(B, C, H, W), what the model got."""

    def draw_image(self, index: int) -> tuple[Image.Image, str]:
        """Draw what the model saw, and say what a reader should know of it."""

    def name_target(self, attribution: Attribution, index: int) -> str:
        """Name what is explained of an image."""


def write_frame(view: ViewedResult, attributions: Mapping[str, Attribution]) -> str:
    """Write HTML that shows several methods' maps of a batch."""
    count, size = len(view.batch), 0
    payloads: list[dict[str, Any]] = []
    for index in range(min(count, MOST_IMAGES)):
        payload = pack_result(view, attributions, index)
        size += len(json.dumps(payload))
        if payloads and size > MOST_BYTES:
            break
        payloads.append(payload)
    notes = []
    if len(payloads) < count:
        notes.append(
            f"The first {len(payloads)} of {count:,} images; explain batch[i : i + 1] to look "
            "into another."
        )
    script = _SCRIPT.read_text(encoding="utf-8")
    page = write_page(payloads, "Attributions", notes, heading=False, script=script)
    style = "width:100%;height:640px;border:0;display:block"
    return f'<iframe title="Attributions" style="{style}" srcdoc="{escape(page)}"></iframe>'


def pack_result(
    view: ViewedResult, attributions: Mapping[str, Attribution], index: int
) -> dict[str, Any]:
    """Pack one image with several methods' maps for the viewer."""
    first = next(iter(attributions.values()))
    label = view.name_target(first, index)
    image, caption = view.draw_image(index)
    captions = [f"Score of {label}: {float(first.scores[index]):.3f}"]
    return pack(
        image,
        [_view(name, attribution, index) for name, attribution in attributions.items()],
        label,
        stem=f"image-{index}",
        group="notebook",
        title=f"Image {index}" if len(view.batch) > 1 else "Image",
        captions=[*captions, caption] if caption else captions,
    )


def _view(name: str, attribution: Attribution, index: int) -> ViewerMap:
    """Take a map for the viewer under its name in the result, which holds its parameters."""
    notes = tuple(
        f"{note[0].upper()}{note[1:]}." for at, note in attribution.notes() if at == index
    )
    viewed = view_attribution(attribution, index, notes)
    parameters = name.removeprefix(attribution.method)
    return replace(viewed, name=name, title=f"{viewed.title} {parameters}".strip())
