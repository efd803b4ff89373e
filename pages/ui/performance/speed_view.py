"""Measure contenders, batch sizes and several methods in one pass."""

import streamlit as st
from torch import Tensor

import cam
from cam._performance import speed
from cam.pages.ui.performance import bars
from cam.pages.ui.performance.measurement_job import measure, timed
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.charts import CHOSEN, OTHERS
from cam.pages.ui.widgets.text import small

ROUNDS = 5
SIZES = (1, 2, 4, 8, 16)


def key_of(subject: Subject, *more: object) -> tuple[object, ...]:
    """Everything that determines a measurement."""
    return (subject.name, subject.trained, subject.picture.digest, *more)


def batch_of(subject: Subject, size: int) -> tuple[cam.Model, Tensor]:
    """The picture, repeated."""
    one = subject.model.prepare(subject.picture.photo)
    return subject.model, one.expand(size, -1, -1, -1).contiguous()


def contenders(subject: Subject, size: int) -> None:
    """Images per second of plain inference, this engine and the installed peers."""
    st.markdown(
        "Images a second on this machine: plain inference, this engine, and the other packages "
        "that are installed, in turns, on the same model and picture."
    )

    def work(report: speed.Report) -> speed.Race:
        model, batch = batch_of(subject, size)
        return speed.race(model, batch, ROUNDS, report=report)

    about = f"Medians of {ROUNDS} interleaved rounds; {subject.name}, batch of {size};"
    measure(key_of(subject, "race", size), "Measuring", timed(work, about), draw_race)


def draw_race(found: speed.Race) -> None:
    """The contenders as far as they are measured."""
    mine, plain = found.speeds.get(speed.OURS), found.speeds.get(speed.INFERENCE)
    figures = []
    if mine:
        figures.append((f"{mine.images_per_second:.1f}", "images a second with Grad-CAM"))
    if mine and plain:
        share = mine.images_per_second / plain.images_per_second
        figures.append((f"{share:.0%}", "of the speed of plain inference"))
    if every := found.every.get(speed.OURS):
        maps = every.maps * every.images_per_second
        figures.append((f"{maps:.1f}", f"maps a second, {every.maps} methods in one pass"))
    st.html(bars.headline(figures))
    for title, speeds in (
        ("Grad-CAM, images a second", found.speeds),
        ("All gradient CAMs, images a second", found.every),
    ):
        if not speeds:
            continue
        st.markdown(f"**{title}**")
        rows = [
            (
                _name(name, one.maps),
                one.images_per_second,
                f"{one.images_per_second:.2f}",
                bars.colour_of(name, speed.OURS, speed.INFERENCE),
            )
            for name, one in speeds.items()
        ]
        st.html(bars.bars(rows, title))
    if found.absent:
        small(f"Not installed here, so not measured: {', '.join(found.absent)}.")
    for package, reason in found.refused.items():
        small(f"{package} cannot explain this model here: {reason}.")


def _name(name: str, maps: int) -> str:
    title = {speed.OURS: "this engine", speed.INFERENCE: "plain inference, no map"}.get(name, name)
    if maps <= 1:
        return title
    how = "one call" if name == speed.OURS else "one explainer after another"
    return f"{title}: {maps} methods, {how}"


def batch_sizes(subject: Subject) -> None:
    """Throughput over the size of the batch."""
    st.markdown("Images a second of plain inference and of Grad-CAM, with more pictures at once.")

    def work(report: speed.Report) -> dict[int, dict[str, speed.Speed]]:
        model, batch = batch_of(subject, 1)
        return speed.by_batch_size(model, batch, SIZES, ROUNDS, report=report)

    about = f"Medians of {ROUNDS} interleaved rounds; {subject.name};"
    measure(key_of(subject, "sizes"), "Measuring", timed(work, about), draw_sizes)


def draw_sizes(found: dict[int, dict[str, speed.Speed]]) -> None:
    """The best of them, and two bars a size."""
    ours = {
        size: speeds[speed.OURS].images_per_second
        for size, speeds in found.items()
        if speed.OURS in speeds
    }
    if ours:
        best = max(ours, key=lambda size: ours[size])
        figures = [(f"{ours[best]:.1f}", f"images a second at best: Grad-CAM, {best} at once")]
        if best > 1:
            figures.append((f"{ours[best] / ours[1]:.1f} ×", "as many as one at a time"))
        st.html(bars.headline(figures))
    rows = [
        (
            f"{size} at once: {'Grad-CAM' if name == speed.OURS else 'plain inference'}",
            one.images_per_second,
            f"{one.images_per_second:.1f} images/s",
            bars.colour_of(name, speed.OURS, speed.INFERENCE),
        )
        for size, speeds in found.items()
        for name, one in speeds.items()
    ]
    st.html(bars.bars(rows, "Images a second by batch size", together=2))


def one_pass(subject: Subject, size: int) -> None:
    """How many methods fit in one pass."""
    st.markdown("Several methods in **one call**, beside the same methods in calls of their own.")

    def work(report: speed.Report) -> speed.Together:
        model, batch = batch_of(subject, size)
        return speed.together(model, batch, rounds=ROUNDS, report=report)

    about = f"Medians of {ROUNDS} interleaved rounds; {subject.name}, batch of {size};"
    measure(key_of(subject, "together", size), "Measuring", timed(work, about), draw_together)


def draw_together(found: speed.Together) -> None:
    """Two bars a count."""
    rows, last = [], None
    for count, timing in found.joint.items():
        single = found.one_by_one(count)
        what = f"{count} method{'s' * (count > 1)}"
        rows.append((f"{what}, one call", timing.median, f"{1000 * timing.median:.0f} ms", CHOSEN))
        if single is not None:
            rows.append((f"{what}, one by one", single, f"{1000 * single:.0f} ms", OTHERS))
            last = (count, single / timing.median)
    if last:
        count, times = last
        calls = found.joint[count].median / found.joint[1].median
        st.html(
            bars.headline(
                [
                    (f"{times:.1f} ×", f"as fast as one by one: {count} methods in one call"),
                    (f"{calls:.1f} ×", f"the time of one method, for {count} of them"),
                ]
            )
        )
    st.html(bars.bars(rows, "Milliseconds by number of methods", together=2))
    if found.singles:
        titles = [cam.methods()[name].title for name in speed.EVERY_GRADIENT_METHOD]
        small(f"In this order: {' · '.join(titles)}, which goes back to the pixels.")
