"""Compute what Compare shows, case after case, in the background.

Networks are copied for it: a model that is explained has hooks on it, and a page that waits for
its lock would not be alive.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import streamlit as st
import torch

import cam
from cam._metrics.localisation.object_masks import centre_heatmap
from cam.pages.ui.compare.cases import Case
from cam.pages.ui.server import jobs, resources
from cam.pages.ui.server.resources import Asked, Choices, Picture
from cam.types import Progress

# No method: a map that knows of no picture.
CENTRE = "centre"
STEPS = 28
STAGES = 8
# A page asks for all of its results again at each run: more than those of several visitors.
RESULTS_KEPT = 256
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Shown:
    """A case with its maps.

    Attributes:
        case: It.
        model: The model that the pages share.
        found: What its method made of the picture.
    """

    case: Case
    model: cam.Model
    found: cam.Attribution


@st.cache_resource(show_spinner=False)
def kept() -> jobs.Jobs:
    """The comparisons of all visitors."""
    return jobs.Jobs(kept=RESULTS_KEPT)


@st.cache_resource(max_entries=resources.MODELS_KEPT, show_spinner=False)
def explained(cases: list[Case], picture: Picture) -> dict[Case, cam.Attribution | cam.CamError]:
    """The maps of those cases whose methods need no passes of their own, or why there is none.

    Methods that look at the same share their passes.
    """
    found: dict[Case, cam.Attribution | cam.CamError] = {}
    groups: dict[tuple[Hashable, ...], list[Case]] = {}
    for case in cases:
        if not cam.methods()[case.method].passes:
            key = (case.model, case.trained, case.target, case.layer)
            groups.setdefault(key, []).append(case)
    for together in groups.values():
        try:
            found.update(_together(together, picture))
        except cam.CamError:
            for case in together:
                try:
                    found.update(_together([case], picture))
                except cam.CamError as error:
                    found[case] = error
    return found


def _together(cases: list[Case], picture: Picture) -> dict[Case, cam.Attribution]:
    first = cases[0]
    methods = tuple(Asked(case.method) for case in cases)
    choices = Choices(first.model, first.trained, methods, first.target, first.layer)
    maps = resources.explain(choices, None, picture.digest, picture).maps
    return {case: maps[case.method] for case in cases}


def explained_later(case: Case, picture: Picture) -> cam.Attribution | None:
    """The maps of a method with passes of its own: None while they are computed.

    Raises:
        CamError: It does not run on this model.
    """
    model = resources.model(case.model, case.trained).twin()

    def work(tell: jobs.Tell) -> cam.Attribution:
        def report(progress: Progress) -> bool:
            return tell(progress.done / max(progress.total, 1), "")

        batch = model.prepare(picture.photo)
        [found] = cam.attribute(
            model, batch, case.method, case.target, case.layer, progress=report
        ).values()
        return found

    key = ("map", case, picture.digest)
    found: cam.Attribution | None = jobs.result(key, case.title, work, kept())
    return found


def in_turn(
    what: str,
    cases: Iterable[Case],
    picture: Picture,
    work: Callable[[Case, jobs.Tell], T],
) -> Iterator[tuple[Case, T | cam.CamError]]:
    """What is measured of each case; it ends at the first one that is not there yet.

    One after the other: one bar and one Cancel, and what is done is drawn while the next is made.

    Args:
        what: What is measured; also the key.
        cases: The cases.
        picture: The picture.
        work: From a case and whom to tell to the result, in a thread.
    """
    several = list(cases)
    for place, case in enumerate(several, start=1):
        try:
            found = jobs.result(
                (what, case, picture.digest),
                f"{what}, {place} of {len(several)}, {case.title}",
                partial(work, case),
                kept(),
            )
        except cam.CamError as error:
            found = error
        if found is None:
            return
        yield case, found


def curves(
    shown: list[Shown], picture: Picture
) -> Iterator[tuple[Case, cam.Curves | cam.CamError]]:
    """Deletion and insertion of each case, and of the bump in the middle before them."""
    by_case = {one.case: one for one in shown}
    models = {case: resources.model(case.model, case.trained).twin() for case in by_case}
    # Those of one model and one class have the same one.
    centres = dict.fromkeys(centre_of(case) for case in by_case)

    def work(case: Case, tell: jobs.Tell) -> cam.Curves:
        model = copied_of[case]
        batch = model.prepare(picture.photo)
        heatmap = centre_heatmap(batch) if case.method == CENTRE else by_case[case].found.heatmap
        return cam.curves(
            model, batch, heatmap, case.target, steps=STEPS,
            batch_size=32 if batch.is_cuda else 8, tell=tell,
        )  # fmt: skip

    copied_of = models | {centre_of(case): model for case, model in models.items()}
    yield from in_turn("Deletion and insertion", [*centres, *by_case], picture, work)


def centre_of(case: Case) -> Case:
    """The bump in the middle that a case's curves are seen beside."""
    return Case("the centre", case.model, case.trained, CENTRE, case.target, None)


def examinations(
    cases: list[Case], picture: Picture
) -> Iterator[tuple[Case, cam.Examination | cam.CamError]]:
    """The four questions of each case."""
    models = {case: resources.model(case.model, case.trained).twin() for case in cases}

    def work(case: Case, tell: jobs.Tell) -> cam.Examination:
        model = models[case]
        batch = model.prepare(picture.photo)
        return cam.examine(model, batch, case.method, case.target, case.layer, tell=tell)

    yield from in_turn("Four questions", cases, picture, work)


@dataclass(frozen=True, eq=False)
class Forgetting:
    """A cascade as the page keeps it: its heatmaps as (stages + 1, H, W) uint8."""

    depths: tuple[str, ...]
    shares: tuple[float, ...]
    heatmaps: torch.Tensor
    likeness: list[float]


def cascades(
    cases: list[Case], picture: Picture
) -> Iterator[tuple[Case, Forgetting | cam.CamError]]:
    """Each case while its network forgets."""
    models = {case: resources.model(case.model, case.trained).twin() for case in cases}

    def work(case: Case, tell: jobs.Tell) -> Forgetting:
        model = models[case]
        batch = model.prepare(picture.photo)
        found = cam.cascade(
            model, batch, case.method, case.target, case.layer, stages=STAGES, tell=tell
        )
        maps = (found.heatmaps[:, 0].nan_to_num() * 255).round().to(torch.uint8)
        return Forgetting(found.depths, found.shares, maps, found.likeness[:, 0].tolist())

    yield from in_turn("Random network", cases, picture, work)
