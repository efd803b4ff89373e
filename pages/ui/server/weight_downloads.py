"""Download published weights in the background where they are missing."""

import cam
from cam._formatting import size
from cam._models.download import DownloadProgress, Published
from cam._models.hub.repository import Repository
from cam._models.load import published
from cam.pages.ui.server import hub_models, jobs, served
from cam.pages.ui.server.resources import share
from cam.pages.ui.state.choices import ModelChoice


@share()
def get_download_jobs() -> jobs.Jobs:
    """Return jobs apart: a download waits for the network and not for the cores."""
    return jobs.Jobs(workers=2, capacity=8)


def find_missing(choice: ModelChoice) -> Published | Repository | None:
    """Find where weights come from that must be downloaded first; None where nothing must.

    Raises:
        ModelError: No such model, or the operator does not allow it, or nobody published weights
            for it.
    """
    if served.has_model(choice.name):
        return None
    hub_models.require_allowed(choice.name)
    source = published(choice.name) if choice.weights.published else None
    return None if source is None or source.here else source


def ensure_weights(choice: ModelChoice) -> bool:
    """Return whether a model can be loaded at once; else draw its download, with Cancel.

    Raises:
        ModelError: The weights cannot be had.
    """
    source = find_missing(choice)
    if source is None:
        return True
    key, what = ("weights", choice.name), f"Downloading the weights of {choice.name}"
    done = jobs.wait_for(key, what, lambda tell: fetch(source, tell), get_download_jobs())
    if done:
        # They may be taken away from the disk: then the next who asks downloads them again.
        get_download_jobs().forget(key)
    return bool(done)


def fetch(source: Published | Repository, tell: jobs.Tell) -> bool:
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
