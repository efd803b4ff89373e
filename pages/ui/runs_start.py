"""The form that starts a run: data, model, methods, metrics, what it costs, and its code."""

import json
from pathlib import Path
from typing import Any

import streamlit as st

import cam
from cam.data.dataset import DataOrigin, Dataset
from cam.evaluate.call import Call
from cam.evaluate.plan import TARGETS
from cam.evaluate.trial import trial
from cam.models.model import ModelOrigin
from cam.wording import duration
from pages.ui import choosing, controls, jobs, resources, roots, runs_jobs
from pages.ui.resources import Weights
from pages.ui.steps import small

GRID, OWN = "Photo grid", "Folder or list"
METHODS = ("gradcam", "saliency")
METRICS = ("deletion", "insertion")
# Of the photo grid, which knows where each class is.
LOCATED = "grid_pointing_game"
SIZE = 16
# A shard is what a progress bar sees, and what a kill may cost.
SHARD = 4
TARGET_TITLES = {
    "data": "The data's class, or the top class where there is none",
    "predicted": "Always the class that the model predicts",
}


def show_form() -> None:
    """The form; what is wrong with it is one sentence at its end."""
    try:
        origin = _choose_data()
        data = None if origin is None else _opened(json.dumps([origin.source, origin.options]))
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    if origin is None or data is None:
        return
    left, right = st.columns(2)
    with left:
        model, trained = choosing.choose_model()
        targets = _choose_targets(data)
    with right:
        methods = _choose_methods()
        metrics = _choose_metrics(data)
        centre = st.checkbox(
            "Also measure a bump in the centre",
            value=True,
            key="centre",
            bind="query-params",
            help="A map that knows of no model: what photographers' habit alone scores.",
        )
    if not methods or not metrics:
        st.info("Choose at least one method and one metric.")
        return
    options: dict[str, Any] = {"shard_size": SHARD}
    options |= {"baselines": ("centre",)} if centre else {}
    options |= {"targets": targets} if targets != TARGETS[0] else {}
    call = Call(
        ModelOrigin(model, _weights(trained), None),
        origin,
        tuple((one, {}) for one in methods),
        tuple((one, {}) for one in metrics),
        options,
    )
    count = min(len(data), origin.limit or len(data))
    _costs(call, count)
    name = st.text_input("Name of the run", value=roots.free_name("run"), key="name", max_chars=80)
    if st.button("Start the run", type="primary", icon=":material/play_arrow:", key="go"):
        _start(name, call)
    _code(name, call, trained)


def _weights(trained: Weights) -> str | None:
    """The weights as :func:`cam.load_model` takes them."""
    return trained if isinstance(trained, str) else "DEFAULT" if trained else None


def _choose_data() -> DataOrigin | None:
    allowed = bool(roots.data_roots())
    kind = GRID
    if allowed:
        controls.check_link("data", "data", (GRID, OWN))
        kind = st.segmented_control(
            "Data", (GRID, OWN), default=GRID, required=True, key="data", bind="query-params"
        )
    if kind == GRID:
        small(
            "**The photo grid**: mosaics of four bundled photos. Each asks for the class of one of "
            "its cells, so where the evidence should lie is known, and nothing is downloaded."
            + ("" if allowed else " The operator of a server can allow folders of pictures too.")
        )
        size, cells, seed = st.columns(3)
        with size:
            number = st.number_input("Images", 1, 5000, SIZE, key="size", bind="query-params")
        with cells:
            side = st.number_input("Cells a side", 2, 7, 2, key="cells", bind="query-params")
        with seed:
            drawn = st.number_input("Seed", 0, 10**9, 0, key="seed", bind="query-params")
        return DataOrigin("photo-grid", {"size": number, "n": side, "seed": drawn})
    source = st.selectbox(
        "Folder of pictures, CSV, COCO's JSON, or the root of VOC or Pet",
        roots.offers(),
        index=None,
        accept_new_options=True,
        key="source",
        bind="query-params",
        placeholder="Choose, or write a path below an allowed folder",
    )
    limit = st.number_input(
        "At most so many images, evenly spaced", 1, 1_000_000, 64, key="limit", bind="query-params"
    )
    return None if source is None else DataOrigin(source, {}, limit)


@st.cache_resource(max_entries=8, ttl=60, show_spinner="Looking at the data …")
def _opened(wanted: str) -> Dataset:
    source, options = json.loads(wanted)
    return roots.open_data(DataOrigin(source, options))


def _choose_targets(data: Dataset) -> str:
    chosen: str = st.selectbox(
        "What is explained",
        TARGETS,
        format_func=TARGET_TITLES.__getitem__,
        key="targets",
        bind="query-params",
    )
    if data.refused:
        st.warning(
            f"{len(data.refused):,} entries of the data cannot become images, such as "
            f"{data.refused[0][0]}: {data.refused[0][1]}."
        )
    return chosen


def _choose_methods() -> list[str]:
    known = cam.methods()
    controls.check_link("run_methods", "method", [one.title for one in known.values()])
    return st.multiselect(
        "Methods",
        list(known),
        default=list(METHODS),
        format_func=lambda name: known[name].title,
        key="run_methods",
        bind="query-params",
    )


def _choose_metrics(data: Dataset) -> list[str]:
    """Those that compare with the truth are offered only where the data have one."""
    known = {
        name: info for name, info in cam.metrics().items() if data.has_masks or not info.needs_masks
    }
    usual = [*METRICS, LOCATED] if LOCATED in known else list(METRICS)
    controls.check_link("run_metrics", "metric", [one.title for one in known.values()])
    chosen: list[str] = st.multiselect(
        "Metrics",
        list(known),
        default=usual,
        format_func=lambda name: known[name].title,
        key="run_metrics",
        bind="query-params",
    )
    if not data.has_masks:
        small("Metrics of where the object is are left out: these data do not say where it is.")
    return chosen


def _costs(call: Call, count: int) -> None:
    box = controls.lazy_box("What it costs", ":material/timer:", "costs")
    if box is None:
        return
    with box:
        st.markdown(
            "\n".join(
                ["| for each image | passes through the network |", "|---|---|"]
                + [
                    f"| {cam.methods()[k].title} | {cam.methods()[k].cost} |"
                    for k, _ in call.methods
                ]
                + [
                    f"| {cam.metrics()[k].title}, of each method's map | {cam.metrics()[k].cost} |"
                    for k, _ in call.metrics
                ]
            )
        )
        wanted = json.dumps(call.facts())
        if st.button("Measure it on two images", key="estimate"):
            st.session_state["estimated"] = wanted
        if st.session_state.get("estimated") != wanted:
            return
        try:
            model, data = runs_jobs.model_of(call), roots.open_data(call.data)
            found = jobs.result(
                ("estimate", wanted),
                "Measuring two images",
                lambda tell: trial(
                    model, data, call.arguments(), lambda p: tell(p.done / max(p.total, 1))
                ),
            )
        except cam.CamError as error:
            st.error(controls.sentence(error))
            return
        if found is not None:
            st.markdown(
                f"**About {duration(found.seconds)}** for {count:,} images, "
                f"{found.seconds / count:.2g} s each, as measured here just now. Images that share "
                "a batch take less."
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


def _code(name: str, call: Call, trained: Weights) -> None:
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
            if trained
            else "Random weights are drawn anew at each start of the command line: such a run goes "
            "on from here, or from Python with the seed."
        )


def _short(out: str) -> str:
    """Relative where it is, as people type it."""
    path = Path(out)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else out
