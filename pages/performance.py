"""Measure how fast explanations are on this machine, and why."""

from cam.pages.ui.server import router

router.require()

import streamlit as st
import torch

from cam.pages.ui.performance import clip_view as clip
from cam.pages.ui.performance import precision_view as precision
from cam.pages.ui.performance import speed_view as speed
from cam.pages.ui.performance.compile_report import compile_report
from cam.pages.ui.performance.recorded_view import recorded
from cam.pages.ui.performance.traffic_view import traffic
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls

PARTS = [
    "Speed", "Batch size", "Methods in one pass", "Precision", "Clip",
    "Memory traffic", "Compiler", "Recorded results",
]  # fmt: skip
SIZES = [1, 4, 8, 16]


def main() -> None:
    """Draw the part that is chosen; nothing is measured before a button is pressed."""
    st.title("Performance", anchor=False)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    st.markdown(
        "How fast explanations are **on this machine**. Every speed is measured when you ask for "
        "it; what comes from elsewhere says so. "
        + (f"It runs on {where}." if where else "There is no GPU here: this is what the CPU gives.")
    )
    subject = subject_form.choose_subject()
    if subject is None:
        return
    controls.check_link("part", "part", PARTS)
    part = st.pills("Part", PARTS, default=PARTS[0], required=True, key="part", bind="query-params")
    st.header(part, anchor=False)
    size = 1
    if part in ("Speed", "Methods in one pass"):
        controls.check_link("batch", "batch size", map(str, SIZES))
        size = st.segmented_control(
            "Pictures at once",
            SIZES,
            default=SIZES[0],
            required=True,
            key="batch",
            bind="query-params",
        )
    code = draw(part, subject, size)
    if code and (box := controls.lazy_box("Copy as Python", ":material/code:", "code")):
        with box:
            picture = subject.picture if "photo" in code else None
            start = controls.model_and_photo(subject.name, subject.trained, picture)
            st.code(_after(start, code) if "model" in code else code, language="python")


def _after(start: str, code: str) -> str:
    """A part's Python behind the lines that load model and photo, its imports beside theirs."""
    lines = code.splitlines(keepends=True)
    imports = [line for line in lines if line.startswith(("from ", "import "))]
    rest = "".join(line for line in lines if line not in imports)
    own = "".join(line for line in imports if line.startswith("from cam"))
    standard = "".join(line for line in imports if not line.startswith("from cam"))
    head = f"{standard}\nimport cam\n{own}".lstrip("\n")
    return start.replace("import cam\n", head, 1) + rest.lstrip("\n")


def draw(part: str, subject: Subject, size: int) -> str:
    """Draw a part; the answer is the Python behind it, after model and photo."""
    batch = f"batch = model.prepare([photo] * {size})\n"
    if part == "Speed":
        speed.contenders(subject, size)
        return batch + (
            "from cam._performance import speed\n\n"
            f"found = speed.race(model, batch, rounds={speed.ROUNDS})\n"
            "for name, one in found.speeds.items():\n    print(name, one.images_per_second)\n"
        )
    if part == "Batch size":
        speed.batch_sizes(subject)
        return batch + (
            "from cam._performance import speed\n\n"
            f"print(speed.by_batch_size(model, batch, {speed.SIZES}, rounds={speed.ROUNDS}))\n"
        )
    if part == "Methods in one pass":
        speed.one_pass(subject, size)
        return batch + (
            "from cam._performance import speed\n\n"
            f"found = speed.together(model, batch, rounds={speed.ROUNDS})\n"
            "for count, timing in found.joint.items():\n"
            "    print(count, timing.median, found.one_by_one(count))\n"
        )
    if part == "Precision":
        precision.precisions(subject)
        chosen = tuple(st.session_state["precisions"])
        return batch + (
            "from cam._performance import speed\n\n"
            f"found = speed.by_precision(\n    model, batch, {precision.METHODS}, {chosen}, "
            f"rounds={precision.ROUNDS}\n)\n"
            "for one in found:\n"
            "    print(one.method, one.precision, one.speed.images_per_second, one.spearman)\n"
        )
    if part == "Clip":
        with st.sidebar:
            target = subject_form.choose_target(subject.model, subject.order)
            layer = subject_form.choose_layer(subject.model)
        clip.explain(subject, target, layer)
        state = st.session_state
        source = clip.source(subject)
        return (
            "from pathlib import Path\n\n"
            f"from cam._output.clip import explain_clip, {source.split('(')[0]}\n\n"
            f"film = {source}\n"
            f"found = explain_clip(\n    model, film, {state['clip_method']!r}, {target!r}, "
            f"{layer!r}, smoothing={state['smoothing']}, colormap='inferno'\n)\n"
            "Path('explained.webp').write_bytes(found.encoded())\n"
            "Path('explained.mp4').write_bytes(found.encoded('MP4'))\n"
        )
    if part == "Memory traffic":
        return traffic(subject)
    if part == "Compiler":
        return compile_report()
    return recorded()


main()
