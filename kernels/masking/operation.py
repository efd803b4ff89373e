"""Write batches of masked images, which perturbation methods feed to a model.

Three functions say where a pixel's weight comes from (a coarse mask, its region, its rank); one
operator and one kernel do the writing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..launch.argument_checks import DTYPES, check_content, check_device, check_shape, dtype_names
from ..launch.dispatch import backend
from ..launch.normalisation import working_dtype
from ..launch.operators import operator
from . import reference
from .reference import Picture, Weights
from .volumes import masked_volumes

Baseline = float | Sequence[float] | Tensor | None

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def masked_batch(
    image: Tensor,
    masks: Tensor,
    baseline: Baseline = None,
    *,
    owner: Tensor | None = None,
    size: Sequence[int] | None = None,
    shifts: Tensor | None = None,
    align_corners: bool = False,
    stretch: bool = False,
    channels_last: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Mask an image N times: out_n = baseline + m_n·(image - baseline).

    m_n is the n-th mask, brought to `size` by bilinear interpolation and cut to the image at
    `shifts`: the inputs of Score-CAM (Wang et al. 2020, "Score-CAM: Score-Weighted Visual
    Explanations for Convolutional Neural Networks", eq. 4 to 6: `align_corners` and `stretch` give
    pytorch-grad-cam's) and of RISE (Petsiuk et al. 2018, "RISE: Randomized Input Sampling for
    Explanation of Black-box Models", section 3.2: a `size` of one cell more than the image, and
    random `shifts`), and of occlusion (a small hole in a large mask, expanded and shifted).

    Where m is 1 a pixel is exactly the image's, where it is 0 exactly the baseline's, and without
    a baseline it is m·image, rounded once. A NaN or Inf in an image, baseline or mask stays in
    what is made from it.

    On a GPU this is one Triton launch, which computes each pixel's weight in registers, once for
    all channels: no upsampled mask is ever in memory (on a CPU it is plain torch, which holds
    them). With `stretch` a launch before it evaluates the upsampled masks a first time for their
    ranges. An output has the same bits in any batch, and never belongs to an autograd graph.

    With e the bytes of an element of each tensor, M = 4 where masks are interpolated and 1 where
    not, b = ⌈H·W·e_out / 2048⌉ and p = ⌈(pixels of `size`) / 8192⌉ it moves

        reads   N·H·W·(C·e_image + C·e_baseline + M·e_masks) + N·b·(e_owner + 2·e_shifts)
        writes  N·C·H·W·e_out

    where a baseline of one colour counts N·b·C·e_baseline if the batch is contiguous, and a plain
    number nothing. `stretch` adds N·M·e_masks·(pixels of `size`) + 8·N·p·b read and 8·N·p written.
    Nearly all of what is read comes out of the caches: images and masks are small, and read N
    times. Stores are 16 bytes wide where 16 bytes of pixels divide H·W.

    Args:
        image: (C, H, W) or (B, C, H, W), float32, float16, bfloat16 or float64. Contiguous and
            channels-last are read in place; quickest is the layout of the output. Volumes
            are (B, C, D, H, W): then masks are (N, d, h, w), `size` has three sides, `shifts` are
            (N, 3), and plain torch does the work on every device.
        masks: (N, h, w) in [0, 1], of the image's dtypes or bool. Each is read in place if it lies
            in one piece, also if they are expanded. float64 masks of other images are rounded to
            float32.
        baseline: What a mask of 0 shows: None for 0, a number, one number a channel (a sequence,
            copied to the device by each call, or a tensor (C,)), or a tensor that broadcasts to
            (B, C, H, W), such as a blurred image.
        owner: (N,) integers, which of the B images each mask is laid on: several pictures, or one
            with noise (SS-CAM) or in fractions (IS-CAM). Left out, there is one image, or one for
            each mask. One that is not in 0 to B - 1 gives NaN.
        size: (height, width) that masks are brought to, at least the image's, which is the
            default. Masks of that size are taken as they are.
        shifts: (N, 2) integers, row and column of `size` at which the image begins; must be given
            where `size` is larger. One at which the image does not fit inside gives NaN.
        align_corners: Whether the centres of a mask's corner cells lie on those of the corner
            pixels of `size`; otherwise cells and pixels cover the same area.
        stretch: Whether each mask, once it has its `size`, passes
            (m - min) / (max - min + 1e-8). A mask that is the same everywhere gives zeros, one
            that is not finite everywhere NaN everywhere.
        channels_last: The memory layout of the output.
        dtype: Of the output; the image's if left out. The computation is in float32, or in
            float64 for images of float64.

    Returns:
        (N, C, H, W), of volumes (N, C, D, H, W).

    Raises:
        ValueError: A shape, dtype, device or size that does not fit; the message says which.
    """
    if image.dim() == 5:
        if channels_last:
            raise ValueError("channels_last is a layout of images; volumes are contiguous.")
        return _mask_volumes(
            image, masks, baseline, owner, size, shifts, align_corners, stretch, dtype
        )
    image = _four_dimensions(image)
    _check_values(image, masks, "masks", "(N, h, w)", (*DTYPES, torch.bool))
    count = masks.shape[0]
    window = (image.shape[2], image.shape[3])
    full = window if size is None else (int(size[0]), int(size[1]))
    if full[0] < window[0] or full[1] < window[1]:
        raise ValueError(f"size must be at least the image's, {window}, but is {full}.")
    if shifts is not None:
        shifts = _check_integers(image, shifts, "shifts", (count, 2))
    elif full != window:
        raise ValueError(
            f"size {full} is larger than the image, {window}, so shifts must say where each "
            "mask is cut."
        )
    weights = Weights("masks", masks, None, None, full, shifts, align_corners, stretch)
    return _write(image, weights, baseline, owner, channels_last, dtype)


