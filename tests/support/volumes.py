"""Networks that read one part of a volume or a clip."""

import torch
from torch import Tensor, nn

# Planes, rows and columns of the cube that the volume network reads.
VOLUME = (12, 24, 24)
CUBE = (slice(4, 8), slice(8, 16), slice(12, 20))
# Frames, rows and columns of the patch that the clip network reads.
CLIP = (8, 16, 16)
PATCH = (slice(4, 6), slice(8, 12), slice(4, 8))


def planted(size: tuple[int, ...], part: tuple[slice, ...], channels: int = 1) -> Tensor:
    """Two volumes, dark but for one part: (2, channels, *size)."""
    generator = torch.Generator().manual_seed(0)
    volumes = torch.zeros(2, channels, *size)
    region = volumes[:, :, *part]
    region += 1 + torch.rand(region.shape, generator=generator)
    return volumes


def inside(size: tuple[int, ...], part: tuple[slice, ...], reach: int = 0) -> Tensor:
    """The part and its neighbours as a mask of bool."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[tuple(slice(max(0, s.start - reach), s.stop + reach) for s in part)] = True
    return mask


class ReadsACube(nn.Module):
    """(B, 1, D, H, W) to three scores; the first grows with what is in the cube alone."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(3)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool3d(2)
        cells = [side // 2 for side in VOLUME]
        self.head = nn.Linear(3 * cells[0] * cells[1] * cells[2], 3)
        reads = torch.zeros(3, *cells)
        reads[:, *(slice(s.start // 2, s.stop // 2) for s in CUBE)] = 1
        weight = reads * torch.tensor([0.5, 1.0, 1.5]).view(3, 1, 1, 1)
        with torch.no_grad():
            scale = torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1, 1, 1)
            self.convolution.weight.copy_(scale * torch.full((3, 1, 3, 3, 3), 1 / 27))
            self.head.weight.copy_(torch.stack([weight, -weight / 2, 0 * weight]).flatten(1) / 50)
            self.head.bias.zero_()
        self.eval()

    def forward(self, volumes: Tensor) -> Tensor:
        features = self.pool(self.relu(self.norm(self.convolution(volumes))))
        return self.head(features.flatten(1))


class ReadsATubelet(nn.Module):
    """A transformer of tubelets, whose class token looks at what is bright.

    Args:
        frames_first: Whether it takes (B, T, C, H, W), and not (B, C, T, H, W).
    """

    def __init__(self, frames_first: bool = False, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frames_first = frames_first
        self.embed = nn.Conv3d(3, width, (2, 4, 4), (2, 4, 4), bias=False)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.block = Looking(width)
        self.head = nn.Linear(width, 2, bias=False)
        with torch.no_grad():
            self.embed.weight.fill_(1 / self.embed.weight[0].numel())
            self.head.weight.copy_(torch.stack([torch.ones(width), -torch.ones(width) / 2]))
        self.eval()

    def forward(self, clips: Tensor) -> Tensor:
        clips = clips.transpose(1, 2) if self.frames_first else clips
        tokens = self.embed(clips).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.start.expand(len(tokens), -1, -1), tokens], 1)
        return self.head(self.block(tokens)[:, 0])


class Looking(nn.Module):
    """One attention, in which every token looks at bright ones, and a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = 2
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.key.weight.copy_(torch.eye(width))
            self.key.bias.zero_()
            self.value.weight.copy_(torch.eye(width))

    def forward(self, tokens: Tensor) -> Tensor:
        count, length, width = tokens.shape
        split = (count, length, self.heads, width // self.heads)
        key, value = (part(tokens).view(split).transpose(1, 2) for part in (self.key, self.value))
        logits = key.sum(-1)[:, :, None].expand(-1, -1, length, -1)
        mixed = (logits.softmax(-1) @ value).transpose(1, 2).reshape(tokens.shape)
        return tokens + mixed
