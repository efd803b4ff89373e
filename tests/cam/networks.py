"""Networks whose answers can be worked out by hand."""

import torch
from torch import nn


class Weighted(nn.Module):
    """Two classes with the probabilities q and 1 - q, q = Σ w x over the pixels."""

    def __init__(self, weights) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = (x.mean(1) * self.weights).sum((1, 2)).clamp(0, 1)
        return torch.stack([q, 1 - q], 1).log()
