"""Draw the seven steps of Grad-CAM with their numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import numpy as np
import streamlit as st
from PIL.Image import Image
from torch import Tensor

import cam
from cam._engine.layers import is_linear_after
from cam._output.explanation_files import png_bytes
from cam.pages.ui.widgets import controls, html_charts
from cam.pages.ui.widgets.html_charts import shown
from cam.pages.ui.widgets.text import small

TOP = 6
TILES = 3
ALPHA = 0.5


@dataclass(frozen=True, eq=False)
class View:
    """One picture taken apart, as the page shows it."""

    model: cam.Model
    found: cam.Anatomy
    seen: Image
    name: str
    target: int

    @cached_property
    def label(self) -> str:
        """The class that is explained."""
        return self.model.label(self.target)

    @cached_property
    def strongest(self) -> tuple[list[int], list[int]]:
        """The channels that weigh most for the class, and most against it."""
        return self.found.strongest(0, TOP)

    @cached_property
    def channels(self) -> list[int]:
        """Those whose maps are shown in every step: the strongest of both signs."""
        for_it, against = self.strongest
        return for_it[:TILES] + against[:TILES]

    @cached_property
    def flat(self) -> bool:
        """Whether each channel's gradient is the same at all places."""
        gradients = self.found.gradients[0]
        spread = gradients.amax((1, 2)) - gradients.amin((1, 2))
        return bool(spread.max() <= 1e-5 * gradients.abs().max())


def array(tensor: Tensor) -> np.ndarray:
    """A tensor of the first picture on its way to a drawing."""
    found: np.ndarray = tensor.detach().float().cpu().numpy()
    return found


def facts(*lines: str) -> None:
    """The numbers of a step."""
    st.markdown("\n".join(f"- {line}" for line in lines if line))


def scores(view: View) -> None:
    """Step 1: the picture, and what the network says of it."""
    left, right = st.columns([2, 3], gap="large")
    with left:
        controls.show_png(png_bytes(view.seen), f"What the model sees of {view.name}")
    with right:
        logits = view.found.logits[0]
        st.markdown(
            f"The network looks at the picture once and gives each of its {len(logits):,} classes "
            "a **score**. Softmax turns the scores into probabilities, "
            r"$p_k = e^{y_k} / \sum_j e^{y_j}$."
        )
        st.html(html_charts.score_table(_top(view)))
        facts(
            f"Scores run from {shown(float(logits.min()))} to {shown(float(logits.max()))}; "
            "only their differences make the probabilities."
        )


def _top(view: View) -> list[tuple[str, float, float, bool]]:
    logits, chances = view.found.logits[0], view.found.logits[0].softmax(0)
    order: list[int] = logits.topk(min(5, len(logits))).indices.tolist()
    order += [] if view.target in order else [view.target]
    return [
        (view.model.label(k), float(logits[k]), float(chances[k]), k == view.target) for k in order
    ]


def target(view: View) -> None:
    """Step 2: the one number that is explained."""
    left, right = st.columns([3, 2], gap="large")
    logits, score = array(view.found.logits[0]), float(view.found.scores[0])
    rank = int((logits > score).sum()) + 1
    with left:
        st.html(
            html_charts.histogram(
                logits,
                score,
                f"{view.label}: {shown(score)}",
                f"How the scores of all classes are spread; {view.label} has {shown(score)}",
            )
        )
        small("The scores of all classes; a bar's height is the root of how many there are.")
    with right:
        st.markdown(
            "An explanation answers a question about **one number**. Here it is the score of "
            f"**{view.label}** before softmax, $y = {score:.3f}$. A probability would also rise "
            "because other classes fall; the raw score speaks for this class alone."
        )
        facts(
            f"Rank {rank:,} of {len(logits):,}; the mean of all scores is "
            f"{shown(float(logits.mean()))}.",
            "Choose another class in the sidebar, and everything from here on changes.",
        )


