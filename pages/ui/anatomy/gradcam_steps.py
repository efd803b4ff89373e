"""Draw the seven steps of Grad-CAM with their numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import numpy as np
import streamlit as st
from torch import Tensor

import cam
from cam._engine.layers import is_linear_after
from cam._output.explanation_files import png_bytes
from cam._output.viewer.description import count_half
from cam.pages.ui.charts.bars import draw_histogram, draw_scores, draw_signed_bars
from cam.pages.ui.charts.colours import PLAIN, draw_legend
from cam.pages.ui.charts.numbers import format_value
from cam.pages.ui.charts.tiles import arrange, draw_product, draw_tile, draw_value_grid
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.prose import show_png, write_facts, write_small

TOP = 6
TILES = 3
ALPHA = 0.5


@dataclass(frozen=True, eq=False)
class View:
    """One image taken apart, as the page shows it."""

    subject: Subject
    anatomy: cam.Anatomy
    target: int

    @cached_property
    def label(self) -> str:
        """The class that is explained."""
        return self.subject.model.label(self.target)

    @cached_property
    def strongest(self) -> tuple[list[int], list[int]]:
        """The channels that weigh most for the class, and most against it."""
        return self.anatomy.strongest(0, TOP)

    @cached_property
    def channels(self) -> list[int]:
        """Those whose maps are shown in every step: the strongest of both signs."""
        for_it, against = self.strongest
        return for_it[:TILES] + against[:TILES]

    @cached_property
    def flat(self) -> bool:
        """Whether each channel's gradient is the same at all places."""
        gradients = self.anatomy.gradients[0]
        spread = gradients.amax((1, 2)) - gradients.amin((1, 2))
        return bool(spread.max() <= 1e-5 * gradients.abs().max())


def as_array(tensor: Tensor) -> np.ndarray:
    """Turn a tensor of the first image into an array to draw."""
    array: np.ndarray = tensor.detach().float().cpu().numpy()
    return array


def describe_range(values: np.ndarray | Tensor) -> str:
    """Describe from which value to which values run."""
    return f"from {format_value(float(values.min()))} to {format_value(float(values.max()))}"


def describe_gradients(values: np.ndarray) -> str:
    """Describe how many gradients there are, their range, and how many are positive."""
    positive = f"{(values > 0).mean():.0%} are positive."
    return f"{values.size:,} gradients {describe_range(values)}; {positive}"


def draw_class_scores(view: View) -> None:
    """Draw step 1: the image, and what the network says of it."""
    left, right = st.columns([2, 3], gap="large")
    with left:
        name = view.subject.picture.photo.name
        show_png(png_bytes(view.subject.crop), f"What the model sees of {name}")
    with right:
        logits = view.anatomy.logits[0]
        st.markdown(
            f"The network looks at the image once and gives each of its {len(logits):,} classes "
            "a **score**. Softmax turns the scores into probabilities, "
            r"$p_k = e^{y_k} / \sum_j e^{y_j}$."
        )
        st.html(draw_scores(_select_top(view)))
        write_facts(
            f"Scores run {describe_range(logits)}; only their differences make the probabilities."
        )


def _select_top(view: View) -> list[tuple[str, float, float, bool]]:
    logits, chances = view.anatomy.logits[0], view.anatomy.logits[0].softmax(0)
    order: list[int] = logits.topk(min(5, len(logits))).indices.tolist()
    order += [] if view.target in order else [view.target]
    return [
        (view.subject.model.label(k), float(logits[k]), float(chances[k]), k == view.target)
        for k in order
    ]


def draw_target(view: View) -> None:
    """Draw step 2: the one number that is explained."""
    left, right = st.columns([3, 2], gap="large")
    logits, score = as_array(view.anatomy.logits[0]), float(view.anatomy.scores[0])
    rank = int((logits > score).sum()) + 1
    with left:
        value = format_value(score)
        alt = f"How the scores of all classes are spread; {view.label} has {value}"
        st.html(draw_histogram(logits, score, f"{view.label}: {value}", alt))
        write_small("The scores of all classes; a bar's height is the root of how many there are.")
    with right:
        st.markdown(
            "An explanation answers a question about **one number**. Here it is the score of "
            f"**{view.label}** before softmax, $y = {score:.3f}$. A probability would also rise "
            "because other classes fall; the raw score speaks for this class alone."
        )
        write_facts(
            f"Rank {rank:,} of {len(logits):,}; the mean of all scores is "
            f"{format_value(float(logits.mean()))}.",
            "Choose another class in the sidebar, and everything from here on changes.",
        )


