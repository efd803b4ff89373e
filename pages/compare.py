"""Compare methods, layers, classes or two models on one picture."""

from cam.pages.ui.server import router

router.require()

import streamlit as st

from cam.pages.ui.compare.cases import MODES, Case, choose_cases, write_cases
from cam.pages.ui.compare.map_row import describe_range, show_maps
from cam.pages.ui.compare.sections import SECTIONS, View
from cam.pages.ui.state import address
from cam.pages.ui.state.selection import Selection
from cam.pages.ui.subject import subject_form
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.links import choose, read_switch, switch
from cam.pages.ui.widgets.prose import write_small
from cam.pages.ui.widgets.viewer_options import read_options

TWO_MODELS = "Two models"
# Models crop a photo differently.
OVER_ONE_PART = "_, maps = cam.shared_view(photo, [case[0] for case in cases.values()], maps)\n"


def main(selection: Selection) -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    st.title("Compare", anchor=False)
    st.markdown(
        "One image, several maps: where do they agree, what does the model need of what they "
        "show, and which of them can be trusted?"
    )
    subject = subject_form.choose_subject(selection)
    if subject is None:
        return
    mode = choose("Compare", list(MODES), "compare", "comparison", segments=True)
    cases = choose_cases(mode, subject, selection)
    if not cases:
        if mode != TWO_MODELS:
            st.info("Choose at least one method in the sidebar.")
        return
    options, one_range = read_options(), read_switch("one_range", False)
    explained, maps = show_maps(mode, cases, subject.picture, options, one_range)
    switch("Shared colour scale", "one_range", help=describe_range(mode, True))
    write_small(describe_range(mode, one_range))
    section = choose("Measure", list(SECTIONS), "measure", "measurement", segments=True)
    st.header(section, anchor=False)
    draw, _ = SECTIONS[section]
    draw(View(subject.picture, cases, explained, maps, options))
    # Of what is shown: a method that does not run here would end the copied call.
    working = list(explained) or cases
    controls.draw_code(lambda: write_code(section, working, subject))


def write_code(section: str, cases: list[Case], subject: subject_form.Subject) -> str:
    """Write the library calls behind the page, ready to run."""
    _, code = SECTIONS[section]
    likeness = address.get_value("likeness") or "spearman"
    several = len({case.model for case in cases}) > 1
    call = code.replace("{likeness!r}", repr(likeness))
    call = call.replace("{over_one_part}", OVER_ONE_PART if several else "")
    return write_cases(cases, subject.picture, call)


main(address.read_selection())
