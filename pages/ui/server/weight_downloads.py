"""Download published weights in the background where they are missing."""

import streamlit as st

import cam
from cam._formatting import size
from cam._models.download import DownloadProgress, Published
from cam._models.load import published
from cam.pages.ui.server import jobs
from cam.pages.ui.server.resources import Weights


@st.cache_resource(show_spinner=False)
def downloading() -> jobs.Jobs:
    """Of their own: a download waits for the network and not for the cores."""
    return jobs.Jobs(workers=2, kept=8)


def missing(name: str, trained: Weights) -> Published | None:
    """Where weights come from that must be downloaded first; None where nothing must.

    Raises:
        ModelError: No such model, or nobody published weights for it.
    """
    source = published(name) if trained is True else None
    return None if source is None or source.here else source


def ready(name: str, trained: Weights) -> bool:
    """Whether a model can be loaded at once; else its download stands here, with Cancel.

    Raises:
        ModelError: The weights cannot be had.
    """
    source = missing(name, trained)
    if source is None:
        return True
    key = ("weights", name)
    done = jobs.result(
        key, f"Downloading the weights of {name}", lambda tell: fetch(source, tell), downloading()
    )
    if done:
        # They may be taken away from the disk: then the next who asks downloads them again.
        downloading().forget(key)
    return bool(done)


def fetch(source: Published, tell: jobs.Tell) -> bool:
    """Download weights, in a thread.

    Raises:
        Cancelled: Nobody wants them any more.
        ModelError: They cannot be had.
    """

    def report(progress: DownloadProgress) -> bool:
        if progress.total is None:
            return tell(0, f"{size(progress.done)} so far")
        share = progress.done / max(progress.total, 1)
        return tell(share, f"{size(progress.done)} of {size(progress.total)}")

    if not tell(0, "asking the server"):
        raise cam.Cancelled("nobody waits for the weights any more")
    source.fetch(report)
    return True