def draw_gradients(view: View) -> None:
    """Draw step 3: how the score would change with each value of the layer."""
    anatomy = view.anatomy
    shape = " × ".join(f"{size:,}" for size in anatomy.activations.shape[1:])
    st.markdown(
        f"The layer `{anatomy.layer}` returned {shape} activations $A$: channels × rows × "
        "columns. One backward pass says how the score would change with each of them, "
        r"$G_c = \partial y / \partial A_c$. Red: more of this, here, raises the score. Blue: it "
        "lowers it."
    )
    values = as_array(anatomy.gradients[0])
    picked = values[view.channels]
    # Where they differ, a few strong ones would leave the rest white.
    end = float(np.percentile(np.abs(picked), 100 if view.flat else 99)) if picked.size else 0.0
    drawings = [
        (draw_tile(gradient, end, f"Gradient at channel {channel}"), f"channel {channel:,}")
        for channel, gradient in zip(view.channels, picked, strict=True)
    ]
    st.html(arrange(drawings, least=100))
    st.html(draw_legend(end))
    if not view.flat:
        write_small("The colours end where 99% of these gradients' sizes lie below.")
    rows, columns = values.shape[1:]
    cancelled = 1 - np.abs(values.mean((1, 2))).sum() / (np.abs(values).mean((1, 2)).sum() or 1)
    write_facts(
        describe_gradients(values),
        f"Here a channel's gradient is the same at all {rows * columns} positions, as what comes "
        "behind this layer treats all positions alike: it takes their mean."
        if view.flat
        else "Within a channel they differ from position to position, also in sign: in the mean "
        f"that comes next, {cancelled:.0%} of them cancels out.",
    )


def draw_weights(view: View) -> None:
    """Draw step 4: one number a channel."""
    st.markdown(
        "Grad-CAM **averages over the positions and keeps the channels**. Each channel gets one "
        r"weight, $w_c = \frac{1}{hw} \sum_{ij} G_{c,ij}$: how much the class wants the pattern "
        "that this channel looks for."
    )
    values = as_array(view.anatomy.weights[0])
    for_it, against = view.strongest
    ordered = [*for_it, *reversed(against)]
    st.html(draw_signed_bars([(f"channel {c:,}", float(values[c])) for c in ordered]))
    write_small(
        f"The strongest {len(for_it)} for and {len(against)} against {view.label} of "
        f"{len(values):,} channels."
    )
    half = count_half(np.abs(values))
    write_facts(
        f"{(values > 0).sum():,} weights are positive, {(values < 0).sum():,} negative.",
        f"{half:,} channels hold half of all weight: "
        + (
            "the evidence is spread over many."
            if half > len(values) / 10
            else "a few channels decide."
        ),
        "The mean loses nothing here: the gradients of a channel were all the same." * view.flat,
    )


def draw_maps(view: View) -> None:
    """Draw step 5: where those channels fire, and what they add."""
    st.markdown(
        "A weight says how much a channel counts; its map $A_c$ says **where** it found its "
        "pattern in this image. The product $w_c A_c$ is what the channel adds to the result."
    )
    anatomy = view.anatomy
    heavy, most = (_alternate(*anatomy.strongest(0, TILES, by=by)) for by in ("weight", "sum"))
    weights, fired = as_array(anatomy.weights[0]), as_array(anatomy.activations[0])
    both = [*heavy, *most]
    # One range of colours for all of them. Where no ReLU stands before, activations have two signs.
    signed = bool((fired[both] < 0).any())
    bright = float(np.abs(fired[both]).max(initial=0))
    end = float(np.abs(weights[both, None, None] * fired[both]).max(initial=0))

    def show(channels: list[int]) -> None:
        pieces = []
        for channel in channels:
            added = weights[channel] * fired[channel]
            left = draw_tile(fired[channel], bright, f"Activations of channel {channel}", signed)
            right = draw_tile(added, end, f"Weighted map of channel {channel}")
            drawing = draw_product(format_value(float(weights[channel])), left, right)
            pieces.append((drawing, f"channel {channel:,} adds {format_value(float(added.sum()))}"))
        st.html(arrange(pieces, least=210))

    st.markdown("The channels with **the largest weights**; one that does not fire adds nothing:")
    show(heavy)
    st.markdown("The channels that **add most in this image**:")
    show(most)
    st.html(draw_legend(bright, signed, "activations"))
    st.html(draw_legend(end, unit="weighted maps"))
    adding = float((weights[most, None, None] * fired[most]).sum())
    write_facts(
        f"The last {len(most)} add {format_value(adding)} over all positions; all "
        f"{len(weights):,} channels together add {format_value(float(anatomy.summed[0].sum()))}.",
    )


