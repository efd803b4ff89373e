"""Start a run on a dashboard, as its form does."""

import time

from benchmarks.visitors.session import Session, VisitError

METRICS = "run_metrics=deletion&run_metrics=insertion&run_metrics=road"
RUN = f"start=true&size=64&run_methods=gradcam&run_methods=integrated_gradients&{METRICS}"
SETTLING_SECONDS = 60


def start_run(address: str) -> None:
    """Start a run over the photo grid.

    Raises:
        VisitError: It does not start.
    """
    end = time.monotonic() + SETTLING_SECONDS
    with Session(address, "datasets") as session:
        session.visit(RUN)
        while time.monotonic() < end:
            # The button waits until the methods were tried on the model.
            session.click("go", lambda state: setattr(state, "trigger_value", True))
            if "start=" not in session.query:
                return
            time.sleep(1)
    raise VisitError("the run does not start")
