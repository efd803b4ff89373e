"""Show maps that grow in the viewer while jobs make them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import cam
from cam._output.viewer.payload import ViewerMap, renew_maps, view_attribution
from cam.pages.ui.server.jobs import POLL_SECONDS, Job, Tell
from cam.types import Attribution

# Making a map costs some milliseconds, and nobody sees more than the page asks for.
GROWTH_SECONDS = POLL_SECONDS


@dataclass(frozen=True, eq=False)
class Growth:
    """What a method has gathered so far, as a job tells it.

    Attributes:
        attribution: The map so far.
        note: How far it is, in words.
    """

    attribution: Attribution
    note: str


@dataclass(frozen=True, eq=False)
class GrowingMap:
    """A map that a job is making.

    Attributes:
        name: What the viewer calls it.
        title: What the visitor reads.
        method: Its method.
        job: Tells a :class:`Growth` from time to time, if the method's map grows.
        size: (H, W) of the map.
    """

    name: str
    title: str
    method: cam.MethodInfo
    job: Job
    size: tuple[int, int]

    def view(self, drawn: bool = True) -> ViewerMap:
        """Take the map so far for the viewer; without one the image alone is to be seen.

        Args:
            drawn: Whether the map so far is drawn, if there is one.
        """
        growth = self.job.partial
        if drawn and isinstance(growth, Growth):
            captions = (f"{growth.note} so far",)
            viewed = view_attribution(growth.attribution, 0, captions, self.title)
            return replace(viewed, name=self.name, growing=True)
        nothing = np.full(self.size, np.nan, np.float32)
        return ViewerMap(
            self.name,
            self.title,
            nothing,
            kind=self.method.kind,
            captions=("At work.",),
            growing=True,
        )


def add_growing(
    payload: dict[str, Any],
    order: Sequence[str],
    growing: Sequence[GrowingMap],
    drawn: bool = True,
) -> dict[str, Any]:
    """Add to a packed image with its finished maps those that grow.

    Args:
        payload: Of :func:`cam._output.viewer.payload.pack`.
        order: In which maps with these names stand.
        growing: Those that are not done.
        drawn: Whether their values so far are drawn.
    """
    # Where models are compared whose views have no common part, maps may be of another size.
    grid = tuple(reversed(payload["grid"]))
    growing = [each for each in growing if not payload["maps"] or each.size == grid]
    if not growing:
        return payload
    return renew_maps(payload, [each.view(drawn) for each in growing], order)


def report_growth(tell: Tell) -> Callable[[cam.Progress], bool]:
    """Make what a job reports while it explains: its progress, and at times its map so far."""
    latest = 0.0

    def report(progress: cam.Progress) -> bool:
        nonlocal latest
        share = progress.done / max(progress.total, 1)
        note = f"{progress.done:,} of {progress.total:,} images"
        growth = None
        if progress.partial is not None and time.monotonic() - latest >= GROWTH_SECONDS:
            growth = Growth(progress.partial(), note)
            latest = time.monotonic()
        return tell(share, note, growth)

    return report
