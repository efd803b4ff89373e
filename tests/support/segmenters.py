"""Small segmenters: a U-Net built by hand, and others with random weights."""

import torch
from torch import Tensor, nn

SIZE = (64, 64)


class LeftHalf(nn.Module):
    """A U-Net with skip connections, made of the left half of the image alone.

    The right half is cut off at the very beginning, so its skip connections carry nothing of it
    either. The decoder copies the left half's maps to the right: a question about any pixel is
    answered by the left half. Class 1 is where that is bright.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU())
        self.bottleneck = nn.Sequential(nn.Conv2d(4, 4, 2, 2), nn.ReLU())
        self.enlarge = nn.Upsample(scale_factor=2)
        self.decoder = nn.Conv2d(8, 2, 1)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for child in (self.encoder[0], self.bottleneck[0]):
                weights = torch.rand(child.weight.shape, generator=generator)
                child.weight.copy_(weights / weights[0].sum())
                child.bias.zero_()
            self.decoder.weight[0] = -0.1
            self.decoder.weight[1] = torch.rand(8, 1, 1, generator=generator)
            self.decoder.bias.zero_()
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        half = pixels.shape[3] // 2
        left = torch.cat([pixels[..., :half], torch.zeros_like(pixels[..., half:])], 3)
        fine = self.encoder(left)
        joined = torch.cat([fine, self.enlarge(self.bottleneck(fine))], 1)  # skip connection
        maps = self.decoder(joined)
        maps = maps[..., : maps.shape[3] // 2].repeat(1, 1, 1, 2)
        return nn.functional.interpolate(maps, pixels.shape[2:], mode="nearest")


def make_pictures(count: int = 2) -> Tensor:
    """Patches of 8 × 8, (count, 3, 64, 64), of which some are below the network's kink."""
    generator = torch.Generator().manual_seed(1)
    patches = torch.rand(count, 3, 8, 8, generator=generator) * 3 - 1
    return patches.repeat_interleave(8, 2).repeat_interleave(8, 3)
