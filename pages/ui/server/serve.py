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
# Of work in the background to end with the server: less than what service managers wait.
ENDING_SECONDS = 8


def main() -> None:
    """Serve the script that the command line names, with Streamlit's options."""
    keep_memory()
    fill_shelves(os.environ.get("CAM_PROJECT"))
    threading.Thread(target=_answer_at_once, daemon=True).start()
    warming = threading.Thread(target=warm_up, name=NAME, daemon=True)
    warming.start()
    try:
        cli.main(args=["run", *sys.argv[1:]], prog_name="streamlit")
    except SystemExit as ended:
        _end(warming, ended.code if isinstance(ended.code, int) else bool(ended.code))
        raise


def _end(warming: threading.Thread, status: int) -> None:
    """End the work in the background, as the server stops.

    A thread that computes while the interpreter goes away aborts the process, which then looks
    like a crash. What a run has stored stays, and it can be resumed.
    """
    from cam.pages.ui.server.jobs import stop_everything

    ended = stop_everything(ENDING_SECONDS)
    warming.join(ENDING_SECONDS)
    if not ended or warming.is_alive():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


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
