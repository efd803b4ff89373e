"""Start a run: data, model, methods, metrics, cost and code."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

import cam
from cam._data.dataset import DataOrigin
from cam._formatting import duration, size
from cam._runs.engines.estimate import estimate
from cam._runs.plan.options import TARGETS, RunOptions
from cam._runs.plan.run_call import Call, Named
from cam.pages.ui.datasets import method_trials, run_jobs
from cam.pages.ui.datasets.data_form import choose_data
from cam.pages.ui.datasets.method_choices import (
    check,
    choose_run_methods,
    choose_run_metrics,
    list_costs,
)
from cam.pages.ui.server import allowed_roots, jobs, resources, weight_downloads
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import ModelChoice
from cam.pages.ui.state.visitor import get_visitor
from cam.pages.ui.subject import run_checkpoints, subject_form
from cam.pages.ui.widgets import links
from cam.pages.ui.widgets.controls import draw_lazily
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import report_errors, write_small

# A shard is what a progress bar sees, and what a kill may cost.
SHARD = 4
TARGET_TITLES = {
    "data": "The data's class, or the top class where there is none",
    "predicted": "Always the class that the model predicts",
}


@dataclass(frozen=True)
class Draft:
    """A run as it was chosen.

    Attributes:
        data: Where they come from.
        count: How many of them.
        model: The model's name and weights.
        methods: Names and parameters.
        metrics: The same of metrics.
        options: The others of :func:`cam.evaluate`.
    """

    data: DataOrigin
    count: int
    model: ModelChoice
    methods: tuple[Named, ...]
    metrics: tuple[Named, ...]
    options: RunOptions

    @property
    def call(self) -> Call:
        """The call that starts the run."""
        model = run_checkpoints.make_origin(self.model)
        return Call(model, self.data, self.methods, self.metrics, self.options)


def show_form() -> None:
    """Show the form; what is wrong with it is one sentence where its cause is."""
    with report_errors():
        draft = _choose()
        if draft is None:
            return
        # Below every widget that the address holds: one that comes with the end of a download
        # would not get into it.
        here, settled = weight_downloads.ensure_weights(draft.model), False
        if here:
            methods, settled = method_trials.select_working(draft.model, draft.methods)
            draft = replace(draft, methods=methods)
        _draw_start(draft, here, settled)


def _draw_start(draft: Draft, here: bool, settled: bool) -> None:
    """Draw costs, name, button and code.

    Args:
        draft: What was chosen.
        here: Whether the model's weights are on this server.
        settled: Whether the methods were tried on it.
    """
    if not draft.methods:
        st.info("None of the chosen methods runs on this model: choose another one.")
        return
    if here:
        draw_lazily("Estimate runtime", "timer", "costs", _draw_costs, draft)
    free, visitor = run_jobs.find_free_name(), get_visitor()
    # A new field after each start: the next run gets another name.
    key = f"name_{visitor.runs}"
    typed = st.text_input("Name of the run", key=key, max_chars=80, placeholder=free)
    name = typed.strip() or free
    about = None if settled else "As soon as the model is here and the methods were tried on it."
    more: dict[str, Any] = {"type": "primary", "icon": ":material/play_arrow:", "help": about}
    if st.button("Start the run", key="go", disabled=not settled, **more):
        _start(name, draft.call)
    draw_lazily("Copy as Python or as a command", "code", "code", _draw_code, name, draft)


def _choose() -> Draft | None:
    """Choose a run; None, and a sentence, while something is missing.

    Raises:
        CamError: Something is out of range.
    """
    # What is wrong with the data, or missing, must not take the other choices away.
    source = None
    with report_errors():
        source = choose_data()
    left, right = st.columns(2)
    with left:
        model = subject_form.choose_model(address.read_selection())
        titles = {name: TARGET_TITLES[name] for name in TARGETS}
        targets = choose("What is explained", titles, "targets", "target")
    with right:
        methods = choose_run_methods()
        metrics = choose_run_metrics(None if source is None else source[1])
        label = "Centre-prior baseline (Gaussian)"
        about = "A map that ignores model and image: what the centre alone scores."
        centre = links.check(label, "centre", True, help=about)
    if source is None:
        return None
    if not methods or not metrics:
        st.info("Choose at least one method and one metric.")
        return None
    check(methods, metrics)
    origin, data = source
    options = RunOptions("centre" if centre else (), targets, shard_size=SHARD)
    count = min(len(data), origin.limit or len(data))
    return Draft(origin, count, model, methods, metrics, options)


def _draw_costs(draft: Draft) -> None:
    """Draw the passes of each method and metric, and measure an image on request."""
    rows = ["| for each image | passes through the network |", "|---|---|"]
    rows += [f"| {name} | {cost} |" for name, cost in list_costs(draft.methods, cam.methods())]
    rows += [
        f"| {name}, of each method's map | {cost} |"
        for name, cost in list_costs(draft.metrics, cam.metrics())
    ]
    st.markdown("\n".join(rows))
    call = draft.call
    key = json.dumps(call.facts())
    if st.button("Measure on one image", key="estimate"):
        get_visitor().estimated = key
    if get_visitor().estimated != key:
        return
    with report_errors():
        model, data = run_jobs.load_model(call), allowed_roots.open_data(call.data)
        costs = jobs.wait_for(
            ("estimate", key),
            "Measuring an image, after one that warms up",
            lambda tell: estimate(call.plan(model, data), 1, tell),
        )
        if costs is not None:
            count, stored = draft.count, size(costs.stored * draft.count)
            st.markdown(
                f"**About {duration(costs.seconds * count)}** for {count:,} images: "
                f"{costs.forwards:,.0f} forward and {costs.backwards:,.0f} backward passes and "
                f"{costs.seconds:.2g} s each, as measured here just now. Images that share a batch "
                f"take less. The run's folder will hold at most about {stored}."
            )


def _start(name: str, call: Call) -> None:
    with report_errors():
        path = allowed_roots.get_run_path(name)
        # Before it is: a second click may come in between, and finds that it is started.
        get_visitor().started = name
        run_jobs.start(path, call)
        st.rerun()
    get_visitor().started = None


def greet_started() -> bool:
    """Close the form behind a run that was started with it, and say so; before it is drawn."""
    visitor = get_visitor()
    name, visitor.started = visitor.started, None
    if name is None or not run_jobs.exists(allowed_roots.get_run_path(name)):
        return False
    address.write({"start": None})
    visitor.runs += 1
    st.toast(f"The run {name} is started.", icon=":material/play_arrow:")
    return True


def _draw_code(name: str, draft: Draft) -> None:
    with report_errors():
        path, call = allowed_roots.get_run_path(name), draft.call
        st.code(call.python(str(path), resources.SEED), language="python")
        here = Path.cwd()
        # Relative where it is, as people type it.
        short = path.relative_to(here) if path.is_relative_to(here) else path
        st.code(call.command(str(short)), language="bash", wrap_lines=True)
        write_small(
            "The same call goes on with a run that was stopped, here or there."
            if call.model.weights
            else "Random weights are drawn anew at each start of the command line: such a run goes "
            "on from here, or from Python with the seed."
        )
        if draft.model.weights.upload:
            write_small(
                "The weights that you uploaded lie there as soon as the run is started here."
            )
