"""Compare methods, layers, classes or two models on one picture."""

from cam.pages.ui.server import router

router.require()

import streamlit as st

from cam.pages.ui.compare.cases import MODES, as_python, choose_cases
from cam.pages.ui.compare.map_row import ranges, show_maps
from cam.pages.ui.compare.sections import SECTIONS, View
from cam.pages.ui.subject import subject_form
from cam.pages.ui.widgets import charts, controls
from cam.pages.ui.widgets.text import small

TWO_MODELS = "Two models"
# Models crop a photo differently.
OVER_ONE_PART = "_, maps = cam.shared_view(photo, [case[0] for case in cases.values()], maps)\n"


def main() -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    st.title("Compare", anchor=False)
    st.markdown(
        "One picture, several maps: where do they agree, what does the model need of what they "
        "show, and which of them can be trusted?"
    )
    subject = subject_form.choose_subject()
    if subject is None:
        return
    controls.check_link("compare", "comparison", MODES)
    mode = st.segmented_control(
        "Compare", MODES, default=MODES[0], required=True, key="compare", bind="query-params"
    )
    cases = choose_cases(mode, subject)
    if not cases:
        if mode != TWO_MODELS:
            st.info("Choose at least one method in the sidebar.")
        return
    picture = subject.picture
    columns = st.columns([3, 2, 2], vertical_alignment="bottom")
    with columns[0]:
        alpha = controls.choose_alpha()
    with columns[1]:
        colormap = controls.choose_colormap()
    with columns[2]:
        one_range = st.toggle(
            "One range for all", key="one_range", bind="query-params", help=ranges(mode, True)
        )
    shown, maps = show_maps(mode, cases, picture, alpha, colormap, one_range)
    st.html(charts.color_bar(colormap))
    small(ranges(mode, one_range))
    controls.check_link("measure", "measurement", SECTIONS)
    section = st.segmented_control(
        "Measure",
        list(SECTIONS),
        default=next(iter(SECTIONS)),
        required=True,
        key="measure",
        bind="query-params",
    )
    st.header(section, anchor=False)
    draw, code = SECTIONS[section]
    draw(View(picture, cases, shown, maps, alpha, colormap))
    if box := controls.lazy_box("Copy as Python", ":material/code:", "code"):
        with box:
            likeness = st.session_state.get("likeness") or "spearman"
            # Of what is shown: a method that does not run here would end the copied call.
            ran = [one.case for one in shown] or cases
            several = len({(case.model, case.trained) for case in ran}) > 1
            call = code.replace("{likeness!r}", repr(likeness))
            call = call.replace("{over_one_part}", OVER_ONE_PART if several else "")
            st.code(as_python(ran, picture, call), language="python", wrap_lines=True)


main()
