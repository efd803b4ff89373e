"""Pieces that several Triton kernels share."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def load_tile(planes, b_channel, b_pixel, channels, pixels):
    """Load the tile (channel, pixel) of one image, zero outside.

    The planes are a pointer, and the strides of channels and pixels. Whichever stride is 1 reaches
    the kernel as a constant (the launcher specialises on it), and the compiler turns its threads so
    that they run along that axis: channels-last and contiguous images are both read in order.
    """
    p_planes, stride_c, stride_s = planes
    m_tile = (b_channel[:, None] < channels) & (b_pixel[None, :] < pixels)  # (BLOCK_C, BLOCK_S)
    p_tile = p_planes + b_channel[:, None] * stride_c + b_pixel[None, :] * stride_s
    return tl.load(p_tile, mask=m_tile, other=0.0).to(tl.float32)


@triton.jit
def single(number):
    """Round an argument to float32.

    Triton's launcher passes a Python float so; a kernel that Inductor compiled gets it as float64,
    in which everything computed from it would go on.
    """
    return tl.cast(number, tl.float32)


@triton.jit
def widen(b_index, INT64: tl.constexpr):
    """Give an index 64 bits where 32 would not do."""
    return b_index.to(tl.int64) if INT64 else b_index


@triton.jit
def is_last(p_counter, n_programs):
    """Count this program in; true for the last program of an image.

    The barrier gathers the stores of the program's other warps before its one atomic publishes
    them; acquire-release at the scope of the GPU makes every earlier program's stores visible to
    the last.
    """
    tl.debug_barrier()
    return tl.atomic_add(p_counter, 1, sem="acq_rel", scope="gpu") == n_programs - 1


@triton.jit
def count_bad(b_value, m_value):
    """Count the values along the last axis that are NaN or infinite."""
    finite = tl.abs(b_value) < float("inf")  # false for NaN
    return tl.sum((m_value & (finite == 0)).to(tl.int32), axis=len(b_value.shape) - 1)


@triton.jit
def lowest(b_value, m_value):
    """Find the smallest value along the last axis that the mask keeps."""
    return tl.min(tl.where(m_value, b_value, float("inf")), axis=len(b_value.shape) - 1)


@triton.jit
def highest(b_value, m_value):
    """Find the largest value along the last axis, none of them negative."""
    return tl.max(tl.where(m_value, b_value, 0.0), axis=len(b_value.shape) - 1)


@triton.jit
def to_unit(b_value, low, span, n_bad):
    """Compute (value - low) / span, or NaN for bad images.

    The division is the correctly rounded one: the fast one may give more than 1 at the maximum.
    """
    b_unit = tl.div_rn(b_value - low, span + tl.zeros_like(b_value))
    return tl.where(n_bad > 0, float("nan"), b_unit)
