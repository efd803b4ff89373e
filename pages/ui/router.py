"""One door to every page, also for a link that is opened cold.

Streamlit serves ``pages/*.py`` by itself until ``st.navigation`` has run once, without passing
through ``dashboard.py``: a cold link would show a page without its menu. So every page's first
statement is :func:`require`, which sends such a visit through the router.
"""

import streamlit as st

_FLAG = "_routed"


def run() -> None:
    """Draw the menu and the page that the address names."""
    st.set_page_config(page_title="CAM", page_icon=":material/visibility:", layout="wide")
    page = st.navigation(
        [
            # The default page answers at "/" and nowhere else, and every page should have a link
            # of its own: so "/" leads on to the first one, with what the address says.
            st.Page(_first_page, title="Home", url_path="home", default=True, visibility="hidden"),
            st.Page("pages/explore.py", title="Explore", icon=":material/search:"),
        ]
    )
    st.session_state[_FLAG] = True
    page.run()


def require() -> None:
    """Let a page go on only if the router called it; otherwise call the router in its place."""
    if st.session_state.pop(_FLAG, False):
        return
    run()
    st.stop()


def _first_page() -> None:
    st.switch_page("pages/explore.py", query_params=st.query_params.to_dict())
