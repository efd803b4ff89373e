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


class Layered(nn.Sequential):
    """Two convolutions, a mean and a linear layer in a row: ``"3"`` is what is pooled."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
        self.eval()


class Still(nn.Module):
    """A layer with one map, a Gaussian off the middle, whatever comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        rows, columns = torch.arange(height)[:, None] - 6.0, torch.arange(width) - 5.0
        bump = torch.exp(-(rows**2 + columns**2) / 40)
        maps = self.layer(bump.expand(len(x), 1, -1, -1) + 0 * x[:, :1])
        return maps.mean((2, 3)) * self.weight


class Pixel(nn.Module):
    """A layer that shows the picture's brightness: its map goes along with whatever moves."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.layer(x.sum(1, keepdim=True)).mean((2, 3)) * self.weight


def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 20, 14, generator=torch.Generator().manual_seed(1))


def near(result: torch.Tensor, expected: torch.Tensor, share: float = 1e-4) -> bool:
    return bool((result - expected).norm() <= share * expected.norm())
