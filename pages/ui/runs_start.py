"""The form that starts a run: data, model, methods, metrics, what it costs, and its code."""

import json
from pathlib import Path
from typing import Any

import streamlit as st

import cam
from cam.evaluate.call import Call
from cam.evaluate.estimate import estimate
from cam.evaluate.plan import TARGETS
from cam.models.model import ModelOrigin
from cam.wording import duration, size
from pages.ui import choosing, controls, jobs, resources, roots, runs_jobs
from pages.ui.resources import Weights
from pages.ui.runs_choices import choose_run_methods, choose_run_metrics, costs
from pages.ui.runs_data import choose_data
from pages.ui.steps import small

# A shard is what a progress bar sees, and what a kill may cost.
SHARD = 4
TARGET_TITLES = {
    "data": "The data's class, or the top class where there is none",
    "predicted": "Always the class that the model predicts",
}


def show_form() -> None:
    """The form; what is wrong with it is one sentence at its end."""
    try:
        call, count = _choose()
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    if call is None:
        return
    _costs(call, count)
    name = st.text_input("Name of the run", value=roots.free_name("run"), key="name", max_chars=80)
    if st.button("Start the run", type="primary", icon=":material/play_arrow:", key="go"):
        _start(name, call)
    _code(name, call)


def _choose() -> tuple[Call | None, int]:
    """The call and its number of items; None, and a sentence, while something is missing.

    Raises:
        CamError: Something that makes no sense.
    """
    found = choose_data()
    if found is None:
        return None, 0
    origin, data = found
    left, right = st.columns(2)
    with left:
        model, trained = choosing.choose_model()
        targets = st.selectbox(
            "What is explained",
            TARGETS,
            format_func=TARGET_TITLES.__getitem__,
            key="targets",
            bind="query-params",
        )
        methods = choose_run_methods()
    with right:
        metrics = choose_run_metrics(data)
        centre = st.checkbox(
            "Also measure a bump in the centre",
            value=True,
            key="centre",
            bind="query-params",
            help="A map that knows of no model: what photographers' habit alone scores.",
        )
    if not methods or not metrics:
        st.info("Choose at least one method and one metric.")
        return None, 0
    options: dict[str, Any] = {"shard_size": SHARD}
    options |= {"baselines": ("centre",)} if centre else {}
    options |= {"targets": targets} if targets != TARGETS[0] else {}
    call = Call(ModelOrigin(model, _weights(trained), None), origin, methods, metrics, options)
    return call, min(len(data), origin.limit or len(data))


def _weights(trained: Weights) -> str | None:
    """The weights as :func:`cam.load_model` takes them."""
    return trained if isinstance(trained, str) else "DEFAULT" if trained else None


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
            model, data = runs_jobs.model_of(call), roots.open_data(call.data)
            found = jobs.result(
                ("estimate", wanted),
                "Measuring an image, after one that warms up",
                lambda tell: estimate(runs_jobs.plan_of(call, model, data), 1, tell),
            )
        except cam.CamError as error:
            st.error(controls.sentence(error))
            return
        if found is not None:
            st.markdown(
                f"**About {duration(found.seconds * count)}** for {count:,} images: "
                f"{found.forwards:,.0f} forward and {found.backwards:,.0f} backward passes and "
                f"{found.seconds:.2g} s each, as measured here just now. Images that share a batch "
                f"take less. The run's folder will hold about {size(found.stored * count)}."
            )


def _start(name: str, call: Call) -> None:
    try:
        runs_jobs.start(roots.run_path(name.strip()), call)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    # The next one gets a name of its own.
    del st.session_state["name"]
    st.rerun()


def _code(name: str, call: Call) -> None:
    box = controls.lazy_box("Copy as Python or as a command", ":material/code:", "code")
    if box is None:
        return
    try:
        out = str(roots.run_path(name.strip()))
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


def _short(out: str) -> str:
    """Relative where it is, as people type it."""
    path = Path(out)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else out
