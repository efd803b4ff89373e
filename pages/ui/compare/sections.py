"""Measure agreement, curves, the four questions and the random network."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from html import escape
from itertools import cycle
from typing import TypeVar

import numpy as np
import streamlit as st
import torch

import cam
from cam._output.explanation_files import png_bytes
from cam._output.viewer.payload import ViewerOptions
from cam.pages.ui.charts.colours import DASHES, HIGHLIGHT, LINES, OTHERS
from cam.pages.ui.charts.elements import div
from cam.pages.ui.charts.numbers import format_or_dash
from cam.pages.ui.charts.plots import Line, plot_lines
from cam.pages.ui.charts.tables import draw_matrix, draw_table
from cam.pages.ui.compare import case_results
from cam.pages.ui.compare.case_results import Forgetting
from cam.pages.ui.compare.cases import Case
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import RESULTS_KEPT
from cam.pages.ui.state.choices import Picture
from cam.pages.ui.widgets.links import choose, choose_share
from cam.pages.ui.widgets.prose import as_sentence, show_png, write_small

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class View:
    """What the page shows.

    Attributes:
        picture: What the visitor chose.
        cases: What is compared.
        explained: Those of them that have maps by now, with these.
        maps: Their heatmaps over the same part of the image, (N, H, W).
        options: How they are drawn.
    """

    picture: Picture
    cases: list[Case]
    explained: dict[Case, cam.Attribution]
    maps: torch.Tensor
    options: ViewerOptions


MEASURES = {
    "spearman": "Spearman (order)",
    "pearson": "Pearson (values)",
    "ssim": "SSIM (patterns)",
    "top": "Top 5 % in common",
}
_MEANING = {
    "spearman": "1: both put the pixels in the same order; 0: no more than chance.",
    "pearson": "1: the values rise and fall together; 0: no more than chance.",
    "ssim": "1: the same patterns in windows of 7 × 7 pixels; 0: none in common.",
    "top": "The share of the most important 5 % of the pixels that is the same; chance gives .05.",
}
QUESTIONS = [
    "Map",
    "Uses",
    "Passes forward + back",
    "Finest detail, pixels",
    "Total variation",
    "Noise",
    "Shifts",
    "Lighting",
    "Runs here",
]
_QUESTIONS_READ = """
- **How it works**: what the method looks at, and how many passes through the network it took for
  this image, shared ones included.
- **Finest detail**: the smallest distance at which the map still shows something, half a period of
  the frequency below which 95 % of its power lies. Small is fine; it does not say that what is
  shown is true.
- **Total variation**: how much the map goes up and down from pixel to pixel, on a scale where it
  runs from 0 to 1. A smooth map has little, a noisy one
  much; a few pixels that outshine all others make it small.
- **Noise, shifts, lighting**: Spearman's correlation of this map with the one of
  a changed image, 1 where it stays the same and 0 where no more than chance is left. Noise is 5 %
  of the image's range; shifts are 8 pixels in four directions, undone before comparing; light is
  10 % brighter and darker, and contrast 20 % up and down.
- **Runs here**: whether the method can explain this model at all. Where it cannot, a sentence says
  why, instead of the numbers.
