"""Compute slow explanations in the background, on a model's twin."""

from dataclasses import replace

from cam.pages.ui.server import jobs, resources
from cam.pages.ui.state.choices import Choices, MethodChoice
from cam.pages.ui.subject.subject_form import LookedAt
from cam.pages.ui.widgets.growing_maps import GrowingMap, report_growth
from cam.pages.ui.widgets.prose import report_errors
from cam.types import Attribution


def explain_slowly(
    choices: Choices, subject: LookedAt, methods: list[MethodChoice]
) -> tuple[dict[MethodChoice, Attribution], list[GrowingMap]]:
    """Return the maps that are there, and those at work.

    Of each other one draw its progress, or why it is not.
    """
    maps: dict[MethodChoice, Attribution] = {}
    growing = []
    height, width = resources.prepare(choices.model, subject.picture).shape[-2:]
    for method in methods:
        alone, title = replace(choices, methods=(method,)), method.info.title
        key = (alone, subject.top, subject.picture.digest)
        with report_errors(title):
            explanation = jobs.wait_for(key, title, make_work(alone, subject))
            if explanation is not None:
                [maps[method]] = explanation.values()
            elif not jobs.is_cancelled(key):
                job = jobs.get_shared_jobs().find(key)
                if job is not None:
                    size = (height, width)
                    growing.append(GrowingMap(method.name, title, method.info, job, size))
    return maps, growing


def make_work(choices: Choices, subject: LookedAt) -> jobs.Work:
    """Make the work of a job that explains, and reports how many images are through."""

    def work(tell: jobs.Tell) -> dict[str, Attribution]:
        tell(0, "")
        # The visitors' model stays free for what is quick.
        twin = subject.model.twin()
        return resources.explain_with(
            twin, choices, subject.top, subject.picture, report_growth(tell)
        )

    return work
