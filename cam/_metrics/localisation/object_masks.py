"""Measure whether a heatmap lies on the object that a mask marks."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from cam._metrics.base.map_ranking import ranks
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.parameters import integer

_register = partial(
    register_metric, family="localisation", direction=1, range=(0, 1), needs_masks=True
)


def centre_heatmap(batch: Tensor) -> Tensor:
    """Make a Gaussian in the centre, whatever the picture.

    TorchRay's centre point meets 69.6 % of the objects of Pascal VOC in the pointing game; what a
    method scores says little without that number beside it.

    Args:
        batch: (B, C, H, W).

    Returns:
        (B, H, W) float32 in [0, 1], exp(-d²/2σ²) with d the distance from the centre and σ a
        quarter of the smaller side; its highest pixel is (⌊H/2⌋, ⌊W/2⌋).
    """
    height, width = batch.shape[2:]
    deviation = min(height, width) / 4
    rows = torch.arange(height, device=batch.device) - height // 2
    columns = torch.arange(width, device=batch.device) - width // 2
    distance = rows[:, None] ** 2 + columns**2
    return torch.exp(-distance / (2 * deviation**2)).expand(len(batch), -1, -1).contiguous()


@_register(
    "pointing_game",
    title="Pointing game",
    definition="1 if a disc of 15 pixels around the largest A meets S, and 0 if not",
    baseline="a point in the centre: cam's centre_heatmap, 0.696 on Pascal VOC",
    rules={"tolerance": integer(0)},
)
def pointing_game(subject: Subject, *, tolerance: int = 15) -> Tensor:
    """Whether the heatmap's highest point lies on the object, or within a tolerance of it.

    Where several pixels are highest it is the share of them that hit, which is what choosing one of
    them at random would score. The pixels are those of the heatmap; the paper's tolerance is in
    pixels of the original image. Benchmarks take the mean in each class first.

    Args:
        subject: A batch with its heatmaps and masks.
        tolerance: Radius of the disc, in pixels.

    Returns:
        (B,); NaN where the mask is empty.

    References:
        Zhang et al., Top-Down Neural Attention by Excitation Backprop, IJCV 2018 (ECCV 2016),
        section 4.1; the disc as in TorchRay's PointingGame
    """
    _refuse_empty_masks(subject)
    flat = subject.heatmap.flatten(1)
    highest = subject.heatmap == flat.amax(1).view(-1, 1, 1)
    near = _dilate(subject.masks, tolerance)
    return (highest & near).flatten(1).sum(1) / highest.flatten(1).sum(1)


@_register(
    "energy_pointing_game",
    title="Energy-based pointing game (relevance mass accuracy)",
    definition="Σ A⁺S / ΣA⁺, A⁺ = max(A, 0)",
    baseline="a map of chance, or an even one, scores |S| / HW",
)
def energy_pointing_game(subject: Subject) -> Tensor:
    """Which share of the heatmap lies on the object.

    Returns:
        (B,); 0 for a map of zeros, which finds nothing; NaN where the mask is empty.

    References:
        Wang et al., Score-CAM, CVPR Workshops 2020, section 4.2; Arras, Osman and Samek, CLEVR-XAI,
        Information Fusion 2022, relevance mass accuracy
    """
    _refuse_empty_masks(subject)
    return _mass_inside(subject)


@_register(
    "grid_pointing_game",
    title="Grid pointing game",
    definition="ΣA⁺ in the target's cell / ΣA⁺, for a mosaic of n × n images; S is the cell",
    baseline="a map of chance, or an even one, scores 1/n²",
)
def grid_pointing_game(subject: Subject) -> Tensor:
    """Which share of the heatmap lies in the cell of a mosaic that shows the target's class.

    Returns:
        (B,); 0 for a map of zeros, as in the papers; NaN where the mask is empty.

    References:
        Böhle, Fritz and Schiele, Convolutional Dynamic Alignment Networks for Interpretable
        Classifications, CVPR 2021, section 4.2; Rao, Böhle and Schiele, Towards Better
        Understanding Attribution Methods, CVPR 2022, section 3.2
    """
    _refuse_empty_masks(subject)
    return _mass_inside(subject)


@_register(
    "relevance_rank",
    title="Relevance rank accuracy",
    definition="|top-|S| ∩ S| / |S|, top-k: the k most important pixels",
    baseline="a map of chance scores |S| / HW",
)
def relevance_rank(subject: Subject) -> Tensor:
    """Of as many of the most important pixels as the object has, the share that lies on it.

    Pixels of equal importance go in a fixed random order.

    Returns:
        (B,); NaN where the mask is empty.

    References:
        Arras, Osman and Samek, CLEVR-XAI: A benchmark dataset for the ground truth evaluation of
        neural network explanations, Information Fusion 2022, section 3.3
    """
    _refuse_empty_masks(subject)
    size = subject.masks.flatten(1).sum(1)
    return _count_hits(subject, size) / size


@_register(
    "top_k_intersection",
    title="Top-k intersection",
    definition="|top-k ∩ S| / k, top-k: the k most important pixels",
    baseline="a map of chance scores |S| / HW; no map can score more than |S| / k",
    rules={"k": integer(1)},
)
def top_k_intersection(subject: Subject, *, k: int = 1000) -> Tensor:
    """The share of the k most important pixels that lies on the object.

    Pixels of equal importance go in a fixed random order. An object of fewer pixels cannot reach 1.

    Args:
        subject: A batch with its heatmaps and masks.
        k: How many pixels count.

    Returns:
        (B,), at most |S| / k; NaN where the mask is empty.

    References:
        Theiner, Müller-Budack and Ewerth, Interpretable Semantic Photo Geolocation, WACV 2022,
        section 3.3
    """
    _refuse_empty_masks(subject)
    size = subject.masks.flatten(1).sum(1)
    return _count_hits(subject, torch.full_like(size, k)) / k


def _refuse_empty_masks(subject: Subject) -> None:
    subject.refuse(~subject.masks.flatten(1).any(1), "the mask is empty")


def _mass_inside(subject: Subject) -> Tensor:
    mass = subject.heatmap.double()
    total = mass.sum((1, 2))
    inside = (mass * subject.masks).sum((1, 2))
    return torch.where(total == 0, 0, inside / total)


def _count_hits(subject: Subject, count: Tensor) -> Tensor:
    """Count the hits of the count (B,) most important pixels."""
    first = ranks(subject.importance) < count.view(-1, 1, 1)
    return (first & subject.masks).flatten(1).sum(1)


def _dilate(masks: Tensor, radius: int) -> Tensor:
    """Mark pixels within a radius of the mask, (B, H, W) bool.

    The disc is cut in rows: for each, running sums tell whether a stretch holds some of the mask.
    """
    height, width = masks.shape[1:]
    sums = functional.pad(masks.int().cumsum(2), (1, 0))  # (B, H, W + 1)
    at = torch.arange(width, device=masks.device)
    grown = torch.zeros_like(masks)
    reach = min(radius, height - 1)
    for down in range(-reach, reach + 1):
        half = math.isqrt(radius**2 - down**2)
        last = (at + half + 1).clamp(max=width)
        meets = sums[:, :, last] > sums[:, :, (at - half).clamp(min=0)]
        # A pixel at row y sees the row y + down.
        top, bottom = max(0, -down), min(height, height - down)
        grown[:, top:bottom] |= meets[:, top + down : bottom + down]
    return grown
