"""Show how fast explanations are, recorded and on this machine, and why."""

from cam.pages.ui.server import router

router.require()

from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

from cam._performance import speed
from cam._performance.recorded_speeds import Recording, read_recordings
from cam.pages.ui.live.live_view import show_live
from cam.pages.ui.performance import precision_view, speed_view, traffic_view
from cam.pages.ui.performance.compile_report import show_compile_report, write_compiling
from cam.pages.ui.performance.measurement_job import measure_speed
from cam.pages.ui.performance.panels import describe, show_panels
from cam.pages.ui.performance.recorded_view import show_recorded
from cam.pages.ui.present import present_view
from cam.pages.ui.state import address
from cam.pages.ui.state.selection import Selection
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls, view_record
from cam.pages.ui.widgets.image_viewer import offer_record
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import write_small
from cam.pages.ui.widgets.python_code import write_loading

BATCHES = ("1", "8")
SIZES = (1, 2, 4, 8, 16)
WHY = (
    "**Why more than 100 % of plain inference is possible.** Plain inference is the network as it "
    "was loaded, called without gradients in torch's default memory format. Grad-CAM runs the same "
    "forward pass with less memory traffic: on a CPU the batch norms of two or more images are "
    "written over the convolution outputs that they read, and where no ReLU follows the explained "
    "layer (as in most ResNets, not in EfficientNet-Lite) convolutions run channels last, which "
    "the second grey bar shows alone. The backward pass ends at the explained layer, the last "
    "convolutional one. All of it is in fp32. A single image of EfficientNet-Lite has neither "
    "advantage, so there the figure is below 100 %."
)


def main(selection: Selection) -> None:
    """Draw what is recorded at once, and a button for each measurement on this machine."""
    if present_view.show_present(selection):
        return
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.title("Performance", anchor=False)
        icon, start = ":material/present_to_all:", present_view.start_presenting
        st.button("Present", icon=icon, on_click=start, key="start_presenting")
        file = st.container(width="content")
    with view_record.record_view() as record:
        show_figures(selection)
    with file:
        offer_record(record, "Performance", "performance")


def show_figures(selection: Selection) -> None:
    """Show what is recorded, and what was measured here."""
    recordings = read_recordings()
    batch = _show_headline(recordings)
    subject = subject_form.choose_subject(selection)
    _show_contenders(recordings, subject, batch)
    _show_batch_sizes(recordings, subject)
    _show_one_pass(recordings, subject)
    precisions = _show_precisions(recordings, subject)
    view_record.header("Memory traffic", anchor="memory-traffic")
    traffic_code = traffic_view.show_traffic(subject) if subject else ""
    view_record.header("Compiler report", anchor="compiler-report")
    gpu = show_compile_report()
    if subject is not None:
        with view_record.pause_record():
            st.header("Live", anchor="live")
            show_live(subject)
    view_record.header("Recorded benchmarks", anchor="recorded-benchmarks")
    show_recorded()
    if subject is not None:
        more = [precision_view.write_code(precisions), traffic_code, write_compiling(gpu)]
        controls.draw_code(partial(_write_code, subject, batch, more))


def _show_headline(recordings: list[Recording]) -> int:
    """Show the figures of the fastest kind of device that is recorded; returns the batch's size."""
    batch = int(choose("Batch size", BATCHES, "batch", "batch size", segments=True))
    first = next((recording for recording in recordings if batch in recording.races), None)
    if first is None:
        view_record.info("No speed is recorded for this batch size; measure it below.")
        return batch
    speed_view.draw_headline(first.races[batch])
    write_small(f"**{first.device}**, batch of {batch}; {describe(first)}")
    return batch


def _prepare(
    subject: Subject | None,
    run: Callable[..., Any],
    draw: Callable[[Any], None],
    label: str,
    what: str,
    size: int = 1,
) -> Callable[[], None] | None:
    """Prepare a measurement on this server; None while there is nothing to measure."""
    if subject is None:
        return None
    return partial(measure_speed, subject, run, draw, label, what, size)


