"""Choose a run's methods and metrics with parameters and variants."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

import cam
from cam._data.dataset import Dataset
from cam._data.photo_grid import PhotoGrid
from cam._metrics.base.metric_registry import MetricInfo
from cam._runs.plan.run_call import Named
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.parameter_widgets import Info, choose_variants, told
from cam.pages.ui.widgets.text import small

METHODS = ("gradcam", "saliency")
METRICS = ("deletion", "insertion")
# Where data say where the class is: of the photo grid, and of all others.
ON_GRID, LOCATED = "grid_pointing_game", "pointing_game"
_KEY, _MEMORY = "run_metrics", "_run_metrics"


def choose_run_methods() -> tuple[Named, ...]:
    """Methods with their parameters, which :func:`check` looks at."""
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
    return _with_parameters([known[name] for name in chosen])


def choose_run_metrics(data: Dataset | None) -> tuple[Named, ...]:
    """Metrics with their parameters; of those that do not fit the data it says why."""
    known = cam.metrics()
    left_out = {name: why for name, info in known.items() if (why := unfit(info, data))}
    offered = [name for name in known if name not in left_out]
    # One that does not fit is spoken of below, whether a link asks for it or not.
    controls.check_link("run_metrics", "metric", [one.title for one in known.values()])
    usual = _usual(data, offered)
    wanted = _as_the_data_changed(offered, usual)
    chosen = st.multiselect(
        "Metrics",
        offered,
        default=usual,
        format_func=lambda name: known[name].title,
        key=_KEY,
        bind="query-params",
    )
    beside = [name for name in wanted if name not in offered]
    st.session_state[_MEMORY] = _Memory(offered, usual, chosen, [*chosen, *beside])
    for why in dict.fromkeys(left_out.values()):
        titles = [known[name].title for name, own in left_out.items() if own == why]
        small(f"Not offered, as {why}: {', '.join(titles)}.")
    return _with_parameters([known[name] for name in chosen])


def check(methods: tuple[Named, ...], metrics: tuple[Named, ...]) -> None:
    """Refuse what is known to make no sense before it is run.

    Raises:
        MethodError: A parameter of a method.
        MetricError: A parameter of a metric.
    """
    for name, given in methods:
        cam.method(name, **given)
    for name, given in metrics:
        cam.metric(name, **given)


@dataclass(frozen=True)
class _Memory:
    """The metrics as the form showed them last.

    Attributes:
        offered: Those that fitted the data.
        usual: Those that were chosen by themselves.
        chosen: Those that were chosen.
        wanted: Those too that were chosen for other data, and did not fit these.
    """

    offered: list[str]
    usual: list[str]
    chosen: list[str]
    wanted: list[str]


def _usual(data: Dataset | None, offered: list[str]) -> list[str]:
    memory = st.session_state.get(_MEMORY)
    if data is None and memory is not None:
        return list(memory.usual)
    usual = [name for name in (*METRICS, ON_GRID, LOCATED) if name in offered]
    if ON_GRID in usual:
        usual.remove(LOCATED)
    return usual


def _as_the_data_changed(offered: list[str], usual: list[str]) -> list[str]:
    """Choose again what fits these data and did not fit the last ones; all that is wanted."""
    memory = st.session_state.get(_MEMORY)
    # Only while the form stays open: what a link asks for is not changed.
    if memory is None or _KEY not in st.session_state:
        return []
    if memory.offered != offered:
        untouched = memory.chosen == memory.usual
        fitting = [name for name in memory.wanted if name in offered]
        st.session_state[_KEY] = usual if untouched else fitting
    return list(memory.wanted)


def unfit(info: MetricInfo, data: Dataset | None) -> str | None:
    """Why a metric makes no sense on data; None where it does, or none are chosen yet."""
    if data is None:
        return None
    if info.needs_masks and not data.has_masks:
        return "these data do not say where a class is"
    if info.name == ON_GRID and not isinstance(data, PhotoGrid):
        return "these data are no mosaics (the energy-based pointing game is the same share)"
    return None


def costs(chosen: tuple[Named, ...], known: Mapping[str, Info]) -> list[tuple[str, str]]:
    """The title and the passes of each variant."""
    return [
        (told(known[name].title, tuple(given.items())), known[name].cost) for name, given in chosen
    ]


def _with_parameters(chosen: list[Info]) -> tuple[Named, ...]:
    return tuple((info.name, dict(given)) for info in chosen for given in choose_variants(info))