def _alternate(for_it: list[int], against: list[int]) -> list[int]:
    """Take one for and one against in turn: side by side where there are two in a row."""
    return [
        number for pair in zip_longest(for_it, against) for number in pair if number is not None
    ]


def draw_sum(view: View) -> None:
    """Draw step 6: all channels together, and what the ReLU takes away."""
    anatomy = view.anatomy
    before, after = as_array(anatomy.summed[0]), as_array(anatomy.rectified[0])
    st.markdown(
        rf"All {anatomy.weights.shape[1]:,} weighted maps are added up, $\sum_c w_c A_c$. Then the "
        "ReLU sets to zero what is negative: a position that speaks against this class belongs to "
        "another one."
    )
    end = float(np.abs(before).max())
    lost = -before[before < 0].sum() / (np.abs(before).sum() or 1)
    grids = [
        (draw_value_grid(before, end, "The sum before the ReLU"), "<b>before</b> the ReLU"),
        (draw_value_grid(after, end, "The sum after the ReLU"), "<b>after</b> it"),
    ]
    st.html(arrange(grids, least=200))
    st.html(draw_legend(end))
    score, whole = float(anatomy.scores[0]), float(before.sum())
    negative = int((before < 0).sum())
    if negative == before.size:
        st.warning(
            f"Nothing is left after the ReLU: at this layer all evidence speaks against "
            f"{view.label}. Choose another layer or class."
        )
    write_facts(
        f"{describe_range(before).capitalize()}. "
        + (
            f"The ReLU clears {negative:,} of {before.size:,} positions, "
            f"{lost:.0%} of the evidence."
            if negative
            else "Nothing is negative, so the ReLU changes nothing here; at earlier layers it "
            "usually does."
        ),
        f"All positions together give {whole:.3f}, and the score is {score:.3f}."
        + (
            f" The rest, {format_value(score - whole)}, is the bias: what the classifier adds to "
            "this class for every image."
            if view.flat and is_linear_after(view.subject.model.module, [anatomy.layer])
            else ""
        ),
    )


def draw_overlay(view: View) -> None:
    """Draw step 7: the map at the image's size, over the image."""
    anatomy = view.anatomy
    coarse, fine = as_array(anatomy.normalised[0]), as_array(anatomy.heatmap[0])
    (rows, columns), (height, width) = coarse.shape, fine.shape
    st.markdown(
        f"The map is stretched to 0 … 1, enlarged from {rows} × {columns} to {height} × {width} "
        "by bilinear interpolation, coloured, and laid over the image. **The fine edges are the "
        "photo's, not the map's.**"
    )
    small = draw_tile(coarse, 1, "The map at the layer's resolution", signed=False)
    large = draw_tile(fine, 1, "The map at the image's size", signed=False)
    lines = (f"{rows} × {columns}, as it was computed", f"{height} × {width}, enlarged")
    st.html(arrange(zip((small, large), lines, strict=True)))
    st.html(draw_legend(1, signed=False))
    blended = cam.overlay(view.subject.crop, anatomy.heatmap[0], PLAIN, ALPHA)
    show_png(png_bytes(blended), f"Grad-CAM heatmap for {view.label}")
    write_facts(
        f"A position stands for {height // rows} × {width // columns} pixels.",
        f"Half of the evidence lies on {count_half(fine) / fine.size:.0%} of the image.",
    )


STEPS: dict[str, tuple[str, Callable[[View], None]]] = {
    "Scores": ("The scores", draw_class_scores),
    "Target": ("The target", draw_target),
    "Gradients": ("The gradients", draw_gradients),
    "Weights": ("The pooled weights", draw_weights),
    "Maps": ("The channels' maps, and what they add", draw_maps),
    "Sum": ("The sum, before and after the ReLU", draw_sum),
    "Overlay": ("The heatmap over the image", draw_overlay),
}