def gradients(view: View) -> None:
    """Step 3: how the score would change with each value of the layer."""
    found = view.found
    shape = " × ".join(f"{size:,}" for size in found.activations.shape[1:])
    st.markdown(
        f"The layer `{found.layer}` has put out {shape} activations $A$: channels × rows × "
        "columns. One backward pass says how the score would change with each of them, "
        r"$G_c = \partial y / \partial A_c$. Red: more of this, here, raises the score. Blue: it "
        "lowers it."
    )
    values = array(found.gradients[0])
    picked = values[view.channels]
    # Where they differ, a few strong ones would leave the rest white.
    end = float(np.percentile(np.abs(picked), 100 if view.flat else 99)) if picked.size else 0.0
    st.html(
        html_charts.side_by_side(
            (
                (
                    html_charts.tile(one, end, f"Gradient at channel {channel}"),
                    f"channel {channel:,}",
                )
                for channel, one in zip(view.channels, picked, strict=True)
            ),
            least=100,
        )
    )
    st.html(html_charts.legend(end))
    if not view.flat:
        small("The colours end where 99% of these gradients' sizes lie below.")
    rows, columns = values.shape[1:]
    cancelled = 1 - np.abs(values.mean((1, 2))).sum() / (np.abs(values).mean((1, 2)).sum() or 1)
    facts(
        f"{values.size:,} gradients from {shown(values.min())} to {shown(values.max())}; "
        f"{(values > 0).mean():.0%} are positive.",
        f"Here a channel's gradient is the same at all {rows * columns} places, because what comes "
        "behind this layer treats all places alike: it takes their mean."
        if view.flat
        else "Within a channel they differ from place to place, also in sign: in the mean that "
        f"comes next, {cancelled:.0%} of them cancels out.",
    )


def weights(view: View) -> None:
    """Step 4: one number a channel."""
    st.markdown(
        "Grad-CAM **averages over the places and keeps the channels**. Each channel gets one "
        r"weight, $w_c = \frac{1}{hw} \sum_{ij} G_{c,ij}$: how much the class wants the pattern "
        "that this channel looks for."
    )
    values = array(view.found.weights[0])
    for_it, against = view.strongest
    st.html(
        html_charts.signed_bars(
            [(f"channel {c:,}", float(values[c])) for c in [*for_it, *reversed(against)]]
        )
    )
    small(
        f"The strongest {len(for_it)} for and {len(against)} against {view.label} of "
        f"{len(values):,} channels."
    )
    sizes = np.sort(np.abs(values))[::-1]
    half = int((np.cumsum(sizes) < sizes.sum() / 2).sum()) + 1
    facts(
        f"{(values > 0).sum():,} weights are positive, {(values < 0).sum():,} negative.",
        f"{half:,} channels hold half of all weight: "
        + (
            "the evidence is spread over many."
            if half > len(values) / 10
            else "a few channels decide."
        ),
        "The mean loses nothing here: the gradients of a channel were all the same." * view.flat,
    )


def maps(view: View) -> None:
    """Step 5: where those channels fire, and what they add."""
    st.markdown(
        "A weight says how much a channel counts; its map $A_c$ says **where** it found its "
        "pattern in this picture. The product $w_c A_c$ is what the channel adds to the result."
    )
    found = view.found
    heavy, most = (_in_turn(*found.strongest(0, TILES, by=by)) for by in ("weight", "sum"))
    weights, fired = array(found.weights[0]), array(found.activations[0])
    both = [*heavy, *most]
    # One range of colours for all of them. Where no ReLU stands before, activations have two signs.
    signed = bool((fired[both] < 0).any())
    bright = float(np.abs(fired[both]).max(initial=0))
    end = float(np.abs(weights[both, None, None] * fired[both]).max(initial=0))

    def show(channels: list[int]) -> None:
        pieces = []
        for channel in channels:
            added = weights[channel] * fired[channel]
            left = html_charts.tile(
                fired[channel], bright, f"Activations of channel {channel}", signed
            )
            right = html_charts.tile(added, end, f"Weighted map of channel {channel}")
            drawing = html_charts.product(shown(float(weights[channel])), left, right)
            pieces.append((drawing, f"channel {channel:,} adds {shown(float(added.sum()))}"))
        st.html(html_charts.side_by_side(pieces, least=210))

    st.markdown("The channels with **the largest weights**; one that does not fire adds nothing:")
    show(heavy)
    st.markdown("The channels that **add most in this picture**:")
    show(most)
    st.html(html_charts.legend(bright, signed, "activations"))
    st.html(html_charts.legend(end, unit="weighted maps"))
    adding = float((weights[most, None, None] * fired[most]).sum())
    facts(
        f"The last {len(most)} add {shown(adding)} over all places; all "
        f"{len(weights):,} channels together add {shown(float(found.summed[0].sum()))}.",
    )


