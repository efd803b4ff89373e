"""Measure contenders, batch sizes and several methods in one pass."""

from functools import partial

import streamlit as st

import cam
from cam._performance import speed
from cam.pages.ui.charts.bars import Bar, draw_bars, draw_figures
from cam.pages.ui.charts.colours import HIGHLIGHT, NEUTRAL, OTHERS
from cam.pages.ui.performance.measurement_job import measure_speed
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import write_small

ROUNDS = 5
SIZES = (1, 2, 4, 8, 16)
# This library's bars in one colour, plain inference in grey, the others in another.
COLOURS = {speed.OURS: HIGHLIGHT, speed.INFERENCE: NEUTRAL}


def _choose_size() -> int:
    """Choose how many pictures are explained at once."""
    sizes = ["1", "4", "8", "16"]
    return int(choose("Pictures at once", sizes, "batch", "batch size", segments=True))


def show_contenders(subject: Subject) -> str:
    """Show images per second of plain inference, this engine and the installed peers.

    Returns:
        The Python behind it, as of every part of the page.
    """
    size = _choose_size()
    st.markdown(
        "Images a second on this machine: plain inference, this engine, and the other packages "
        "that are installed, in turns, on the same model and picture."
    )
    code = (
        f"race = speed.race(model, batch, rounds={ROUNDS})\n"
        "for name, measured in race.speeds.items():\n"
        "    print(name, measured.images_per_second)\n"
    )
    return measure_speed(subject, speed.race, _draw_race, ROUNDS, code, size)


def _draw_race(race: speed.Race) -> None:
    """Draw the contenders as far as they are measured."""
    mine, plain = race.speeds.get(speed.OURS), race.speeds.get(speed.INFERENCE)
    figures = []
    if mine:
        figures.append((f"{mine.images_per_second:.1f}", "images a second with Grad-CAM"))
    if mine and plain:
        share = mine.images_per_second / plain.images_per_second
        figures.append((f"{share:.0%}", "of the speed of plain inference"))
    if every := race.every.get(speed.OURS):
        maps = every.maps * every.images_per_second
        figures.append((f"{maps:.1f}", f"maps a second, {every.maps} methods in one pass"))
    st.html(draw_figures(figures))
    for title, speeds in (
        ("Grad-CAM, images a second", race.speeds),
        ("All gradient CAMs, images a second", race.every),
    ):
        if not speeds:
            continue
        st.markdown(f"**{title}**")
        rows = [
            _make_bar(_title_contender(name, contender.maps), name, contender, ".2f", "")
            for name, contender in speeds.items()
        ]
        st.html(draw_bars(rows, title))
    if race.absent:
        write_small(f"Not installed here, so not measured: {', '.join(race.absent)}.")
    for package, reason in race.refused.items():
        write_small(f"{package} cannot explain this model here: {reason}.")


def _make_bar(title: str, name: str, contender: speed.Speed, form: str, unit: str) -> Bar:
    per_second = contender.images_per_second
    figure = f"{per_second:{form}}{unit}"
    return Bar(title, per_second, figure, COLOURS.get(name, OTHERS))


def _title_contender(name: str, maps: int) -> str:
    title = {speed.OURS: "this engine", speed.INFERENCE: "plain inference, no map"}.get(name, name)
    if maps <= 1:
        return title
    how = "one call" if name == speed.OURS else "one explainer after another"
    return f"{title}: {maps} methods, {how}"


def show_batch_sizes(subject: Subject) -> str:
    """Show throughput over the size of the batch."""
    st.markdown("Images a second of plain inference and of Grad-CAM, with more pictures at once.")
    run = partial(speed.by_batch_size, sizes=SIZES)
    code = f"print(speed.by_batch_size(model, batch, {SIZES}, rounds={ROUNDS}))\n"
    return measure_speed(subject, run, _draw_sizes, ROUNDS, code)


def _draw_sizes(measured: dict[int, dict[str, speed.Speed]]) -> None:
    """Draw the best of them, and two bars a size."""
    ours = {
        size: speeds[speed.OURS].images_per_second
        for size, speeds in measured.items()
        if speed.OURS in speeds
    }
    if ours:
        best = max(ours, key=lambda size: ours[size])
        figures = [(f"{ours[best]:.1f}", f"images a second at best: Grad-CAM, {best} at once")]
        if best > 1:
            figures.append((f"{ours[best] / ours[1]:.1f} ×", "as many as one at a time"))
        st.html(draw_figures(figures))
    titles = {speed.OURS: "Grad-CAM", speed.INFERENCE: "plain inference"}
    rows = [
        _make_bar(f"{size} at once: {titles[name]}", name, contender, ".1f", " images/s")
        for size, speeds in measured.items()
        for name, contender in speeds.items()
    ]
    st.html(draw_bars(rows, "Images a second by batch size", together=2))


def show_one_pass(subject: Subject) -> str:
    """Show how many methods fit in one pass."""
    size = _choose_size()
    st.markdown("Several methods in **one call**, beside the same methods in separate calls.")
    code = (
        f"together = speed.together(model, batch, rounds={ROUNDS})\n"
        "for count, timing in together.joint.items():\n"
        "    print(count, timing.median, together.one_by_one(count))\n"
    )
    return measure_speed(subject, speed.together, _draw_together, ROUNDS, code, size)


def _draw_together(together: speed.Together) -> None:
    """Draw two bars a count."""
    rows, last = [], None
    for count, timing in together.joint.items():
        single = together.one_by_one(count)
        what = f"{count} method{'s' * (count > 1)}"
        figure = f"{1000 * timing.median:.0f} ms"
        rows.append(Bar(f"{what}, one call", timing.median, figure, HIGHLIGHT))
        if single is not None:
            rows.append(Bar(f"{what}, one by one", single, f"{1000 * single:.0f} ms", OTHERS))
            last = (count, single / timing.median)
    if last:
        count, times = last
        calls = together.joint[count].median / together.joint[1].median
        figures = [
            (f"{times:.1f} ×", f"as fast as one by one: {count} methods in one call"),
            (f"{calls:.1f} ×", f"the time of one method, for {count} of them"),
        ]
        st.html(draw_figures(figures))
    st.html(draw_bars(rows, "Milliseconds by number of methods", together=2))
    if together.singles:
        titles = [cam.methods()[name].title for name in speed.EVERY_GRADIENT_METHOD]
        write_small(f"In this order: {' · '.join(titles)}, which goes back to the pixels.")
