"""Choose a run's methods and metrics with parameters and variants."""

from collections.abc import Mapping, Sequence
from typing import Any

import cam
from cam._data.dataset import Dataset
from cam._data.known_pictures import KnownPictures
from cam._data.photo_grid import PhotoGrid
from cam._metrics.base.metric_registry import MetricInfo
from cam._runs.plan.run_call import Named
from cam.pages.ui.widgets.controls import title_methods
from cam.pages.ui.widgets.links import choose_several
from cam.pages.ui.widgets.parameter_widgets import Info, choose_variants, name_variant
from cam.pages.ui.widgets.prose import write_small

METHODS = ("gradcam", "saliency")
METRICS = ("deletion", "insertion")
# Where the exact attribution is known.
TRUE = "truth_correlation"
# Where data say where the class is: of the photo grid, and of all others.
ON_GRID, LOCATED = "grid_pointing_game", "pointing_game"
KEY = "run_metrics"


def choose_run_methods() -> tuple[Named, ...]:
    """Choose methods with their parameters, which :func:`check` looks at."""
    titles = title_methods()
    names = choose_several("Methods", titles, "run_methods", "method", default=list(METHODS))
    return _choose_all([cam.methods()[name] for name in names])


def choose_run_metrics(data: Dataset | None) -> tuple[Named, ...]:
    """Choose metrics with their parameters; of those that do not fit the data it says why."""
    infos = cam.metrics()
    titles = {name: info.title for name, info in infos.items()}
    left_out = {name: why for name, info in infos.items() if (why := describe_misfit(info, data))}
    offered = [name for name in infos if name not in left_out]
    # Those that do not fit are spoken of below; they stay in the address for data that they fit.
    more: dict[str, Any] = {"default": select_default(offered), "others": left_out}
    names = choose_several(
        "Metrics", {name: titles[name] for name in offered}, KEY, "metric", **more
    )
    for why in dict.fromkeys(left_out.values()):
        misfits = [titles[name] for name, reason in left_out.items() if reason == why]
        write_small(f"Not offered, as {why}: {', '.join(misfits)}.")
    return _choose_all([infos[name] for name in names])


def check(methods: tuple[Named, ...], metrics: tuple[Named, ...]) -> None:
    """Refuse parameters that are out of range before they are run.

    Raises:
        MethodError: A parameter of a method.
        MetricError: A parameter of a metric.
    """
    for name, parameters in methods:
        cam.method(name, **parameters)
    for name, parameters in metrics:
        cam.metric(name, **parameters)


def select_default(offered: Sequence[str]) -> list[str]:
    """Select what is measured by default, first what knows the truth; of two games the grid's.

    Deletion has a floor that all methods reach on images of a low probability.
    """
    default = [name for name in (TRUE, ON_GRID, LOCATED, *METRICS) if name in offered]
    if ON_GRID in default:
        default.remove(LOCATED)
    return default


def describe_misfit(info: MetricInfo, data: Dataset | None) -> str | None:
    """Say why a metric does not fit data; None where it does, or none are chosen yet."""
    if data is None:
        return None
    if info.needs_masks and not data.has_masks:
        return "these data do not say where a class is"
    if info.name == ON_GRID and not isinstance(data, PhotoGrid):
        return "these data are no mosaics (the energy-based pointing game is the same share)"
    if info.family == "truth" and not isinstance(data, KnownPictures):
        return "the exact attribution of these data is not known"
    return None


def list_costs(variants: tuple[Named, ...], infos: Mapping[str, Info]) -> list[tuple[str, str]]:
    """List the title and the passes of each variant."""
    return [
        (name_variant(infos[name].title, parameters), infos[name].cost)
        for name, parameters in variants
    ]


def _choose_all(infos: Sequence[Info]) -> tuple[Named, ...]:
    return tuple((info.name, dict(values)) for info in infos for values in choose_variants(info))
