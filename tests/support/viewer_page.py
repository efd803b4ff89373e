"""A page with two viewers of known maps: `streamlit run tests/support/viewer_page.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import streamlit as st

from cam._output.viewer.payload import pack
from cam.pages.ui.widgets.image_viewer import show_viewer
from cam.pages.ui.widgets.viewer_options import read_options
from tests.support.viewer_maps import make_image, make_maps

st.set_page_config(layout="wide")
st.session_state["runs"] = st.session_state.get("runs", 0) + 1
st.markdown(f"Runs: {st.session_state['runs']}")
options = read_options()
maps = make_maps()[: 3 if st.toggle("Three maps") else 4]
payload = pack(make_image(), maps, "tabby", options)
region = show_viewer(payload, "first", on_region=lambda: None)
if region:
    st.markdown(f"Box: {region.box}, pixels: {int(region.mask.sum())}")
show_viewer(pack(make_image(), make_maps()[:1], "tabby", options), "second")
st.button("Run again")
