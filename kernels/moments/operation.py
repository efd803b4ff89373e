"""Accumulate mean and variance of samples without storing the samples."""

import torch
from torch import Tensor

from ..launch.argument_checks import check_content, check_shape
from ..launch.dispatch import backend
from ..launch.normalisation import working_dtype
from ..launch.operators import operator
from . import reference


class Moments:
    """Running moments of N gradient samples of B images, element-wise.

    With x_1 … x_N the gradients of noisy copies of an image:

    - `mean`, Σ x / N, is SmoothGrad (Smilkov et al. 2017, "SmoothGrad: removing noise by adding
      noise");
    - `variance`, Σ (x - mean)² / N, is VarGrad (Adebayo et al. 2018, "Local Explanation Methods
      for Deep Neural Networks Lack Sensitivity to Parameter Values");
    - `mean_square`, Σ x² / N, is SquareGrad (Hooker et al. 2019, "A Benchmark for Interpretability
      Methods in Deep Neural Networks").

    `gradient_map` turns each of them into a map. Samples are added in portions of any size; what
    is kept is the mean and the sum of squared deviations from it, by Welford's recurrence, which
    stays accurate where the mean is large beside the deviations. Samples are taken one after
    another, so the moments have the same bits however the samples were divided, and an image has
    the same bits in any batch. What is not finite in a sample makes that element of the moments
    not finite, and no other.

    On a GPU, `add` is one Triton launch, which reads each sample once and the state once.
    """

    def __init__(self) -> None:
        self._count = 0
        self._shape = torch.Size()  # (B, C, H, W) or (B, C, D, H, W)
        self._order: tuple[int, ...] = ()  # those dimensions as they lie in memory
        self._dtype = torch.float32  # of the samples
        self._mean = torch.empty(0)  # (B·C·H·W,), in the order of memory
        self._deviations = torch.empty(0)

    @property
    def count(self) -> int:
        """How many samples were added."""
        return self._count

    def add(self, samples: Tensor) -> None:
        """Take samples in.

        The first samples decide the shape, the dtype, the device and the layout of the moments.
        Samples that lie in memory as they do are read in place, and others copied.

        Args:
            samples: (N, B, C, H, W), or (N, B, C, D, H, W) of volumes: N samples of each of B
                images, float32, float16, bfloat16 or float64. The gradients (N·B, C, H, W) of N
                noisy copies of a batch, one copy of the whole batch after another, are
                `gradients.unflatten(0, (N, B))`.

        Raises:
            ValueError: A shape, dtype or device that does not fit; the message says which.
        """
        self._check(samples)
        with torch.no_grad():
            if self._count == 0:
                self._begin(samples)
            lines = samples.permute(0, *(dim + 1 for dim in self._order)).flatten(1)  # (N, B·C·H·W)
            if lines.stride(1) != 1:
                lines = lines.contiguous()
            _update_moments(lines, self._mean, self._deviations, self._count)
        self._count += samples.shape[0]

    @property
    def mean(self) -> Tensor:
        """The mean, in the shape of a sample: float32, or float64 for float64.

        It is the state itself: adding samples changes it, so clone it to keep it.

        Raises:
            ValueError: No samples were added.
        """
        return self._shaped("mean", self._mean)

    @property
    def mean_square(self) -> Tensor:
        """The mean of the squared samples, (B, C, H, W), as `mean`.

        It is mean² + variance.

        Raises:
            ValueError: No samples were added.
        """
        square = (self._deviations / self._count).addcmul_(self._mean, self._mean)
        return self._shaped("mean_square", square)

    @property
    def variance(self) -> Tensor:
        """The variance of the samples, (B, C, H, W), as `mean`.

        Raises:
            ValueError: No samples were added.
        """
        return self._shaped("variance", self._deviations / self._count)

    def _begin(self, samples: Tensor) -> None:
        strides = samples.stride()[1:]
        self._order = tuple(sorted(range(len(strides)), key=lambda dim: strides[dim], reverse=True))
        self._shape = samples.shape[1:]
        self._dtype = samples.dtype
        size = self._shape.numel()
        dtype = working_dtype(samples)
        self._mean = torch.empty(size, dtype=dtype, device=samples.device)
        self._deviations = torch.empty(size, dtype=dtype, device=samples.device)

    def _shaped(self, what: str, line: Tensor) -> Tensor:
        """View elements in the order of memory as (B, C, H, W)."""
        if self._count == 0:
            raise ValueError(f"{what} needs at least one sample, but none was added.")
        as_it_lies = line.view([self._shape[dim] for dim in self._order])
        return as_it_lies.permute([self._order.index(dim) for dim in range(len(self._order))])

    def _check(self, samples: Tensor) -> None:
        shape = "(N, B, C, H, W), N samples of each of B images"
        check_shape(samples, "samples", shape, samples.dim() in (5, 6))
        check_content(samples, "samples")
        if self._count == 0:
            return
        shape = f"(N, {', '.join(map(str, self._shape))}), as those added before"
        check_shape(samples, "samples", shape, samples.shape[1:] == self._shape)
        devices = f"on {self._mean.device}", f"on {samples.device}"
        for right, actual in ((self._dtype, samples.dtype), devices):
            if actual != right:
                raise ValueError(
                    f"samples must be {right}, as those added before, but are {actual}."
                )


@operator("update_moments", mutates_args=("mean", "deviations"))
def _update_moments(samples: Tensor, mean: Tensor, deviations: Tensor, count: int) -> None:
    if backend(samples) == "triton":
        # Imported here, because Triton is not there on every system that has torch.
        from . import launcher

        launcher.plan(samples, mean, deviations, count).run()
    else:
        reference.update_moments(samples, mean, deviations, count)
