"""Route every visit through one menu, also a link opened cold.

Streamlit serves ``pages/*.py`` without a menu until ``st.navigation`` has run once, not passing
through ``dashboard.py``: a cold link would show a page without its menu. So every page's first
statement is :func:`require`, which sends such a visit through the router.
"""

import runpy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

_FLAG = "_routed"
PAGES = Path(__file__).parents[2]
# Streamlit writes chosen options and main buttons in white on the theme's colour. No colour is dark
# enough under white and light enough on a dark page, so the ink changes.
_DARK_INK = (
    "<style>[data-tag] *, [data-testid=stBaseButton-primary]:enabled * {color: #0E1117}</style>"
)


def run() -> None:
    """Draw the menu and the page that the address names."""
    # Streamlit's default page answers at "/" and nowhere else, and a link that names the first
    # page should work too. So it is there twice, and the menu shows the one that is being visited.
    named = urlsplit(st.context.url or "").path.strip("/") == "explore"
    explore: dict[str, Any] = {"title": "Explore", "icon": ":material/search:"}
    first, second = explore | {"visibility": "visible"}, explore | {"visibility": "hidden"}
    first, second = (second, first) if named else (first, second)
    pages = [
        st.Page(_draw_first_page, url_path="home", default=True, **first),
        st.Page(PAGES / "explore.py", **second),
        st.Page(PAGES / "anatomy.py", title="Anatomy", icon=":material/biotech:"),
        st.Page(PAGES / "compare.py", title="Compare", icon=":material/compare:"),
        st.Page(PAGES / "datasets.py", title="Datasets", icon=":material/leaderboard:"),
        st.Page(PAGES / "performance.py", title="Performance", icon=":material/speed:"),
    ]
    page = st.navigation(pages)
    # Each tab of a browser says which page it shows.
    st.set_page_config(f"{page.title} · CAM", ":material/visibility:", layout="wide")
    st.html(PAGES / "ui" / "charts" / "charts.css")
    if st.context.theme.type == "dark":
        st.html(_DARK_INK)
    st.session_state[_FLAG] = True
    page.run()


def require() -> None:
    """Let a page go on only if the router called it; otherwise call the router instead."""
    if st.session_state.pop(_FLAG, False):
        return
    run()
    st.stop()


def _draw_first_page() -> None:
    # Not st.switch_page: a second run would cost a visitor a quarter of a second.
    runpy.run_path(str(PAGES / "explore.py"))
