"""Show which channels carry the score, and where they fire."""

from functools import partial

import numpy as np
import streamlit as st
import torch
from torch import Tensor
from torch.nn import functional

import cam
from cam._output.viewer.payload import ViewerMap, ViewerOptions, pack
from cam._output.viewer.region import Region
from cam.pages.ui.charts.tiles import arrange, draw_tile
from cam.pages.ui.explore import channel_patches
from cam.pages.ui.server import resources
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import Choices
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import links
from cam.pages.ui.widgets.controls import draw_lazily
from cam.pages.ui.widgets.image_viewer import show_viewer
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import escape_markdown, report_errors, write_small

MOST = 12
ORDERS = {
    "for": "Most for the class",
    "against": "Most against it",
    "weight": "Largest weight",
}
# Of the largest logit: sums of thousands of float32 products end this far from it.
TOLERANCE = 1e-4


def show_channels(
    subject: Subject, choices: Choices, region: Region | None, options: ViewerOptions
) -> None:
    """Show the channels that add most to the score, or most in the selected part."""
    explained = subject.top if choices.target is None else choices.target
    with report_errors(advice="Choose another layer in the sidebar."):
        anatomy = resources.take_apart(subject.choice, explained, choices.layer, subject.picture)
        label = subject.model.label(explained)
        _state_sum(subject, anatomy, explained, label)
        order = choose("Sort channels by", ORDERS, "channels_by", "order", segments=True)
        inside = None if region is None else scale_region(region.mask, anatomy)
        values = anatomy.contributions(inside)[0]
        if inside is not None:
            write_small(
                "Below is what channels add within the selected part, "
                f"{float(inside.mean()):.0%} of the feature grid."
            )
        where = "to the score" if inside is None else "to the score within the selected part"
        _draw_channels(anatomy, values, order, where)
        _show_channel(subject, anatomy, values, where, options)


def scale_region(mask: np.ndarray, anatomy: cam.Anatomy) -> Tensor:
    """Scale a part of the image to the share of each place of the layer, (h, w) in [0, 1]."""
    size = anatomy.activations.shape[2:]
    return functional.interpolate(torch.from_numpy(mask)[None, None].float(), size, mode="area")[
        0, 0
    ]


def _state_sum(subject: Subject, anatomy: cam.Anatomy, explained: int, label: str) -> None:
    """State what the contributions add up to, beside the score."""
    score, total = float(anatomy.scores[0]), float(anatomy.contributions()[0].sum())
    channels = anatomy.activations.shape[1]
    words = (
        f"The {channels:,} channels of `{anatomy.layer}` add **{total:.3f}** to the score of "
        f"**{escape_markdown(label)}**, which is **{score:.3f}**"
    )
    bias = find_bias(subject.model, anatomy, explained)
    if bias is None:
        st.markdown(
            f"{words}. The rest, {score - total:.3f}, comes from biases and nonlinear operations "
            "behind this layer: contributions are the first-order part of the score."
        )
    elif bias == 0:
        st.markdown(f"{words}: all of it.")
    else:
        st.markdown(f"{words}: the score less its bias of {bias:.3f}.")


def find_bias(model: cam.Model, anatomy: cam.Anatomy, explained: int) -> float | None:
    """Return the bias of a class that contributions leave; None where more is left.

    Only where one linear layer of the mean of the anatomy's layer gives the logits of all classes,
    and the contributions and its bias the score: what is merely last in a network may be anything.
    """
    pooled, logits = anatomy.activations[0].float().mean((1, 2)), anatomy.logits[0]
    limit = TOLERANCE * max(1.0, float(logits.abs().max()))
    for child in model.module.modules():
        if not isinstance(child, torch.nn.Linear | torch.nn.Conv2d):
            continue
        matrix = child.weight.detach().flatten(1).float()
        if logits.ndim != 1 or matrix.shape != (len(logits), len(pooled)):
            continue
        biases = torch.zeros_like(logits) if child.bias is None else child.bias.detach().float()
        if not bool(((matrix @ pooled + biases - logits).abs() <= limit).all()):
            continue
        bias = float(biases[explained])
        total = float(anatomy.contributions()[0].sum())
        return bias if abs(float(anatomy.scores[0]) - total - bias) <= limit else None
    return None


def _draw_channels(anatomy: cam.Anatomy, values: Tensor, order: str, where: str) -> None:
    """Draw the first channels of an order, each with its map and what it adds."""
    indices = rank_channels(values, anatomy.weights[0], order)
    if not indices:
        write_small(f"No channel adds {'less' if order == 'against' else 'more'} than 0 {where}.")
        return
    drawings = []
    total = float(values.abs().sum()) or 1.0
    for index in indices:
        activation = anatomy.activations[0, index].float().cpu().numpy()
        end = float(np.abs(activation).max())
        tile = draw_tile(
            activation, end, f"Activation of channel {index}", bool(activation.min() < 0)
        )
        value = float(values[index])
        line = f"<b>Channel {index}</b><br>{value:+.3f} ({abs(value) / total:.1%} of all)"
        drawings.append((tile, line))
    st.html(arrange(drawings))
    write_small(f"A square is a cell of the feature grid; below is what the channel adds {where}.")


def rank_channels(values: Tensor, weights: Tensor, order: str) -> list[int]:
    """List the first channels of an order; of those for or against a class no others."""
    if order == "weight":
        return weights.abs().argsort(descending=True, stable=True)[:MOST].tolist()
    signed = values if order == "for" else -values
    first = signed.argsort(descending=True, stable=True)[:MOST]
    return first[signed[first] > 0].tolist()


def _show_channel(
    subject: Subject, anatomy: cam.Anatomy, values: Tensor, where: str, options: ViewerOptions
) -> None:
    """Show one channel over the image; a link names it."""
    count = anatomy.activations.shape[1]
    best = int(values.argmax())
    number = links.read_number("channel", "channel", best, 0, count - 1)
    channel = best if number is None else int(number)
    start = {"value": channel}
    bound = address.bind(
        "channel", channel, lambda typed: links.format_number(typed, None), start=start
    )
    st.number_input("Channel", 0, count - 1, width=160, **bound)
    activation = anatomy.activations[0, channel].float()
    size = anatomy.heatmap.shape[1:]
    smooth = functional.interpolate(activation[None, None], size, mode="bilinear")[0, 0]
    highest = float(smooth.abs().max()) or 1.0
    scaled = (smooth / highest).cpu().numpy()
    signed = scaled if scaled.min() < 0 else None
    caption = f"adds {float(values[channel]):+.3f} {where}"
    viewed = ViewerMap(
        f"channel {channel}", f"Channel {channel} of {anatomy.layer}", scaled.clip(min=0), signed,
        highest, "sensitivity", captions=(caption,),
    )  # fmt: skip
    payload = pack(subject.crop, [viewed], f"channel {channel}", options, f"channel-{channel}")
    show_viewer(payload, "channel_viewer")
    patches = partial(channel_patches.show_patches, subject, anatomy.layer, channel)
    draw_lazily("Best patches of a run", "photo_library", "patches", patches)
