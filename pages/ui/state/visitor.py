"""Keep what belongs to one visitor and cannot be in an address."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from cam.pages.ui.state.choices import Picture, Weights

_VISITOR = "_visitor"
IMAGES_KEPT = 4


@dataclass
class Visitor:
    """What one visitor gave or started, while the page is open.

    Attributes:
        images: Digest → an image that was uploaded or taken, and what is said of it.
        refused: Why the latest file is no image; empty where it is.
        weights: Weights that were uploaded.
        uploads: How many files came: each upload gets a new widget, which forgets the last file.
        cancelled: Keys of jobs that this visitor cancelled.
        measurements: Keys of measurements that this visitor started.
        estimated: The run whose costs were measured.
        runs: How many runs were started.
        started: The run that was just started.
        opened: Whether a run's results were just opened.
        routed: Whether the page was called by the router.
    """

    images: dict[str, tuple[Picture, str]] = field(default_factory=dict)
    refused: str = ""
    weights: Weights | None = None
    uploads: int = 0
    cancelled: set[Hashable] = field(default_factory=set)
    measurements: set[Hashable] = field(default_factory=set)
    estimated: str | None = None
    runs: int = 0
    started: str | None = None
    opened: bool = False
    routed: bool = False

    def keep_image(self, digest: str, picture: Picture, title: str) -> None:
        """Keep an image and what is said of it; of several, the latest."""
        self.images.pop(digest, None)
        self.images[digest] = (picture, title)
        for old in list(self.images)[:-IMAGES_KEPT]:
            del self.images[old]


def get_visitor() -> Visitor:
    """Return who is asking."""
    visitor: Visitor = st.session_state.setdefault(_VISITOR, Visitor())
    return visitor


def read_widget(key: str) -> Any:
    """Return what a widget holds that no address can: a file, or a text that is not sent yet."""
    return st.session_state.get(key)