def _show_contenders(recordings: list[Recording], subject: Subject | None, batch: int) -> None:
    """Show plain inference, this library and the installed packages."""
    view_record.header("Beside plain inference and other packages", anchor="beside-plain-inference")
    view_record.markdown(
        "The same model, image and layer, in turns: plain inference, this library and other "
        f"packages. Behind each figure stands the percentage {speed_view.SHARE}. {speed_view.RATIO}"
    )
    measure = _prepare(subject, speed.race, speed_view.draw_race, "Measure speed", "race", batch)
    recorded = [
        (recording, recording.races[batch]) for recording in recordings if batch in recording.races
    ]
    show_panels(recorded, speed_view.draw_race, measure)
    if not any(recording.is_gpu for recording in recordings):
        write_small(
            "No GPU has been recorded yet: `python -m benchmarks.speed` or `make gpu-check` on a "
            "machine with one writes a file that this page then shows first."
        )
    view_record.markdown(WHY)


def _show_batch_sizes(recordings: list[Recording], subject: Subject | None) -> None:
    """Show throughput over the size of the batch."""
    view_record.header("Batch size", anchor="batch-size")
    view_record.markdown(
        "Grad-CAM beside plain inference of the same batch; behind each figure stands the "
        f"percentage {speed_view.SHARE}."
    )
    run = partial(speed.by_batch_size, sizes=SIZES)
    measure = _prepare(subject, run, speed_view.draw_sizes, "Measure batch sizes", "sizes")
    recorded = [(recording, recording.sizes) for recording in recordings if recording.sizes]
    show_panels(recorded, speed_view.draw_sizes, measure)


def _show_one_pass(recordings: list[Recording], subject: Subject | None) -> None:
    """Show how many methods fit in one pass."""
    view_record.header("Several methods in one pass", anchor="one-pass")
    view_record.markdown(
        "Several methods in **one call**, beside the same methods in separate calls."
    )
    measure = _prepare(
        subject, speed.together, speed_view.draw_together, "Measure methods in one pass", "together"
    )
    recorded = [(recording, recording.together) for recording in recordings if recording.together]
    show_panels(recorded, speed_view.draw_together, measure)


def _show_precisions(recordings: list[Recording], subject: Subject | None) -> tuple[str, ...]:
    """Show each precision's speed and how far its maps move; returns those that are chosen."""
    view_record.header("Precision", anchor="precision")
    view_record.markdown(
        "Reduced precision can be faster, and it moves the maps: look at both. Spearman is the "
        "rank correlation of a map with the one in fp32."
    )
    names = precision_view.choose_precisions(subject) if subject else ()
    measure = None
    if subject is not None:
        measure = partial(precision_view.measure_precisions, subject, names)
    recorded = [
        (recording, recording.precisions) for recording in recordings if recording.precisions
    ]
    show_panels(recorded, precision_view.draw_speeds, measure)
    return names


def _write_code(subject: Subject, batch: int, more: list[str]) -> str:
    imports = "import cam\nfrom cam._performance import speed\n"
    return (
        f"{write_loading(subject.choice, subject.picture, imports=imports)}"
        f"batch = model.prepare([photo] * {batch})\n"
        "race = speed.race(model, batch)\n"
        "plain = race.speeds[speed.INFERENCE]\n"
        "for name, timed in race.speeds.items():\n"
        "    print(name, timed.images_per_second, timed.relative_to(plain))\n"
        f"batch = model.prepare(photo)\nprint(speed.by_batch_size(model, batch, {SIZES}))\n"
        "together = speed.together(model, batch)\n"
        "for count, timing in together.joint.items():\n"
        "    print(count, timing.estimate, together.one_by_one(count).estimate)\n"
        f"{''.join(more)}"
    )


main(address.read_selection())
