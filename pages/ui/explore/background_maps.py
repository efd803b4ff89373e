"""Compute slow explanations in the background, on a model's twin."""

from dataclasses import replace

import cam
from cam.pages.ui.server import jobs, resources
from cam.pages.ui.server.resources import Choices, MethodChoice
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.prose import report_errors
from cam.types import Attribution


def explain_slowly(
    choices: Choices, subject: Subject, methods: list[MethodChoice]
) -> dict[MethodChoice, Attribution]:
    """Return the maps that are there; of each other one draw its progress, or why it is not."""
    maps: dict[MethodChoice, Attribution] = {}
    for method in methods:
        alone, title = replace(choices, methods=(method,)), method.info.title
        key = (alone, subject.top, subject.picture.digest)
        with report_errors(title):
            explanation = jobs.wait_for(key, title, make_work(alone, subject))
            if explanation is not None:
                [maps[method]] = explanation.values()
    return maps


def make_work(choices: Choices, subject: Subject) -> jobs.Work:
    """Make the work of a job that explains, and reports how many pictures are through."""

    def work(tell: jobs.Tell) -> dict[str, Attribution]:
        def report(progress: cam.Progress) -> bool:
            share = progress.done / progress.total if progress.total else 0
            return tell(share, f"{progress.done:,} of {progress.total:,} pictures")

        tell(0, "")
        # The visitors' model stays free for what is quick.
        twin = subject.model.twin()
        return resources.explain_with(twin, choices, subject.top, subject.picture, report)

    return work