def _mask_volumes(
    image: Tensor,
    masks: Tensor,
    baseline: Baseline,
    owner: Tensor | None,
    size: Sequence[int] | None,
    shifts: Tensor | None,
    align_corners: bool,
    stretch: bool,
    dtype: torch.dtype | None,
) -> Tensor:
    """Check what `masked_batch` was given of volumes, and mask them."""
    check_content(image, "image")
    _check_values(image, masks, "masks", "(N, d, h, w)", (*DTYPES, torch.bool))
    count, window = len(masks), tuple(image.shape[2:])
    full = window if size is None else tuple(size)
    if len(full) != 3 or any(whole < part for whole, part in zip(full, window, strict=True)):
        raise ValueError(f"size must be at least the volume's, {window}, but is {full}.")
    if shifts is not None:
        shifts = _check_integers(image, shifts, "shifts", (count, 3))
    elif full != window:
        raise ValueError(
            f"size {full} is larger than the volume, {window}, so shifts must say where each "
            "mask is cut."
        )
    if owner is not None:
        owner = _check_integers(image, owner, "owner", (count,))
    elif len(image) not in (1, count):
        raise ValueError(
            f"there are {len(image)} volumes for {count} outputs, so owner must say which is whose."
        )
    levels, value = _baseline(image, baseline)
    with torch.no_grad():
        masked = masked_volumes(
            image,
            masks,
            value if levels is None else levels,
            owner=owner,
            size=full,
            shifts=shifts,
            align_corners=align_corners,
            stretch=stretch,
        )
    return masked.to(image.dtype if dtype is None else dtype)


