"""Small networks that tests share, some with answers known by hand."""

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


def conv(*channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(*channels, 3, padding=1), nn.ReLU())


class Pooled(nn.Sequential):
    """Two convolutions, a mean and a linear layer: ``"2"`` is the layer that is pooled."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            conv(3, 6),
            nn.MaxPool2d(2),
            conv(6, 8),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 6),
        )
        self.eval()


class Curved(nn.Sequential):
    """What stands behind layer ``"0"`` is neither linear nor alike at every place."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__(
            conv(3, 6),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(72, 6),
            nn.Sigmoid(),
            nn.Linear(6, 6),
        )
        self.eval()


def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 20, 14, generator=torch.Generator().manual_seed(1))


def near(result: torch.Tensor, expected: torch.Tensor, share: float = 1e-4) -> bool:
    return bool((result - expected).norm() <= share * expected.norm())
