"""Open pages of the dashboard in process, and read what they show."""

import json
import time
from collections.abc import Iterable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.support.checkout import DASHBOARD

# The first page imports everything, which takes minutes where ten others compute.
SECONDS = 600


def open_page(name: str | None = None, **query: str | list[str]) -> AppTest:
    """Open a page at an address; None: what opens without one."""
    app = AppTest.from_file(DASHBOARD, default_timeout=SECONDS)
    if name is not None:
        app.switch_page(f"pages/{name}.py")
    for key, value in query.items():
        app.query_params[key] = value
    return check(app.run())


def check(app: AppTest) -> AppTest:
    """Return a page that raised nothing."""
    assert not app.exception, app.exception
    return app


def read_address(app: AppTest) -> dict[str, list[str]]:
    """Read the address that a page wrote: name → values."""
    return {
        name: [values] if isinstance(values, str) else list(values)
        for name, values in app.query_params.items()
    }


def finish(app: AppTest) -> AppTest:
    """Run a page until its work in the background is done; a test does not poll as browsers do.

    Each run draws the page anew, and takes the time from what it waits for: hence the pause.
    """
    for _ in range(400):
        if not any("cancel-" in str(button.key) for button in check(app).button):
            return app
        time.sleep(0.5)
        app.run()
    raise AssertionError("the work does not end")


def find(widgets: Iterable[Any], label: str) -> Any:
    """Find the one widget with a label."""
    [widget] = [widget for widget in widgets if widget.label == label]
    return widget


def list_labels(widgets: Iterable[Any]) -> list[str]:
    """List the labels of widgets."""
    return [widget.label for widget in widgets]


def list_values(elements: Iterable[Any]) -> list[Any]:
    """List the values of elements, such as the sentences of ``app.error``."""
    return [element.value for element in elements]


def read_headings(app: AppTest) -> list[str]:
    """List the lines that begin in bold."""
    return [line for line in list_values(app.markdown) if line.startswith("**")]


def read_viewers(app: AppTest) -> list[dict[str, Any]]:
    """Read what the page's viewers were sent, as ``cam._output.viewer.payload.pack`` makes it."""
    viewers = [element.proto for element in app.get("bidi_component")]
    return [
        json.loads(viewer.json) for viewer in viewers if viewer.component_name == "cam.image_viewer"
    ]


def read_maps(app: AppTest) -> list[str]:
    """List the maps in the page's viewers, by the text that says what each explains."""
    return [heatmap["alt"] for viewer in read_viewers(app) for heatmap in viewer["maps"]]


def read_html(app: AppTest) -> str:
    """Read what the page draws as HTML."""
    return "\n".join(element.proto.body for element in app.get("html"))


def read_words(app: AppTest) -> str:
    """Read the page's words."""
    return "\n".join(list_values(app.markdown))
