"""The Triton kernel that takes samples into running moments, and its launcher."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl
from torch import Tensor

from ..launch.launcher_parts import Launch

NUM_WARPS = 4
BYTES = 16  # of a sample that a thread loads at once


@triton.jit(do_not_specialize=["count", "n_samples"])
def moments_kernel(
    p_samples,  # (N, M), each sample in one piece
    p_mean,  # (M,) float32
    p_deviations,  # (M,) float32: sums of squared deviations from the mean
    count,  # samples taken so far
    n_samples,
    size,
    stride_n,
    EMPTY: tl.constexpr,  # nothing was taken so far: the state is not read
    BLOCK: tl.constexpr,
):
    """Update running moments, reading each sample and the state once.

    Welford's recurrence (1962, "Note on a Method for Calculating Corrected Sums of Squares and
    Products"), one sample after another in registers: with n the count up to this sample,
    d = x - mean; mean += d / n; deviations += d (x - mean). A program owns BLOCK elements, and has
    the next three samples on their way while it computes with one.

    Multiply-adds are fused by name, which leaves the compiler no rounding to choose: the bits do
    not depend on how the samples were cut into calls.
    """
    first = tl.program_id(0).to(tl.int64) * BLOCK
    b_here = tl.arange(0, BLOCK)  # (BLOCK,)
    m_here = b_here < size - first
    p_mean += first
    p_deviations += first
    if EMPTY:
        b_mean = tl.zeros((BLOCK,), tl.float32)
        b_deviations = tl.zeros((BLOCK,), tl.float32)
    else:
        b_mean = tl.load(p_mean + b_here, mask=m_here, other=0.0)
        b_deviations = tl.load(p_deviations + b_here, mask=m_here, other=0.0)
    p_sample = p_samples + first
    for _ in tl.range(0, n_samples, num_stages=4):
        b_value = tl.load(p_sample + b_here, mask=m_here, other=0.0).to(tl.float32)
        p_sample += stride_n
        count += 1
        # The fast division may miss 1 / 1 by a bit, and the first deviation must be nothing.
        share = tl.where(count == 1, 1.0, 1.0 / count.to(tl.float32))
        b_step = b_value - b_mean
        b_mean = tl.fma(b_step, share + tl.zeros_like(b_step), b_mean)
        b_deviations = tl.fma(b_step, b_value - b_mean, b_deviations)
    tl.store(p_mean + b_here, b_mean, mask=m_here)
    tl.store(p_deviations + b_here, b_deviations, mask=m_here)


def plan(samples: Tensor, mean: Tensor, deviations: Tensor, count: int) -> Launch:
    """Choose the launch for checked tensors.

    Args:
        samples: (N, M), float32, float16 or bfloat16, M in one piece.
        mean: (M,), float32, contiguous; written, and read unless `count` is zero.
        deviations: The same.
        count: Samples taken so far.

    Returns:
        The launch, not yet run.
    """
    n_samples, size = samples.shape
    block = 32 * NUM_WARPS * BYTES // samples.element_size()
    state = {"p_mean": 4 * size, "p_deviations": 4 * size}
    return Launch(
        kernel=moments_kernel,
        grid=(triton.cdiv(size, block),),
        arguments={
            "p_samples": samples,
            "p_mean": mean,
            "p_deviations": deviations,
            "count": count,
            "n_samples": n_samples,
            "size": size,
            "stride_n": samples.stride(0),
            "EMPTY": count == 0,
            "BLOCK": block,
        },
        num_warps=NUM_WARPS,
        reads={
            "p_samples": samples.numel() * samples.element_size(),
            **(state if count else {}),
        },
        writes=state,
    )
