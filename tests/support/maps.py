"""Attributions of maps that are given by hand."""

import torch

import cam


def attribution_of(maps: torch.Tensor, kind: str = "evidence") -> cam.Attribution:
    """Make a result of maps (B, H, W) and what their numbers are."""
    none = torch.zeros(len(maps))
    return cam.Attribution(
        heatmap=maps,
        raw=maps,
        targets=none.long(),
        scores=none,
        logits=none[:, None],
        layers=(),
        method="saliency",
        kind=kind,
        cost=cam.Cost(0, 0, 0.0),
        precision="fp32",
    )
