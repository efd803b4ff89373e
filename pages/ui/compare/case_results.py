"""Compute what Compare shows, case after case, in the background.

Networks are copied for it: a model that is explained has hooks on it, and a page that waits for
its lock would not be alive.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

import cam
from cam._metrics.localisation.object_masks import centre_heatmap
from cam.pages.ui.compare.cases import Case
from cam.pages.ui.server import jobs, resources
from cam.pages.ui.server.resources import share
from cam.pages.ui.state.choices import Choices, MethodChoice, ModelChoice, Picture
from cam.pages.ui.widgets.growing_maps import GrowingMap, report_growth

# No method: a map that knows of no picture.
CENTRE = "centre"
STEPS = 28
STAGES = 8
# A page asks for all of its results again at each run: more than those of several visitors.
RESULTS_KEPT = 256
T = TypeVar("T")
Work = Callable[[Case, cam.Model, Tensor, jobs.Tell], T]


@share()
def get_comparison_jobs() -> jobs.Jobs:
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
    groups: dict[tuple[ModelChoice, int, str | None], dict[MethodChoice, Case]] = {}
    for case in cases:
        if not cam.methods()[case.method].passes:
            group = groups.setdefault((case.model, case.target, case.layer), {})
            group[MethodChoice(case.method)] = case
    for (model, target, layer), group in groups.items():
        choices = Choices(model, tuple(group), target, layer)
        results = resources.explain_each(choices, None, picture)
        maps |= {group[method]: result for method, result in results.items()}
    return maps


def explain_slowly(case: Case, picture: Picture) -> cam.Attribution | cam.CamError | None:
    """Explain with further passes, or say why not; None while it is at work."""

    def work(case: Case, model: cam.Model, batch: Tensor, tell: jobs.Tell) -> cam.Attribution:
        report = report_growth(tell)
        [attribution] = cam.attribute(
            model, batch, case.method, case.target, case.layer, progress=report
        ).values()
        return attribution

    return _wait_for("map", case.title, case, picture, work)


def find_growing(case: Case, picture: Picture, name: str) -> GrowingMap | None:
    """Return the map that is at work on a case, called by a name; None where none is."""
    key = ("map", case, picture.digest)
    job = get_comparison_jobs().find(key)
    if job is None or jobs.is_cancelled(key):
        return None
    height, width = resources.prepare(case.model, picture).shape[-2:]
    return GrowingMap(name, case.title, cam.methods()[case.method], job, (height, width))


def _wait_for(
    what: str, title: str, case: Case, picture: Picture, work: Work[T]
) -> T | cam.CamError | None:
    """Return what work returns or the error that it ends with; None while it is at work."""
    model = resources.load_model(case.model).twin()

    def prepare_and_work(tell: jobs.Tell) -> T:
        return work(case, model, model.prepare(picture.photo), tell)

    key = (what, case, picture.digest)
    try:
        result: T | None = jobs.wait_for(key, title, prepare_and_work, get_comparison_jobs())
    except cam.CamError as error:
        return error
    return result


def measure_in_turn(
    what: str, cases: Sequence[Case], picture: Picture, work: Work[T]
) -> Iterator[tuple[Case, T | cam.CamError]]:
    """Measure each case; it ends at the first one that is not there yet.

    One after the other: one bar and one Cancel, and what is done is drawn while the next is made.

    Args:
        what: What is measured; also the key.
        cases: The cases.
        picture: The picture.
        work: From a case, its model, the batch and whom to tell to the result, in a thread.
    """
    for number, case in enumerate(cases, start=1):
        title = f"{what}, {number} of {len(cases)}, {case.title}"
        result = _wait_for(what, title, case, picture, work)
        if result is None:
            return
        yield case, result


def measure_curves(
    explained: Mapping[Case, cam.Attribution], picture: Picture
) -> Iterator[tuple[Case, cam.Curves | cam.CamError]]:
    """Measure deletion and insertion of each case, the Gaussian in the middle before them."""

    def work(case: Case, model: cam.Model, batch: Tensor, tell: jobs.Tell) -> cam.Curves:
        maps = centre_heatmap(batch) if case.method == CENTRE else explained[case]
        return cam.curves(
            model, batch, maps, case.target, steps=STEPS,
            batch_size=32 if batch.is_cuda else 8, tell=tell,
        )  # fmt: skip

    # Those of one model and one class have the same centre.
    centres = dict.fromkeys(make_centre(case) for case in explained)
    yield from measure_in_turn("Deletion and insertion", [*centres, *explained], picture, work)


def make_centre(case: Case) -> Case:
    """Return the Gaussian in the middle that a case's curves are drawn beside."""
    return Case("the centre", case.model, CENTRE, case.target, None)


def examine(
    cases: list[Case], picture: Picture
) -> Iterator[tuple[Case, cam.Examination | cam.CamError]]:
    """Answer the four questions of each case."""

    def work(case: Case, model: cam.Model, batch: Tensor, tell: jobs.Tell) -> cam.Examination:
        return cam.examine(model, batch, case.method, case.target, case.layer, tell=tell)

    yield from measure_in_turn("Properties", cases, picture, work)


@dataclass(frozen=True, eq=False)
class Forgetting:
    """A cascade as the page keeps it: its heatmaps as (stages + 1, H, W) uint8."""

    depths: tuple[str, ...]
    shares: tuple[float, ...]
    heatmaps: Tensor
    likeness: list[float]


def randomise(
    cases: list[Case], picture: Picture
) -> Iterator[tuple[Case, Forgetting | cam.CamError]]:
    """Explain each case while its network forgets."""

    def work(case: Case, model: cam.Model, batch: Tensor, tell: jobs.Tell) -> Forgetting:
        cascade = cam.cascade(
            model, batch, case.method, case.target, case.layer, stages=STAGES, tell=tell
        )
        maps = (cascade.heatmaps[:, 0].nan_to_num() * 255).round().to(torch.uint8)
        return Forgetting(cascade.depths, cascade.shares, maps, cascade.likeness[:, 0].tolist())

    yield from measure_in_turn("Parameter randomisation", cases, picture, work)