"""


def show_agreement(view: View) -> None:
    """Show how alike the maps are, each with each."""
    measure = choose("Similarity of two maps", MEASURES, "likeness", "measure", segments=True)
    if not view.explained:
        return
    key = (view.picture.digest, *view.explained)
    values = _measure_agreement(key, measure, view.maps)
    titles = [case.title for case in view.explained]
    st.html(draw_matrix(titles, values, f"{MEASURES[measure]} of each map with each"))
    write_small(f"{_MEANING[measure]} A dash stands where a map is the same everywhere.")


@st.cache_data(max_entries=RESULTS_KEPT, show_spinner=False)
def _measure_agreement(key: tuple[Hashable, ...], measure: str, _maps: torch.Tensor) -> np.ndarray:
    values: np.ndarray = cam.agreement(_maps, measure).numpy()
    return values


def _report_if_error(case: Case, result: T | cam.CamError) -> T | None:
    """Return a result, or say what went wrong with a case."""
    if not isinstance(result, cam.CamError):
        return result
    st.error(f"{case.title}: {as_sentence(result)}")
    return None


def show_curves(view: View) -> None:
    """Show deletion and insertion, a chart each."""
    st.markdown(
        "Does the model need what a map shows? **Deletion** hides the map's most important pixels "
        "first: a good map makes the probability fall soon. **Insertion** starts from the blurred "
        "image and brings them into view: a good map makes it rise soon. Dashed is what a "
        "Gaussian in the middle reaches, which knows nothing of the image."
    )
    references, charts = {}, []
    for case, result in case_results.measure_curves(view.explained, view.picture):
        curves = _report_if_error(case, result)
        if curves is None:
            continue
        if case.method == case_results.CENTRE:
            references[case] = curves
        elif (reference := references.get(case_results.make_centre(case))) is not None:
            charts.append(_draw_curves(case, curves, reference))
    if charts:
        st.html(div("charts", *charts))


def _draw_curves(case: Case, curves: cam.Curves, reference: cam.Curves) -> str:
    shares, lines, words = curves.shares.tolist(), [], []
    for title, dashes, measured in (("", "", curves), ("centre, ", "2 4", reference)):
        for name, area, heights, colour in zip(
            ("deletion", "insertion"),
            (float(areas[0]) for areas in measured.areas),
            (measured.deletion, measured.insertion),
            (HIGHLIGHT, OTHERS),
            strict=True,
        ):
            label = f"{title}{name} {area:.3f}" if title else f"{name}, area {area:.3f}"
            lines.append(Line(label, shares, heights[0].tolist(), colour, dashes))
            words.append(f"{area:.3f}")
    deletion, insertion, centre_deletion, centre_insertion = words
    alt = (
        f"{case.title}: area under deletion {deletion}, the centre's {centre_deletion}; "
        f"under insertion {insertion}, the centre's {centre_insertion}"
    )
    chart = plot_lines(lines, (0, 1), "share of the pixels", "probability of the class", alt)
    return div("", div("title", escape(case.title)), chart)


def show_questions(view: View) -> None:
    """Show the four questions, a row a case."""
    st.markdown(
        "Four questions that people ask of Grad-CAM and of saliency, measured on this image "
        "rather than claimed: **how does it work, how fine is it, does it hold, and does it run on "
        "this model?**"
    )
    table, rows = st.empty(), []
    for case, result in case_results.examine(view.cases, view.picture):
        rows.append([case.title, *_answer(result)])
        table.html(draw_table(QUESTIONS, rows, f"Measured on {view.picture.photo.name}"))
    st.markdown(_QUESTIONS_READ)


def _answer(result: cam.Examination | cam.CamError) -> list[str]:
    if isinstance(result, cam.CamError):
        return [as_sentence(result)]
    if result.error is not None:
        return [f"Does not run here: {as_sentence(result.error)}"]
    assert result.attribution is not None
    assert result.resolution is not None and result.variation is not None
    cost = result.attribution.cost
    return [
        result.reads,
        f"{cost.forwards} + {cost.backwards}",
        format_or_dash(float(result.resolution[0]), ".1f"),
        format_or_dash(float(result.variation[0]), ".4f"),
        *(format_or_dash(float(values[0]), ".2f") for values in result.stability.values()),
        "yes",
    ]


def show_random_network(view: View) -> None:
    """Show the cascade: charts, and the maps at a depth."""
    st.markdown(
        "The parameters of a copy are randomised, layer by layer from its end to its "
        "beginning. **A map that stays as it was does not show what "
        "the network has learned** (Adebayo et al. 2018)."
    )
    # Before the work is done: a widget that comes with its end does not get into the address.
    about = (
        "0 is the network as it was trained; the last step is all of it. The arrow keys "
        "move it too."
    )
    label, last = "How much of the network is random", case_results.STAGES
    depth = int(choose_share(label, 0, last, 1, 1, "depth", help=about))
    results = {
        case: _report_if_error(case, result)
        for case, result in case_results.randomise(list(view.explained), view.picture)
    }
    cascades = {case: cascade for case, cascade in results.items() if cascade is not None}
    if cascades:
        _show_depth(cascades, view, depth)


def _show_depth(cascades: dict[Case, Forgetting], view: View, depth: int) -> None:
    """Show the charts, and the maps at that depth."""
    first = next(iter(cascades.values()))
    depth = min(depth, len(first.depths) - 1)
    names = {cascade.depths[depth] for cascade in cascades.values()}
    st.markdown(
        "The network itself, nothing is random yet."
        if depth == 0
        else f"{first.shares[depth]:.0%} of the layers with parameters are random, from the "
        f"network's end down to {' or '.join(f'`{name}`' for name in sorted(names))}."
    )
    looks = zip(cycle(LINES), cycle(DASHES), cascades.items(), strict=False)
    lines = [
        Line(case.title, cascade.shares, cascade.likeness, colour, dashes)
        for colour, dashes, (case, cascade) in looks
    ]
    alt = "Similarity to the network's own map, at the end: " + ", ".join(
        f"{case.title} {format_or_dash(cascade.likeness[-1], '.2f')}"
        for case, cascade in cascades.items()
    )
    values = [value for cascade in cascades.values() for value in cascade.likeness]
    lowest = min([0.0, *filter(np.isfinite, values)])
    left, right = st.columns([2, 3], gap="large")
    with left:
        across, down = "share of the layers that are random", "similarity to the map at first"
        ends = (-1 if lowest < -0.5 else -0.5 if lowest < 0 else 0, 1)
        down = f"{down} (Spearman)"
        st.html(plot_lines(lines, ends, across, down, alt, first.shares[depth]))
    with right:
        columns = st.columns(min(4, max(2, len(cascades))))
        for column, (case, cascade) in zip(cycle(columns), cascades.items(), strict=False):
            percentile = cam.methods()[case.method].percentile
            heatmap = cascade.heatmaps[depth].float() / 255
            crop = resources.crop(case.model, view.picture)
            look = view.options
            overlay = cam.overlay(
                crop, heatmap, look.colormap, look.alpha, percentile, fade=look.fade
            )
            with column:
                show_png(png_bytes(overlay), f"{case.title} at depth {depth}")
                likeness = format_or_dash(cascade.likeness[depth], ".2f")
                st.markdown(f"**{case.title}**: {likeness}")


_EACH = (
    "for title, (model, method, target, layer) in cases.items():\n"
    "    batch = model.prepare(photo)\n"
)
SECTIONS: dict[str, tuple[Callable[[View], None], str]] = {
    "Agreement": (
        show_agreement,
        "maps = [attribution.picture()[0][0] for attribution in attributions.values()]\n"
        "{over_one_part}"
        "print(cam.agreement(maps, {likeness!r}))\n",
    ),
    "Deletion and insertion": (
        show_curves,
        f"{_EACH}    curves = cam.curves(model, batch, attributions[title], target)\n"
        "    print(title, curves.areas, curves.deletion, curves.insertion)\n",
    ),
    "Properties": (
        show_questions,
        f"{_EACH}    answer = cam.examine(model, batch, method, target, layer)\n"
        "    cost = answer.attribution and answer.attribution.cost\n"
        "    print(title, answer.error or answer.reads, cost)\n"
        "    print(answer.resolution, answer.variation, answer.stability)\n",
    ),
    "Sanity check: parameter randomisation": (
        show_random_network,
        f"{_EACH}    cascade = cam.cascade(model, batch, method, target, layer, "
        f"stages={case_results.STAGES})\n"
        "    print(title, cascade.depths, cascade.likeness[:, 0])\n",
    ),
}