def region_batch(
    image: Tensor,
    regions: Tensor,
    weights: Tensor,
    baseline: Baseline = None,
    *,
    owner: Tensor | None = None,
    region_owner: Tensor | None = None,
    channels_last: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Mask an image N times, region by region.

    out_n = baseline + m_n·(image - baseline), where a pixel's weight m_n is
    weights[n, regions[pixel]]: the coalitions of superpixels of LIME
    (Ribeiro et al. 2016, "Why Should I Trust You?", section 3.3) and KernelSHAP (Lundberg and Lee
    2017, "A Unified Approach to Interpreting Model Predictions", section 4.1), and the patches of
    occlusion and ablation.

    What holds for `masked_batch` holds here. One launch moves, with the same names,

        reads   N·H·W·(C·e_image + C·e_baseline + e_weights + e_regions)
                + N·b·(e_owner + e_region_owner)
        writes  N·C·H·W·e_out

    Args:
        image: As for `masked_batch`.
        regions: (H, W) or (K, H, W) integers in 0 to R - 1, such as superpixels. A pixel with
            another number gives NaN.
        weights: (N, R) in [0, 1], of the image's dtypes or bool.
        baseline: As for `masked_batch`.
        owner: As for `masked_batch`.
        region_owner: (N,) integers, which of the K maps of regions each output takes. Left out,
            there is one map, or one for each image, or one for each output. One that is not in
            0 to K - 1 gives NaN.
        channels_last: As for `masked_batch`.
        dtype: As for `masked_batch`.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: A shape, dtype or device that does not fit; the message says which.
    """
    image = _four_dimensions(image)
    _check_values(image, weights, "weights", "(N, R)", (*DTYPES, torch.bool))
    by_region = Weights("regions", weights, regions, region_owner)
    return _write(image, by_region, baseline, owner, channels_last, dtype)


def ranked_batch(
    image: Tensor,
    ranks: Tensor,
    counts: Tensor,
    baseline: Baseline = None,
    *,
    owner: Tensor | None = None,
    rank_owner: Tensor | None = None,
    insert: bool = False,
    channels_last: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Delete or insert an image's most important pixels, N times.

    Output n shows the baseline at the counts[n] pixels that come first in the order of importance
    and the image at all others; with `insert` the other way round. These are the steps of the
    deletion and insertion curves (Petsiuk et al. 2018, "RISE", section 4.1) and of pixel flipping
    (Samek et al. 2017, "Evaluating the Visualization of What a Deep Neural Network Has Learned").

    What holds for `masked_batch` holds here. One launch moves, with the same names,

        reads   N·H·W·(C·e_image + C·e_baseline + e_ranks)
                + N·b·(e_counts + e_owner + e_rank_owner)
        writes  N·C·H·W·e_out

    Args:
        image: As for `masked_batch`.
        ranks: (H, W) or (K, H, W) integers: each pixel's position in the order of importance, 0
            for the most important. Pixels that share a rank come and go together.
        counts: (N,) integers: ranks below are deleted, or inserted.
        baseline: As for `masked_batch`.
        owner: As for `masked_batch`.
        rank_owner: (N,) integers, which of the K maps of ranks each output takes. Left out, there
            is one map, or one for each image, or one for each output. One that is not in
            0 to K - 1 gives NaN.
        insert: Whether the first pixels are those of the image, and not those of the baseline.
        channels_last: As for `masked_batch`.
        dtype: As for `masked_batch`.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: A shape, dtype or device that does not fit; the message says which.
    """
    image = _four_dimensions(image)
    _check_values(image, counts, "counts", "(N,)", INTEGERS)
    by_rank = Weights("ranks", counts, ranks, rank_owner, insert=insert)
    return _write(image, by_rank, baseline, owner, channels_last, dtype)


def _write(
    image: Tensor,
    weights: Weights,
    baseline: Baseline,
    owner: Tensor | None,
    channels_last: bool,
    dtype: torch.dtype | None,
) -> Tensor:
    """Check what the three functions share, and call the operator."""
    count, images = weights.values.shape[0], image.shape[0]
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype must be {dtype_names(DTYPES, ' or ')}, but is {dtype}.")
    if owner is not None:
        owner = _check_integers(image, owner, "owner", (count,))
    elif images not in (1, count):
        raise ValueError(
            f"there are {images} images for {count} outputs, so owner must say which is whose."
        )
    if weights.labels is not None:
        weights = _with_labels(image, weights, weights.labels, owner)
    weights = weights._replace(values=_rounded(weights.values, image))
    picture = Picture(image, owner, *_baseline(image, baseline))
    with torch.no_grad():
        return _masked_batch(  # type: ignore[no-any-return]
            *picture, *weights, channels_last, image.dtype if dtype is None else dtype
        )


@operator("masked_batch")
def _masked_batch(
    image: Tensor,
    owner: Tensor | None,
    baseline: Tensor | None,
    value: float,
    kind: str,
    values: Tensor,
    labels: Tensor | None,
    label_owner: Tensor | None,
    size: Sequence[int],
    shifts: Tensor | None,
    align_corners: bool,
    stretch: bool,
    insert: bool,
    channels_last: bool,
    dtype: torch.dtype,
) -> Tensor:
    """Write the batch for the fields of a picture and weights."""
    picture = Picture(image, owner, baseline, value)
    height, width = size
    weights = Weights(
        kind, values, labels, label_owner, (height, width), shifts, align_corners, stretch, insert
    )
    # Everything whose dtype decides whether Triton can do the work.
    tensors = (image, values, baseline, image.new_empty(0, dtype=dtype))
    computed = [part for part in tensors if part is not None and part.is_floating_point()]
    if all(backend(part) == "triton" for part in computed):
        # Imported here, because Triton is not there on every system that has torch.
        from . import launcher

        launches, batch = launcher.plan(picture, weights, channels_last=channels_last, dtype=dtype)
        for launch in launches:
            launch.run()
        return batch
    order = torch.channels_last if channels_last else torch.contiguous_format
    return reference.masked_batch(picture, weights).to(dtype).contiguous(memory_format=order)


def _rounded(tensor: Tensor, image: Tensor) -> Tensor:
    """Round float64 beside an image of less precision: Triton has none."""
    narrow = tensor.dtype == torch.float64 and image.dtype != torch.float64
    return tensor.float() if narrow else tensor


def _four_dimensions(image: Tensor) -> Tensor:
    check_shape(image, "image", "(C, H, W) or (B, C, H, W)", image.dim() in (3, 4))
    check_content(image, "image")
    return image if image.dim() == 4 else image.unsqueeze(0)


def _with_labels(image: Tensor, weights: Weights, labels: Tensor, owner: Tensor | None) -> Weights:
    """Check labels, and make them (K, H, W) with an owner.

    Without an owner there is only one map, or map n for output n.
    """
    kind, label_owner, count = weights.kind, weights.label_owner, len(weights.values)
    fits = labels.dim() in (2, 3) and labels.shape[-2:] == image.shape[2:] and len(labels) > 0
    shape = f"(H, W) or (K, H, W) for an image of {tuple(image.shape[2:])}"
    check_shape(labels, kind, shape, fits)
    _check_type(image, labels, kind, INTEGERS)
    maps = labels if labels.dim() == 3 else labels.unsqueeze(0)
    name = f"{kind.removesuffix('s')}_owner"
    if label_owner is not None:
        label_owner = _check_integers(image, label_owner, name, (count,))
    elif len(maps) == image.shape[0] > 1:
        label_owner = owner
    elif len(maps) not in (1, count):
        raise ValueError(
            f"there are {len(maps)} maps of {kind} for {count} outputs, so {name} must say which "
            "is whose."
        )
    return weights._replace(labels=maps, label_owner=label_owner)


def _baseline(image: Tensor, baseline: Baseline) -> tuple[Tensor | None, float]:
    """Make a baseline a tensor or a number.

    A tensor is (1 or B, C, H, W), expanded.
    """
    if baseline is None:
        return None, 0.0
    if isinstance(baseline, int | float):
        return None, float(baseline)
    if not isinstance(baseline, Tensor):
        baseline = torch.as_tensor(baseline, dtype=working_dtype(image), device=image.device)
    _check_type(image, baseline, "baseline", DTYPES)
    sides = [1] * (image.dim() - 2)
    levels = baseline.view(-1, *sides) if baseline.dim() == 1 else baseline
    # torch.broadcast_shapes would also let the baseline decide how many channels there are.
    fits = levels.dim() <= image.dim() and all(
        size in (1, right)
        for size, right in zip(levels.shape[::-1], image.shape[::-1], strict=False)
    )
    fits &= baseline.dim() != 1 or len(baseline) == image.shape[1]
    shape = f"one number a channel or broadcast to the image's shape, {tuple(image.shape)}"
    check_shape(baseline, "baseline", shape, fits)
    whole = levels.dim() == image.dim()
    levels = levels.expand(levels.shape[0] if whole else 1, *image.shape[1:])
    return _rounded(levels, image), 0.0


def _check_values(
    image: Tensor, values: Tensor, name: str, shape: str, dtypes: Sequence[torch.dtype]
) -> None:
    fits = values.dim() == len(shape.split()) and values.numel() > 0
    check_shape(values, name, f"{shape} with at least one element", fits)
    _check_type(image, values, name, dtypes)


def _check_integers(image: Tensor, values: Tensor, name: str, shape: Sequence[int]) -> Tensor:
    """Check a list of integers, and let its elements follow one another."""
    check_shape(values, name, f"{tuple(shape)} integers", tuple(values.shape) == tuple(shape))
    _check_type(image, values, name, INTEGERS)
    return values.contiguous()


def _check_type(image: Tensor, tensor: Tensor, name: str, dtypes: Sequence[torch.dtype]) -> None:
    if tensor.dtype not in dtypes:
        names = dtype_names(dtypes)
        raise ValueError(f"the dtype of {name} must be one of {names}, but is {tensor.dtype}.")
    check_device(tensor, name, image, "image")
