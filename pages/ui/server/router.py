"""Route every visit through one menu, also a link opened cold.

Streamlit serves ``pages/*.py`` without a menu until ``st.navigation`` has run once, not passing
through ``dashboard.py``: a cold link would show a page without its menu. So every page's first
statement is :func:`require`, which sends such a visit through the router.
"""

import runpy
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st

import cam
from cam.pages.ui.frame.frame import mount_frame
from cam.pages.ui.state import address
from cam.pages.ui.state.visitor import get_visitor

PAGES = Path(__file__).parents[2]
MARK, WORDMARK = (Path(__file__).with_name(name) for name in ("cam.svg", "cam-wordmark.svg"))
# Not as the icons of Streamlit's own menu: each browser would fetch them from another host.
ICONS = {
    "Explore": "search",
    "Anatomy": "biotech",
    "Compare": "compare",
    "Datasets": "leaderboard",
    "Performance": "speed",
}
# Streamlit writes chosen options and main buttons in white on the theme's colour. No colour is dark
# enough under white and light enough on a dark page, so the ink changes.
_DARK_INK = (
    "<style>[data-tag] *, [data-testid=stBaseButton-primary]:enabled * {color: #0E1117}</style>"
)


def run() -> None:
    """Draw the menu and the page that the address names."""
    cam.keep_memory()
    first = st.Page(_draw_first_page, title="Explore", url_path="home", default=True)
    # Streamlit's default page answers at "/" and nowhere else, and a link that names the first
    # page should work too: so it is there twice.
    named = st.Page(PAGES / "explore.py", title="Explore")
    others = [st.Page(PAGES / f"{title.lower()}.py", title=title) for title in list(ICONS)[1:]]
    page = st.navigation([first, named, *others], position="hidden")
    # Each tab of a browser says which page it shows.
    st.set_page_config(f"{page.title} · cam", MARK, layout="wide")
    st.html(PAGES / "ui" / "charts" / "charts.css")
    theme = st.context.theme.type or "light"
    if theme == "dark":
        st.html(_DARK_INK)
    st.logo(WORDMARK, icon_image=MARK, size="large")
    at_first = urlsplit(st.context.url or "").path.strip("/") != "explore"
    _draw_menu([first if at_first else named, *others])
    mount_frame(theme)
    get_visitor().routed = True
    page.run()


def _draw_menu(pages: list[st.Page]) -> None:
    """Draw the way to each page, which takes along what is chosen."""
    choices = address.read_selection().share()
    with st.container(horizontal=True, gap="small", key="menu"):
        for page, icon in zip(pages, ICONS.values(), strict=True):
            st.page_link(page, icon=f":material/{icon}:", query_params=choices)


def require() -> None:
    """Let a page go on only if the router called it; otherwise call the router instead."""
    visitor = get_visitor()
    if visitor.routed:
        visitor.routed = False
        return
    run()
    st.stop()


def _draw_first_page() -> None:
    # Not st.switch_page: a second run would cost a visitor a quarter of a second.
    runpy.run_path(str(PAGES / "explore.py"))
