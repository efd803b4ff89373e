"""Start a run: data, model, methods, metrics, cost and code."""

import json
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

import cam
from cam._data.dataset import DataOrigin
from cam._formatting import duration, size
from cam._runs.engines.estimate import estimate
from cam._runs.plan.options import TARGETS, RunOptions
from cam._runs.plan.run_call import Call, Named
from cam.pages.ui.datasets import applicability, run_jobs
from cam.pages.ui.datasets.data_form import choose_data
from cam.pages.ui.datasets.method_choices import (
    check,
    choose_run_methods,
    choose_run_metrics,
    costs,
)
from cam.pages.ui.server import allowed_roots, jobs, resources, weight_downloads
from cam.pages.ui.server.resources import OwnWeights, Weights
from cam.pages.ui.subject import run_checkpoints, subject_form
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import small

# A shard is what a progress bar sees, and what a kill may cost.
SHARD = 4
_STARTED, _FORGET = "_started_run", "_forget_name"
TARGET_TITLES = {
    "data": "The data's class, or the top class where there is none",
    "predicted": "Always the class that the model predicts",
}


def show_form() -> None:
    """The form; what is wrong with it is one sentence where its cause is."""
    try:
        wanted = _choose()
        if wanted is None:
            return
        # Below every widget that the address holds: one that comes with the end of a download
        # would not get into it.
        here = weight_downloads.ready(wanted.model, wanted.trained)
        methods, settled = wanted.methods, False
        if here:
            methods, settled = applicability.fitting(wanted.model, wanted.trained, methods)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    if not methods:
        st.info("None of the chosen methods runs on this model: choose another one.")
        return
    call = wanted.call(methods)
    if here:
        _costs(call, wanted.count)
    free = run_jobs.free_name()
    if st.session_state.pop(_FORGET, False):
        st.session_state["name"] = ""
    typed = st.text_input("Name of the run", key="name", max_chars=80, placeholder=free)
    name = typed.strip() or free
    if st.button(
        "Start the run",
        type="primary",
        icon=":material/play_arrow:",
        key="go",
        disabled=not settled,
        help=None if settled else "As soon as the model is here and the methods were tried on it.",
    ):
        _start(name, call)
    _code(name, call, isinstance(wanted.trained, OwnWeights))


@dataclass(frozen=True)
class Wanted:
    """What was chosen.

    Attributes:
        data: Where they come from.
        count: How many of them.
        model: The model's name.
        trained: Its weights.
        methods: Names and parameters.
        metrics: Likewise.
        options: The others of :func:`cam.evaluate`.
    """

    data: DataOrigin
    count: int
    model: str
    trained: Weights
    methods: tuple[Named, ...]
    metrics: tuple[Named, ...]
    options: RunOptions

    def call(self, methods: tuple[Named, ...]) -> Call:
        """The call with those of the methods."""
        model = run_checkpoints.origin(self.model, self.trained)
        return Call(model, self.data, methods, self.metrics, self.options)


def _choose() -> Wanted | None:
    """What is wanted; None, and a sentence, while something is missing.

    Raises:
        CamError: Something that makes no sense.
    """
    # What is wrong with the data, or missing, must not take the other choices away.
    try:
        found = choose_data()
    except cam.CamError as error:
        st.error(controls.sentence(error))
        found = None
    left, right = st.columns(2)
    with left:
        model, trained = subject_form.choose_model()
        targets = st.selectbox(
            "What is explained",
            TARGETS,
            format_func=TARGET_TITLES.__getitem__,
            key="targets",
            bind="query-params",
        )
    with right:
        methods = choose_run_methods()
        metrics = choose_run_metrics(None if found is None else found[1])
        centre = st.checkbox(
            "Also measure a bump in the centre",
            value=True,
            key="centre",
            bind="query-params",
            help="A map that knows of no model: what photographers' habit alone scores.",
        )
    if found is None:
        return None
    if not methods or not metrics:
        st.info("Choose at least one method and one metric.")
        return None
    check(methods, metrics)
    origin, data = found
    options = RunOptions("centre" if centre else (), targets, shard_size=SHARD)
    count = min(len(data), origin.limit or len(data))
    return Wanted(origin, count, model, trained, methods, metrics, options)


def _costs(call: Call, count: int) -> None:
    box = controls.lazy_box("What it costs", ":material/timer:", "costs")
    if box is None:
        return
    with box:
        passes = ["| for each image | passes through the network |", "|---|---|"]
        passes += [f"| {name} | {cost} |" for name, cost in costs(call.methods, cam.methods())]
        passes += [
            f"| {name}, of each method's map | {cost} |"
            for name, cost in costs(call.metrics, cam.metrics())
        ]
        st.markdown("\n".join(passes))
        wanted = json.dumps(call.facts())
        if st.button("Measure it on an image", key="estimate"):
            st.session_state["estimated"] = wanted
        if st.session_state.get("estimated") != wanted:
            return
        try:
            model, data = run_jobs.model_of(call), allowed_roots.open_data(call.data)
            found = jobs.result(
                ("estimate", wanted),
                "Measuring an image, after one that warms up",
                lambda tell: estimate(call.plan(model, data), 1, tell),
            )
        except cam.CamError as error:
            st.error(controls.sentence(error))
            return
        if found is not None:
            st.markdown(
                f"**About {duration(found.seconds * count)}** for {count:,} images: "
                f"{found.forwards:,.0f} forward and {found.backwards:,.0f} backward passes and "
                f"{found.seconds:.2g} s each, as measured here just now. Images that share a batch "
                f"take less. The run's folder will hold at most about {size(found.stored * count)}."
            )


def _start(name: str, call: Call) -> None:
    try:
        path = allowed_roots.run_path(name)
        # Before it is: a second click may come in between, and finds that it is started.
        st.session_state[_STARTED] = name
        run_jobs.start(path, call)
    except cam.CamError as error:
        st.session_state.pop(_STARTED, None)
        st.error(controls.sentence(error))
        return
    st.rerun()


def greet_started() -> bool:
    """Close the form behind a run that was started with it, and say so; before it is drawn."""
    name = st.session_state.pop(_STARTED, None)
    if name is None or not run_jobs.known(allowed_roots.run_path(name)):
        return False
    st.session_state["start"] = False
    # The next one gets a name of its own.
    st.session_state[_FORGET] = True
    st.toast(f"The run {name} is started.", icon=":material/play_arrow:")
    return True


def _code(name: str, call: Call, uploaded: bool) -> None:
    box = controls.lazy_box("Copy as Python or as a command", ":material/code:", "code")
    if box is None:
        return
    try:
        out = str(allowed_roots.run_path(name))
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    with box:
        st.code(call.python(out, resources.SEED), language="python")
        st.code(call.command(_short(out)), language="bash", wrap_lines=True)
        small(
            "The same call goes on with a run that was stopped, here or there."
            if call.model.weights
            else "Random weights are drawn anew at each start of the command line: such a run goes "
            "on from here, or from Python with the seed."
        )
        if uploaded:
            small("The weights that you uploaded lie there as soon as the run is started here.")


def _short(out: str) -> str:
    """Relative where it is, as people type it."""
    path = Path(out)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else out
