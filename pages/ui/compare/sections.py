"""Measure agreement, curves, the four questions and the random network."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch

import cam
from cam._output.explanation_files import png_bytes
from cam.pages.ui.compare import case_results, comparison_charts
from cam.pages.ui.compare.case_results import Shown
from cam.pages.ui.compare.cases import Case
from cam.pages.ui.compare.comparison_charts import COLOURS, DASHES, Line
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import RESULTS_KEPT, Picture
from cam.pages.ui.widgets import charts, controls
from cam.pages.ui.widgets.text import small


@dataclass(frozen=True, eq=False)
class View:
    """What the page shows.

    Attributes:
        picture: What the visitor chose.
        cases: What is compared.
        shown: Those of them that have maps by now.
        maps: Their heatmaps over the same part of the picture, (N, H, W).
        alpha: The heatmaps' opacity.
        colormap: Their colours.
    """

    picture: Picture
    cases: list[Case]
    shown: list[Shown]
    maps: torch.Tensor
    alpha: float
    colormap: str


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
    "It reads",
    "Passes forward + back",
    "Finest detail, pixels",
    "Total variation",
    "Under noise",
    "Under shifts",
    "In other light",
    "Runs here",
]
_QUESTIONS_READ = """
- **How it works**: what the method looks at, and how many passes through the network it took for
  this picture, shared ones included.
- **Finest detail**: the smallest distance at which the map still shows something, half a period of
  the frequency below which 95 % of its power lies. Small is fine; it does not say that what is
  shown is true.
- **Total variation**: how much the map goes up and down from pixel to pixel, on a scale where it
  runs from 0 to 1. A smooth map has little, a noisy one
  much; a few pixels that outshine all others make it small.
- **Under noise, under shifts, in other light**: Spearman's correlation of this map with the one of
  a changed picture, 1 where it stays the same and 0 where no more than chance is left. Noise is 5 %
  of the picture's range; shifts are 8 pixels in four directions, undone before comparing; light is
  10 % brighter and darker, and contrast 20 % up and down.
- **Runs here**: whether the method can explain this model at all. Where it cannot, a sentence says
  why, instead of the numbers.
