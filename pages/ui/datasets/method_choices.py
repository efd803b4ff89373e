"""Choose a run's methods and metrics with parameters and variants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

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
# Where data say where the class is: of the photo grid, and of all others.
ON_GRID, LOCATED = "grid_pointing_game", "pointing_game"
_KEY, _MEMORY = "run_metrics", "_run_metrics"


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
    default = _select_default(data, offered)
    remembered = _adapt_choice(offered, default)
    # One that does not fit is spoken of below, whether a link asks for it or not.
    more = {"default": default, "linked": titles.values()}
    options = {name: titles[name] for name in offered}
    names = choose_several("Metrics", options, _KEY, "metric", **more)
    beside = [name for name in remembered if name not in offered]
    st.session_state[_MEMORY] = _Memory(offered, default, names, [*names, *beside])
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


@dataclass(frozen=True)
class _Memory:
    """The metrics as the form showed them last.

    Attributes:
        offered: Those that fitted the data.
        default: Those that were chosen automatically.
        current: Those that were chosen.
        remembered: Those too that were chosen for other data, and did not fit these.
    """

    offered: list[str]
    default: list[str]
    current: list[str]
    remembered: list[str]


def _select_default(data: Dataset | None, offered: list[str]) -> list[str]:
    memory = st.session_state.get(_MEMORY)
    if data is None and memory is not None:
        return list(memory.default)
    default = [name for name in (*METRICS, ON_GRID, LOCATED) if name in offered]
    if ON_GRID in default:
        default.remove(LOCATED)
    return default


def _adapt_choice(offered: list[str], default: list[str]) -> list[str]:
    """Choose again what fits these data and did not fit the last ones; returns all of it."""
    memory = st.session_state.get(_MEMORY)
    # Only while the form stays open: what a link asks for is not changed.
    if memory is None or _KEY not in st.session_state:
        return []
    if memory.offered != offered:
        untouched = memory.current == memory.default
        fitting = [name for name in memory.remembered if name in offered]
        st.session_state[_KEY] = default if untouched else fitting
    return list(memory.remembered)


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
