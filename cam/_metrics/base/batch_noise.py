"""Noise that is the same however the work is divided into batches."""

import torch
from torch import Tensor


class Noise:
    """Noise for samples, each with a separate seed: the same in any division."""

    def __init__(self, inputs: Tensor, samples: int, seed: int) -> None:
        self._like = inputs
        self._generator = torch.Generator().manual_seed(seed)
        self._seeds = torch.randint(2**62, (samples,), generator=self._generator).tolist()

    def take(self, step: Tensor, uniform: bool = False) -> Tensor:
        """Draw (n, C, H, W) on the CPU, normal or uniform in [-1, 1]."""
        shape = self._like.shape[1:]
        draws = {}
        for number in sorted(set(step.tolist())):
            generator = self._generator.manual_seed(self._seeds[number])
            draws[number] = (
                torch.rand(shape, generator=generator) * 2 - 1
                if uniform
                else torch.randn(shape, generator=generator)
            )
        return torch.stack([draws[number] for number in step.tolist()]).to(self._like)


class NoisyPictures(Noise):
    """Pictures with normal noise, as strong as a share of each picture's range."""

    def __init__(self, inputs: Tensor, samples: int, seed: int, share: float) -> None:
        super().__init__(inputs, samples, seed)
        self._strength = share * picture_range(inputs)

    def __call__(self, owner: Tensor, step: Tensor) -> Tensor:
        """Return noisy pictures (n, C, H, W) of owners (n,) at steps (n,)."""
        return self._like[owner] + self.take(step) * self._strength[owner]


def picture_range(inputs: Tensor) -> Tensor:
    """Return each picture's max x - min x, (B, 1, 1, 1)."""
    low, high = inputs.flatten(1).aminmax(dim=1)
    return (high - low).view(-1, 1, 1, 1)
