"""Compute what Compare shows, case after case, in the background.

Networks are copied for it: a model that is explained has hooks on it, and a page that waits for
its lock would not be alive.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

import cam
from cam._metrics.localisation.object_masks import centre_heatmap
from cam.pages.ui.compare.cases import Case
from cam.pages.ui.server import jobs, resources
from cam.pages.ui.server.resources import Choices, MethodChoice, Picture, share
from cam.types import Progress

# No method: a map that knows of no picture.
CENTRE = "centre"
STEPS = 28
STAGES = 8
# A page asks for all of its results again at each run: more than those of several visitors.
RESULTS_KEPT = 256
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ExplainedCase:
    """A case with its maps.

    Attributes:
        case: What is compared.
        model: The model that the pages share.
        attribution: What its method made of the picture.
    """

    case: Case
    model: cam.Model
    attribution: cam.Attribution


@share()
def comparison_jobs() -> jobs.Jobs:
    """Return the comparisons of all visitors."""
    return jobs.Jobs(capacity=RESULTS_KEPT)


@share(max_entries=resources.MODELS_KEPT)
def explain_quickly(
    cases: list[Case], picture: Picture
) -> dict[Case, cam.Attribution | cam.CamError]:
    """Explain those cases without further passes, or say why they cannot.

    Methods that look at the same share their passes.
    """
    maps: dict[Case, cam.Attribution | cam.CamError] = {}
    groups: dict[Hashable, list[Case]] = {}
    for case in cases:
        if not cam.methods()[case.method].needs.passes:
            groups.setdefault((case.model, case.target, case.layer), []).append(case)
    for group in groups.values():
        try:
            maps.update(_explain_together(group, picture))
        except cam.CamError:
            for case in group:
                try:
                    maps.update(_explain_together([case], picture))
                except cam.CamError as error:
                    maps[case] = error
    return maps


def _explain_together(cases: list[Case], picture: Picture) -> dict[Case, cam.Attribution]:
    first = cases[0]
    methods = tuple(MethodChoice(case.method) for case in cases)
    maps = resources.explain(
        Choices(first.model, methods, first.target, first.layer), None, picture
    )
    return {case: maps[case.method] for case in cases}


def explain_slowly(case: Case, picture: Picture) -> cam.Attribution | cam.CamError | None:
    """Explain with further passes, or say why not; None while it is at work."""
    model = _copy_model(case)

    def work(tell: jobs.Tell) -> cam.Attribution:
        def report(progress: Progress) -> bool:
            return tell(progress.done / max(progress.total, 1))

        batch = model.prepare(picture.photo)
        [attribution] = cam.attribute(
            model, batch, case.method, case.target, case.layer, progress=report
        ).values()
        return attribution

    return _wait_for(("map", case, picture.digest), case.title, work)


def _copy_model(case: Case) -> cam.Model:
    return resources.load_model(case.model).twin()


def _wait_for(key: Hashable, what: str, work: Callable[[jobs.Tell], T]) -> T | cam.CamError | None:
    """Return what work returns or the error that it ends with; None while it is at work."""
    try:
        result: T | None = jobs.wait_for(key, what, work, comparison_jobs())
    except cam.CamError as error:
        return error
    return result


def measure_in_turn(
    what: str,
    cases: Iterable[Case],
    picture: Picture,
    work: Callable[[Case, jobs.Tell], T],
) -> Iterator[tuple[Case, T | cam.CamError]]:
    """Measure each case; it ends at the first one that is not there yet.

    One after the other: one bar and one Cancel, and what is done is drawn while the next is made.

    Args:
        what: What is measured; also the key.
        cases: The cases.
        picture: The picture.
        work: From a case and whom to tell to the result, in a thread.
    """
    several = list(cases)
    for number, case in enumerate(several, start=1):
        title = f"{what}, {number} of {len(several)}, {case.title}"
        result = _wait_for((what, case, picture.digest), title, partial(work, case))
        if result is None:
            return
        yield case, result


def measure_curves(
    explained: list[ExplainedCase], picture: Picture
) -> Iterator[tuple[Case, cam.Curves | cam.CamError]]:
    """Measure deletion and insertion of each case, the Gaussian in the middle before them."""
    maps = {ready.case: ready.attribution for ready in explained}
    models = {case: _copy_model(case) for case in maps}
    # Those of one model and one class have the same centre.
    models |= {centre_of(case): model for case, model in models.items()}

    def work(case: Case, tell: jobs.Tell) -> cam.Curves:
        model = models[case]
        batch = model.prepare(picture.photo)
        heatmap = centre_heatmap(batch) if case.method == CENTRE else maps[case].heatmap
        return cam.curves(
            model, batch, heatmap, case.target, steps=STEPS,
            batch_size=32 if batch.is_cuda else 8, tell=tell,
        )  # fmt: skip

    centres = dict.fromkeys(centre_of(case) for case in maps)
    yield from measure_in_turn("Deletion and insertion", [*centres, *maps], picture, work)


def centre_of(case: Case) -> Case:
    """Return the Gaussian in the middle that a case's curves are drawn beside."""
    return Case("the centre", case.model, CENTRE, case.target, None)


def examine(
    cases: list[Case], picture: Picture
) -> Iterator[tuple[Case, cam.Examination | cam.CamError]]:
    """Answer the four questions of each case."""
    models = {case: _copy_model(case) for case in cases}

    def work(case: Case, tell: jobs.Tell) -> cam.Examination:
        model = models[case]
        batch = model.prepare(picture.photo)
        return cam.examine(model, batch, case.method, case.target, case.layer, tell=tell)

    yield from measure_in_turn("Four questions", cases, picture, work)


@dataclass(frozen=True, eq=False)
class Forgetting:
    """A cascade as the page keeps it: its heatmaps as (stages + 1, H, W) uint8."""

    depths: tuple[str, ...]
    shares: tuple[float, ...]
    heatmaps: torch.Tensor
    likeness: list[float]


def randomise(
    cases: list[Case], picture: Picture
) -> Iterator[tuple[Case, Forgetting | cam.CamError]]:
    """Explain each case while its network forgets."""
    models = {case: _copy_model(case) for case in cases}

    def work(case: Case, tell: jobs.Tell) -> Forgetting:
        model = models[case]
        batch = model.prepare(picture.photo)
        cascade = cam.cascade(
            model, batch, case.method, case.target, case.layer, stages=STAGES, tell=tell
        )
        maps = (cascade.heatmaps[:, 0].nan_to_num() * 255).round().to(torch.uint8)
        return Forgetting(cascade.depths, cascade.shares, maps, cascade.likeness[:, 0].tolist())

    yield from measure_in_turn("Random network", cases, picture, work)