"""


def agreement(view: View) -> None:
    """How alike the maps are, each with each."""
    controls.check_link("likeness", "measure", MEASURES.values())
    measure = st.segmented_control(
        "Likeness of two maps",
        list(MEASURES),
        default="spearman",
        required=True,
        format_func=MEASURES.__getitem__,
        key="likeness",
        bind="query-params",
    )
    if not view.shown:
        return
    key = (view.picture.digest, *(one.case for one in view.shown))
    values = _agreement(key, measure, view.maps)
    titles = [one.case.title for one in view.shown]
    st.html(comparison_charts.matrix(titles, values, f"{MEASURES[measure]} of each map with each"))
    small(f"{_MEANING[measure]} A dash stands where a map is the same everywhere.")


@st.cache_data(max_entries=RESULTS_KEPT, show_spinner=False)
def _agreement(key: tuple[Hashable, ...], measure: str, _maps: torch.Tensor) -> np.ndarray:
    found: np.ndarray = cam.agreement(_maps, measure).numpy()
    return found


def curves(view: View) -> None:
    """Deletion and insertion, a chart each."""
    st.markdown(
        "Does the model need what a map shows? **Deletion** hides the map's most important pixels "
        "first: a good map makes the probability fall soon. **Insertion** starts from the blurred "
        "picture and brings them into view: a good map makes it rise soon. Dashed is what a bump "
        "in the middle reaches, which knows nothing of the picture."
    )
    references, pieces = {}, []
    for case, found in case_results.curves(view.shown, view.picture):
        if isinstance(found, cam.CamError):
            st.error(f"{case.title}: {controls.sentence(found)}")
        elif case.method == case_results.CENTRE:
            references[case] = found
        elif (reference := references.get(case_results.centre_of(case))) is not None:
            pieces.append(_curve(case, found, reference))
    if pieces:
        st.html(
            '<div style="display:grid;gap:1.5rem 2rem;grid-template-columns:'
            f'repeat(auto-fill,minmax(min(17rem,100%),1fr))">{"".join(pieces)}</div>'
        )


def _curve(case: Case, found: cam.Curves, reference: cam.Curves) -> str:
    shares = found.shares.tolist()
    ends = [float(one[0]) for one in found.areas]
    centre = [float(one[0]) for one in reference.areas]
    alt = (
        f"{case.title}: area under deletion {ends[0]:.3f}, the centre's {centre[0]:.3f}; "
        f"under insertion {ends[1]:.3f}, the centre's {centre[1]:.3f}"
    )
    several = [
        Line(f"deletion, area {ends[0]:.3f}", shares, found.deletion[0].tolist(), charts.CHOSEN),
        Line(f"insertion, area {ends[1]:.3f}", shares, found.insertion[0].tolist(), charts.OTHERS),
        *(
            Line(f"centre, {what} {size:.3f}", shares, of[0].tolist(), colour, "2 4")
            for what, size, of, colour in (
                ("deletion", centre[0], reference.deletion, charts.CHOSEN),
                ("insertion", centre[1], reference.insertion, charts.OTHERS),
            )
        ),
    ]
    chart = comparison_charts.lines(
        several, (0, 1), "share of the pixels", "probability of the class", alt
    )
    return f"<div>{comparison_charts.title(case.title)}{chart}</div>"


def questions(view: View) -> None:
    """The four questions, a row a case."""
    st.markdown(
        "Four questions that people ask of Grad-CAM and of saliency, measured on this picture "
        "rather than claimed: **how does it work, how fine is it, does it hold, and does it run on "
        "this model?**"
    )
    place, rows = st.empty(), []
    for case, found in case_results.examinations(view.cases, view.picture):
        rows.append([case.title, *_answers(found)])
        place.html(
            comparison_charts.table(QUESTIONS, rows, f"Measured on {view.picture.photo.name}")
        )
    st.markdown(_QUESTIONS_READ)


def _answers(found: cam.Examination | cam.CamError) -> list[str]:
    if isinstance(found, cam.CamError):
        return [controls.sentence(found)]
    if found.error is not None:
        return [f"Does not run here: {controls.sentence(found.error)}"]
    assert found.found is not None and found.resolution is not None and found.variation is not None
    cost = found.found.cost
    return [
        found.reads,
        f"{cost.forwards} + {cost.backwards}",
        _number(float(found.resolution[0]), ".1f"),
        _number(float(found.variation[0]), ".4f"),
        *(_number(float(one[0]), ".2f") for one in found.stability.values()),
        "yes",
    ]


def _number(value: float, form: str) -> str:
    """A measured number; a dash where there is none."""
    return format(value, form).replace("-", "−") if np.isfinite(value) else "–"


def random_network(view: View) -> None:
    """The cascade: charts, and the maps at a depth."""
    st.markdown(
        "A copy of the network forgets what it has learned, layer by layer from its end to its "
        "beginning: the parameters are drawn anew. **A map that stays as it was does not show what "
        "the network has learned** (Adebayo et al. 2018)."
    )
    # Before the work is done: a widget that comes with its end does not get into the address.
    depth = st.slider(
        "How much of the network is random",
        0,
        case_results.STAGES,
        1,
        key="depth",
        bind="query-params",
        help="0 is the network as it was trained; the last step is all of it. The arrow keys "
        "move it too.",
    )
    found = {}
    for case, one in case_results.cascades([one.case for one in view.shown], view.picture):
        if isinstance(one, cam.CamError):
            st.error(f"{case.title}: {controls.sentence(one)}")
        else:
            found[case] = one
    if found:
        _at_depth(found, view, depth)


def _at_depth(found: dict[Case, case_results.Forgetting], view: View, depth: int) -> None:
    """The charts, and the maps at that depth."""
    first = next(iter(found.values()))
    last = len(first.depths) - 1
    depth = min(depth, last)
    names = {one.depths[depth] for one in found.values()}
    st.markdown(
        "The network itself, nothing is random yet."
        if depth == 0
        else f"{first.shares[depth]:.0%} of the layers with parameters are random, from the "
        f"network's end down to {' or '.join(f'`{name}`' for name in sorted(names))}."
    )
    several = [
        Line(
            case.title,
            one.shares,
            one.likeness,
            COLOURS[place % len(COLOURS)],
            DASHES[place % len(DASHES)],
        )
        for place, (case, one) in enumerate(found.items())
    ]
    alt = "Likeness to the network's own map, at the end: " + ", ".join(
        f"{case.title} {_number(one.likeness[-1], '.2f')}" for case, one in found.items()
    )
    left, right = st.columns([2, 3], gap="large")
    lowest = min([0.0, *(v for one in found.values() for v in one.likeness if np.isfinite(v))])
    with left:
        st.html(
            comparison_charts.lines(
                several,
                (-1 if lowest < -0.5 else -0.5 if lowest < 0 else 0, 1),
                "share of the layers that are random",
                "likeness to the map at first (Spearman)",
                alt,
                first.shares[depth],
            )
        )
    with right:
        columns = st.columns(min(4, max(2, len(found))))
        for place, (case, one) in enumerate(found.items()):
            percentile = cam.methods()[case.method].percentile
            heatmap = one.heatmaps[depth].float() / 255
            seen = resources.seen(case.model, case.trained, view.picture.digest, view.picture)
            with columns[place % len(columns)]:
                controls.show_png(
                    png_bytes(cam.overlay(seen, heatmap, view.colormap, view.alpha, percentile)),
                    f"{case.title} at depth {depth}",
                )
                st.markdown(f"**{case.title}**: {_number(one.likeness[depth], '.2f')}")


_EACH = (
    "for title, (model, method, target, layer) in cases.items():\n"
    "    batch = model.prepare(photo)\n"
)
SECTIONS: dict[str, tuple[Callable[[View], None], str]] = {
    "Agreement": (
        agreement,
        "maps = [one.heatmap[0] for one in found.values()]\n"
        "{over_one_part}"
        "print(cam.agreement(maps, {likeness!r}))\n",
    ),
    "Deletion and insertion": (
        curves,
        f"{_EACH}    curves = cam.curves(model, batch, found[title].heatmap, target)\n"
        "    print(title, curves.areas, curves.deletion, curves.insertion)\n",
    ),
    "Four questions": (
        questions,
        f"{_EACH}    answer = cam.examine(model, batch, method, target, layer)\n"
        "    print(title, answer.error or answer.reads, answer.found and answer.found.cost)\n"
        "    print(answer.resolution, answer.variation, answer.stability)\n",
    ),
    "Random network": (
        random_network,
        f"{_EACH}    cascade = cam.cascade(model, batch, method, target, layer, "
        f"stages={case_results.STAGES})\n"
        "    print(title, cascade.depths, cascade.likeness[:, 0])\n",
    ),
}