def _in_turn(for_it: list[int], against: list[int]) -> list[int]:
    """One for, one against: side by side where there are two in a row."""
    return [one for pair in zip_longest(for_it, against) for one in pair if one is not None]


def total(view: View) -> None:
    """Step 6: all channels together, and what the ReLU takes away."""
    found = view.found
    before, after = array(found.summed[0]), array(found.rectified[0])
    st.markdown(
        rf"All {found.weights.shape[1]:,} weighted maps are added up, $\sum_c w_c A_c$. Then the "
        "ReLU sets to zero what is negative: a place that speaks against this class belongs to "
        "another one."
    )
    end = float(np.abs(before).max())
    lost = -before[before < 0].sum() / (np.abs(before).sum() or 1)
    st.html(
        html_charts.side_by_side(
            [
                (
                    html_charts.value_grid(before, end, "The sum before the ReLU"),
                    "<b>before</b> the ReLU",
                ),
                (html_charts.value_grid(after, end, "The sum after the ReLU"), "<b>after</b> it"),
            ],
            least=200,
        )
    )
    st.html(html_charts.legend(end))
    score, whole = float(found.scores[0]), float(before.sum())
    negative = int((before < 0).sum())
    if negative == before.size:
        st.warning(
            f"Nothing is left after the ReLU: at this layer all evidence speaks against "
            f"{view.label}. Choose another layer or class."
        )
    facts(
        f"From {shown(before.min())} to {shown(before.max())}. "
        + (
            f"The ReLU clears {negative:,} of {before.size:,} places, {lost:.0%} of the evidence."
            if negative
            else "Nothing is negative, so the ReLU changes nothing here; at earlier layers it "
            "usually does."
        ),
        f"All places together give {whole:.3f}, and the score is {score:.3f}."
        + (
            f" The rest, {shown(score - whole)}, is the bias: what the classifier adds to this "
            "class for every picture."
            if view.flat and is_linear_after(view.model.module, [found.layer])
            else ""
        ),
    )


def overlay(view: View) -> None:
    """Step 7: the map at the picture's size, over the picture."""
    found = view.found
    coarse, fine = array(found.normalised[0]), array(found.heatmap[0])
    (rows, columns), (height, width) = coarse.shape, fine.shape
    st.markdown(
        f"The map is stretched to 0 … 1, enlarged from {rows} × {columns} to {height} × {width} "
        "by bilinear interpolation, coloured, and laid over the picture. **The fine edges are the "
        "photo's, not the map's.**"
    )
    st.html(
        html_charts.side_by_side(
            [
                (
                    html_charts.tile(coarse, 1, "The map at the layer's resolution", signed=False),
                    f"{rows} × {columns}, as it was computed",
                ),
                (
                    html_charts.tile(fine, 1, "The map at the picture's size", signed=False),
                    f"{height} × {width}, enlarged",
                ),
            ]
        )
    )
    st.html(html_charts.legend(1, signed=False))
    blended = cam.overlay(view.seen, found.heatmap[0], html_charts.PLAIN, ALPHA)
    controls.show_png(png_bytes(blended), f"Grad-CAM heatmap for {view.label}")
    # Half of the evidence lies in this part of the picture.
    sizes = np.sort(fine, axis=None)[::-1]
    part = ((np.cumsum(sizes) < sizes.sum() / 2).sum() + 1) / sizes.size
    facts(
        f"One place stands for {height // rows} × {width // columns} pixels.",
        f"Half of the evidence lies on {part:.0%} of the picture.",
    )


STEPS: dict[str, tuple[str, Callable[[View], None]]] = {
    "Scores": ("The scores", scores),
    "Target": ("The target", target),
    "Gradients": ("The gradients", gradients),
    "Weights": ("The pooled weights", weights),
    "Maps": ("The channels' maps, and what they add", maps),
    "Sum": ("The sum, before and after the ReLU", total),
    "Overlay": ("The heatmap over the picture", overlay),
}
