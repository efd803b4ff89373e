"""Noise that is the same however the work is divided into batches."""

import torch
from torch import Tensor


class Noise:
    """Noise for samples, of which each has a seed of its own: the same in any division."""

    def __init__(self, inputs: Tensor, samples: int, seed: int) -> None:
        self._like = inputs
        self._generator = torch.Generator().manual_seed(seed)
        self._seeds = torch.randint(2**62, (samples,), generator=self._generator).tolist()

    def take(self, step: Tensor, uniform: bool = False) -> Tensor:
        """(n, C, H, W), standard normal or uniform in [-1, 1]; drawn on the CPU."""
        shape = self._like.shape[1:]
        drawn = {}
        for one in sorted(set(step.tolist())):
            generator = self._generator.manual_seed(self._seeds[one])
            drawn[one] = (
                torch.rand(shape, generator=generator) * 2 - 1
                if uniform
                else torch.randn(shape, generator=generator)
            )
        return torch.stack([drawn[one] for one in step.tolist()]).to(self._like)
