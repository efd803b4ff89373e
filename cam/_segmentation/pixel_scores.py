"""Recognise a segmenter by what it returns, and read its classes' scores.

Three kinds are read: a record whose "out" (torchvision) or "logits" (Hugging Face's SegFormer,
UPerNet and others) has a map for each class; queries with a class and a mask each (MaskFormer,
Mask2Former, OneFormer, EoMT); and a bare tensor, which may be anything and has to be declared.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cam.errors import ModelError

_MAPS = ("out", "logits")
_CLASSES, _MASKS = "class_queries_logits", "masks_queries_logits"


@dataclass(frozen=True, eq=False)
class PixelScores:
    """What a segmenter returned for a batch.

    Attributes:
        values: (B, K, h, w), the highest class wins; of one class the sign says whether it is
            there.
        certain: Whether the output alone shows that it is a segmenter.
    """

    values: Tensor
    certain: bool


def read_query_masks(output: object) -> Tensor | None:
    """Join queries with a class and a mask each to a map for each class; None of others.

    They are Σ_q p_q(class) m_q(pixel), with p the softmax over classes, of which the last is "no
    object", and m the sigmoid of the mask (Cheng et al. 2021, "Per-Pixel Classification is Not All
    You Need for Semantic Segmentation", section 3.4).

    Returns:
        (B, K, h, w), of the masks' resolution.
    """
    classes, masks = _entry(output, _CLASSES), _entry(output, _MASKS)
    if classes is None or masks is None or classes.ndim != 3 or masks.ndim != 4:
        return None
    if classes.shape[:2] != masks.shape[:2]:
        return None
    shares = classes.softmax(2)[..., :-1].transpose(1, 2)  # (B, K, Q)
    joined = shares @ masks.sigmoid().flatten(2)  # (B, K, h · w)
    return joined.reshape(*joined.shape[:2], *masks.shape[2:])


def find_pixel_scores(output: object) -> PixelScores | None:
    """Find a map for each class in an output; None where there is none.

    Args:
        output: Of a network.
    """
    joined = read_query_masks(output)
    if joined is not None:
        return PixelScores(joined, certain=True)
    named = None if isinstance(output, Tensor) else next(_named_maps(output), None)
    if named is not None:
        return PixelScores(named, certain=True)
    first = output[0] if isinstance(output, tuple | list) and output else output
    if isinstance(first, Tensor) and _are_maps(first):
        return PixelScores(first, certain=False)
    return None


def require_segmenter(
    scores: PixelScores | None, name: str, declared: bool, labels: int | None
) -> Tensor:
    """Return the scores of a network that is shown, or declared, to be a segmenter.

    Args:
        scores: Of :func:`find_pixel_scores`.
        name: The network's.
        declared: Whether the caller says that it is one.
        labels: How many classes have a name; None where none have.

    Returns:
        (B, K, h, w).

    Raises:
        ModelError: It returns no map for each class, or nothing tells what its maps are.
    """
    if scores is None:
        raise ModelError(
            f"{name} returns no map for each class: neither a record with 'out' or 'logits' of "
            "shape (B, classes, h, w), nor queries with masks, nor such a tensor, so it is no "
            "segmenter"
        )
    if scores.certain or declared or labels == scores.values.shape[1]:
        return scores.values
    raise ModelError(
        f"{name} returns a tensor of shape {tuple(scores.values.shape)}, and nothing shows that "
        "its maps are classes; say so with cam.Model(module, task='segmentation'), or give "
        "labels=…, one name a class"
    )


def _named_maps(output: object):  # type: ignore[no-untyped-def]
    for name in _MAPS:
        values = _entry(output, name)
        if values is not None and _are_maps(values):
            yield values


def _are_maps(values: Tensor) -> bool:
    return values.ndim == 4 and values.is_floating_point()


def _entry(output: object, name: str) -> Tensor | None:
    value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    return value if isinstance(value, Tensor) else None
