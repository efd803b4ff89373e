"""What a run compares and measures: methods and metrics, each with parameters and variants."""

import streamlit as st

import cam
from cam.data.dataset import Dataset
from cam.data.photo_grid import PhotoGrid
from cam.evaluate.call import Named
from cam.metrics.registry import MetricInfo
from pages.ui import controls
from pages.ui.parameters import Info, choose_variants, told
from pages.ui.steps import small

METHODS = ("gradcam", "saliency")
METRICS = ("deletion", "insertion")
# Where data say where the class is: of the photo grid, and of all others.
ON_GRID, LOCATED = "grid_pointing_game", "pointing_game"


def choose_run_methods() -> tuple[Named, ...]:
    """Methods with their parameters.

    Raises:
        MethodError: A parameter that makes no sense, where that is known before it is run.
    """
    known = cam.methods()
    controls.check_link("run_methods", "method", [one.title for one in known.values()])
    chosen = st.multiselect(
        "Methods",
        list(known),
        default=list(METHODS),
        format_func=lambda name: known[name].title,
        key="run_methods",
        bind="query-params",
    )
    found = _with_parameters([known[name] for name in chosen])
    for name, given in found:
        cam.method(name, **given)
    return found


def choose_run_metrics(data: Dataset) -> tuple[Named, ...]:
    """Metrics with their parameters; of those that do not fit the data it says why.

    Raises:
        MetricError: A parameter that makes no sense.
    """
    known = cam.metrics()
    left_out = {name: why for name, info in known.items() if (why := unfit(info, data))}
    offered = {name: info for name, info in known.items() if name not in left_out}
    usual = [name for name in (*METRICS, ON_GRID, LOCATED) if name in offered]
    if ON_GRID in usual:
        usual.remove(LOCATED)
    # One that does not fit is spoken of below, whether a link asks for it or not.
    controls.check_link("run_metrics", "metric", [one.title for one in known.values()])
    chosen = st.multiselect(
        "Metrics",
        list(offered),
        default=usual,
        format_func=lambda name: known[name].title,
        key="run_metrics",
        bind="query-params",
    )
    for why in dict.fromkeys(left_out.values()):
        titles = [known[name].title for name, own in left_out.items() if own == why]
        small(f"Not offered, as {why}: {', '.join(titles)}.")
    found = _with_parameters([known[name] for name in chosen])
    for name, given in found:
        cam.metric(name, **given)
    return found


def unfit(info: MetricInfo, data: Dataset) -> str | None:
    """Why a metric makes no sense on data; None where it does."""
    if info.needs_masks and not data.has_masks:
        return "these data do not say where a class is"
    if info.name == ON_GRID and not isinstance(data, PhotoGrid):
        return "these data are no mosaics (the energy-based pointing game is the same share)"
    return None


def costs(chosen: tuple[Named, ...], known: dict[str, Info]) -> list[tuple[str, str]]:
    """The title and the passes of each variant."""
    return [
        (told(known[name].title, tuple(given.items())), known[name].cost) for name, given in chosen
    ]


def _with_parameters(chosen: list[Info]) -> tuple[Named, ...]:
    return tuple((info.name, dict(given)) for info in chosen for given in choose_variants(info))
