"""Open pages of the dashboard in process, and read what they show."""

import time
from collections.abc import Iterable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.support.checkout import DASHBOARD


def open_page(name: str | None = None, **query: str | list[str]) -> AppTest:
    """Open a page at an address; None: what opens without one."""
    app = AppTest.from_file(DASHBOARD, default_timeout=120)
    if name is not None:
        app.switch_page(f"pages/{name}.py")
    for key, value in query.items():
        app.query_params[key] = value
    return check(app.run())


def check(app: AppTest) -> AppTest:
    """Return a page that raised nothing."""
    assert not app.exception, app.exception
    return app


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


def read_html(app: AppTest) -> str:
    """Read what the page draws as HTML."""
    return "\n".join(element.proto.body for element in app.get("html"))


def read_words(app: AppTest) -> str:
    """Read the page's words."""
    return "\n".join(list_values(app.markdown))
