"""Draw noisy copies of a picture, the same in any batch."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def draw_noise(like: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw standard normal noise, (n, …) in the dtype of one tensor.

    It is drawn copy by copy, so that it does not depend on how copies are divided into batches, and
    is the same but for rounding in any dtype.
    """
    drawn = [torch.randn(like.shape, generator=generator, device=like.device) for _ in range(count)]
    return torch.stack(drawn).to(like.dtype)


def draw_copies(
    picture: Tensor, chunks: Iterable[slice], noise: float, seed: int
) -> Iterator[Tensor]:
    """Draw noisy copies x + σ ε of a picture in batches.

    Args:
        picture: x, (C, H, W).
        chunks: Of the copies.
        noise: The share.
        seed: Of a generator on the picture's device.

    Yields:
        (n, C, H, W) of the picture's dtype.
    """
    generator = torch.Generator(picture.device).manual_seed(seed)
    scale = noise * (picture.max() - picture.min())
    for part in chunks:
        yield torch.addcmul(picture, draw_noise(picture, part.stop - part.start, generator), scale)
