"""Serve the pages warm: ``python -m cam.pages.ui.server.serve dashboard.py``.

The same as ``streamlit run``, but the model is loaded and the first page's maps are made while the
server starts, and not while the first visitor waits.
"""

import logging
import os
import sys
import threading
import time

from streamlit.web import cli

from cam._performance.kept_memory import keep_memory
from cam._project import read_project
from cam.errors import InputError
from cam.pages.ui.server import served
from cam.pages.ui.server.nagle import disable_nagle

NAME = "cam-warm-up"
# Streamlit listens within a second or two, or it has ended with a message.
LISTENING_SECONDS = 60


def main() -> None:
    """Serve the script that the command line names, with Streamlit's options."""
    keep_memory()
    fill_shelves(os.environ.get("CAM_PROJECT"))
    threading.Thread(target=_answer_at_once, daemon=True).start()
    threading.Thread(target=warm_up, name=NAME, daemon=True).start()
    cli.main(args=["run", *sys.argv[1:]], prog_name="streamlit")


def fill_shelves(project: str | None) -> None:
    """Offer what the operator's project file names, if there is one."""
    if not project:
        return
    try:
        named = read_project(project)
    except InputError as error:
        sys.exit(f"Error: {error}")
    served.models.fill(named.models)
    served.data.fill(named.data)


def _answer_at_once() -> None:
    """Wait until the server listens, and let its answers go out at once."""
    end = time.monotonic() + LISTENING_SECONDS
    while not disable_nagle() and time.monotonic() < end:
        time.sleep(0.05)


def warm_up() -> None:
    """Compute what the first page shows to everybody."""
    # Streamlit warns of each call outside of a page, which is meant here.
    logger = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    logger.addFilter(lambda record: record.threadName != NAME)
    from cam._media.images import SAMPLES
    from cam._models.families.bundled import BUNDLED
    from cam.pages.ui.server import resources
    from cam.pages.ui.state.choices import Choices, MethodChoice, ModelChoice
    from cam.pages.ui.state.selection import DEFAULT_METHODS

    model, methods = ModelChoice(BUNDLED), tuple(MethodChoice(name) for name in DEFAULT_METHODS)
    # The first pass is slower than all that follow, and its time would stand on the first page.
    for sample in reversed(SAMPLES):
        picture = resources.open_sample(sample)
        top = int(resources.predict(model, picture).argmax())
        resources.explain(Choices(model, methods, None, None, None), top, picture)
        resources.crop(model, picture)
    resources.list_models()


if __name__ == "__main__":
    main()
