"""Compute slow explanations in the background, on a model's twin."""

from dataclasses import replace

import streamlit as st

import cam
from cam.pages.ui.server import jobs, resources
from cam.pages.ui.server.resources import Asked, Choices
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls
from cam.types import Attribution


def explain(choices: Choices, subject: Subject, methods: list[Asked]) -> dict[Asked, Attribution]:
    """The maps that are there; of each other one its progress, or why there is none."""
    found = {}
    for asked in methods:
        one = replace(choices, methods=(asked,))
        try:
            explanation = jobs.result(
                (one, subject.order[0], subject.picture.digest),
                asked.info.title,
                _work(one, subject),
            )
        except cam.CamError as error:
            st.error(f"{asked.info.title}: {controls.sentence(error)}")
        else:
            if explanation is not None:
                [found[asked]] = explanation.maps.values()
    return found


def _work(choices: Choices, subject: Subject) -> jobs.Work:
    def work(tell: jobs.Tell) -> resources.Explanation:
        def report(progress: cam.Progress) -> bool:
            share = progress.done / progress.total if progress.total else 0
            return tell(share, f"{progress.done:,} of {progress.total:,} pictures")

        tell(0, "")
        # The visitors' model stays free for what is quick.
        twin = subject.model.twin()
        return resources.explained(twin, choices, subject.order[0], subject.picture, report)

    return work
