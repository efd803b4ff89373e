"""Draw speeds beside plain inference: contenders, batch sizes, methods in one pass."""

from collections.abc import Mapping

import cam
from cam._performance import speed
from cam._performance.timing import Estimate
from cam.pages.ui.charts.bars import Bar, draw_bars, draw_figures
from cam.pages.ui.charts.colours import HIGHLIGHT, NEUTRAL, OTHERS
from cam.pages.ui.performance.estimates import (
    describe_interval,
    get_interval,
    write_estimate,
    write_interval,
    write_median,
    write_percent,
)
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.prose import write_small

# This library's bars in one colour, plain inference in grey, the others in another.
COLOURS = {speed.OURS: HIGHLIGHT, speed.INFERENCE: NEUTRAL, speed.LAST: NEUTRAL}
TITLES = {
    speed.INFERENCE: "plain inference, no map",
    speed.LAST: "plain inference, channels last",
    speed.OURS: "cam (this library)",
}
SHARE = "of plain inference's images/s"
RATIO = (
    "Every ratio compares images/s within a round; its median over the rounds is shown. The lines "
    "on the bars are 95 % intervals of these medians."
)
ORDER = (speed.INFERENCE, speed.LAST, speed.OURS)


def draw_headline(race: speed.Race) -> None:
    """Draw the figures that matter most, large, as far as they are measured."""
    mine, plain = race.speeds.get(speed.OURS), race.speeds.get(speed.INFERENCE)
    figures = []
    if mine:
        each = mine.images_per_second
        figures.append((write_median(each), f"images/s with Grad-CAM; {describe_interval(each)}"))
    if mine and plain:
        share = mine.relative_to(plain)
        about = describe_interval(share, 100, " %")
        figures.append((write_percent(share), f"{SHARE}; {about}"))
    if mine and (other := race.speeds.get("grad-cam")):
        times = mine.relative_to(other)
        about = describe_interval(times)
        figures.append((f"{write_median(times)} ×", f"grad-cam's images/s; {about}"))
    if every := race.every.get(speed.OURS):
        maps = every.maps_per_second
        about = f"maps/s, {every.maps} methods in one pass; {describe_interval(maps)}"
        figures.append((write_median(maps), about))
    view_record.html(draw_figures(figures))


def draw_race(race: speed.Race) -> None:
    """Draw the contenders as far as they are measured."""
    plain = race.speeds.get(speed.INFERENCE)
    for title, speeds in (
        ("Grad-CAM, images/s", race.speeds),
        ("All gradient CAMs, images/s", race.every),
    ):
        if not speeds:
            continue
        view_record.markdown(f"**{title}**")
        names = sorted(speeds, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
        rows = [
            _make_bar(_title_contender(name, speeds[name]), name, speeds[name], plain)
            for name in names
        ]
        view_record.html(draw_bars(rows, title))
    if race.absent:
        write_small(f"Not installed there, so not measured: {', '.join(race.absent)}.")
    for package, reason in race.refused.items():
        write_small(f"{package} cannot explain this model: {reason}.")


def _make_bar(title: str, name: str, contender: speed.Speed, plain: speed.Speed | None) -> Bar:
    estimate = contender.images_per_second
    figure = write_estimate(estimate)
    if plain is not None and name != speed.INFERENCE:
        share = contender.relative_to(plain)
        figure += f" · {write_percent(share)}{write_interval(share, 100)}"
    ink = COLOURS.get(name, OTHERS)
    return Bar(title, estimate.median, figure, ink, get_interval(estimate))


def _title_contender(name: str, contender: speed.Speed) -> str:
    title = TITLES.get(name, name)
    if contender.maps <= 1:
        return title
    how = "one call" if name == speed.OURS else "one explainer after another"
    return f"{title}: {contender.maps} methods, {how}"


def draw_sizes(measured: Mapping[int, Mapping[str, speed.Speed]]) -> None:
    """Draw the best size, and two bars a size."""
    ours = {size: speeds[speed.OURS] for size, speeds in measured.items() if speed.OURS in speeds}
    if ours:
        best = max(ours, key=lambda size: ours[size].images_per_second.median)
        each = ours[best].images_per_second
        about = f"images/s at best, batches of {best}; {describe_interval(each)}"
        figures = [(write_median(each), about)]
        if best > min(ours):
            times = ours[best].relative_to(ours[min(ours)])
            about = f"the images/s of batches of {min(ours)}; {describe_interval(times)}"
            figures.append((f"{write_median(times)} ×", about))
        view_record.html(draw_figures(figures))
    titles = {speed.OURS: "Grad-CAM", speed.INFERENCE: "plain inference"}
    rows = [
        _make_bar(f"{size}: {titles[name]}", name, contender, speeds.get(speed.INFERENCE))
        for size, speeds in measured.items()
        for name, contender in speeds.items()
    ]
    view_record.html(draw_bars(rows, "Images/s by batch size", together=2))


def draw_together(together: speed.Together) -> None:
    """Draw two bars a count of methods."""
    rows: list[Bar] = []
    figures: list[tuple[str, str]] = []
    for count, timing in together.joint.items():
        what = f"{count} method{'s' * (count > 1)}"
        rows.append(_make_time(f"{what}, one call", timing.estimate, HIGHLIGHT))
        single = together.one_by_one(count)
        if single is not None:
            rows.append(_make_time(f"{what}, one by one", single.estimate, OTHERS))
            times, calls = single.over(timing), timing.over(together.joint[1])
            figures = [
                (
                    f"{write_median(times)} ×",
                    f"as fast as one by one, {count} methods in one call; "
                    f"{describe_interval(times)}",
                ),
                (
                    f"{write_median(calls)} ×",
                    f"the time of one method, for {count} of them; {describe_interval(calls)}",
                ),
            ]
    view_record.html(draw_figures(figures))
    view_record.html(draw_bars(rows, "Milliseconds by number of methods", together=2))
    if together.singles:
        titles = [cam.methods()[name].title for name in speed.EVERY_GRADIENT_METHOD]
        write_small(
            f"In this order: {' · '.join(titles)}. The last one goes back to the pixels: its "
            "backward pass is the whole network's."
        )


def _make_time(name: str, seconds: Estimate, ink: str) -> Bar:
    milliseconds = Estimate(*(1000 * end for end in seconds))
    figure = write_estimate(milliseconds, " ms")
    return Bar(name, milliseconds.median, figure, ink, get_interval(milliseconds))
