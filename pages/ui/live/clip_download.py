"""Write an explained clip as a file, on request."""

from collections.abc import Hashable

import cam
from cam._clip import clip
from cam._media.video import Clip
from cam.pages.ui.live.frames import COLORMAP, Explainer
from cam.pages.ui.performance.measurement_job import measure
from cam.pages.ui.server import jobs
from cam.pages.ui.widgets.controls import offer_file
from cam.pages.ui.widgets.links import choose, choose_share

TITLES = {"MP4": "MP4", "WEBP": "WebP", "GIF": "GIF"}
ALPHA = 0.85
# Share of the work that is done when the frames are explained.
EXPLAINED = 0.8


def offer_clip(key: Hashable, film: Clip, explainer: Explainer) -> None:
    """Choose a format, and prepare the file of it when the button is pressed.

    Args:
        key: Everything that determines the explained clip.
        film: The clip.
        explainer: What explains it.
    """
    kind = choose("Format", TITLES, "clip_format", "format", segments=True)
    about = "Of each map the part that the one before it has; 0 leaves each frame as it is."
    smoothing = choose_share("Smoothing over time", 0.0, 0.9, 0.0, 0.1, "smoothing", help=about)

    def work(tell: jobs.Tell) -> tuple[bytes, str]:
        explained = clip.explain_clip(
            explainer.model, film, explainer.method, explainer.target, explainer.layer,
            smoothing=smoothing, colormap=COLORMAP, alpha=ALPHA, fade=True,
            report=lambda share, note: tell(EXPLAINED * share, note),
        )  # fmt: skip
        if not tell(EXPLAINED, f"writing {TITLES[kind]}"):
            raise cam.Cancelled("the file was cancelled")
        title = cam.methods()[explainer.method].title
        return explained.encoded(kind), f"{title}, {len(film.frames)} frames."

    def draw(content: bytes) -> None:
        ending = kind.lower()
        media = f"{'video' if kind == 'MP4' else 'image'}/{ending}"
        offer_file(f"Download {TITLES[kind]}", content, f"explained.{ending}", media)

    measure(("clip", key, kind, smoothing), "Explaining the clip", work, draw, "Prepare the file")
