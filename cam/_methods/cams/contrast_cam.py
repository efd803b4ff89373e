"""CAMs built on another CAM: Finer-CAM and RefineCAM."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cam import kernels
from cam._engine.method_sources import LayerActivations, LayerGradients, Pixels
from cam._engine.passes import Passes
from cam._methods.base.method_registry import register_method
from cam._methods.cams.gradient_cam import compute_rule
from cam.errors import MethodError
from cam.parameters import integer, number, one_of
from cam.types import Maps

_WEIGHTINGS = ("equal", "probability")


@register_method(
    "finercam",
    rules={
        "alpha": number(0),
        "references": integer(1),
        "base": one_of(kernels.RULES),
        "weighting": one_of(_WEIGHTINGS),
    },
    title="Finer-CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="2 forwards, and 1 backward down to the layer",
)
def finercam(
    layer: LayerActivations,
    passes: Passes,
    *,
    alpha: float = 0.6,
    references: int = 3,
    base: str = "gradcam",
    weighting: str = "equal",
) -> Maps:
    """What tells the class from those most like it: a CAM of their difference.

    With y_c the class's logit and d the classes whose logits are nearest to it, the base method
    explains t = Σ_d p_d (y_c - α y_d). The p_d are equal, or, with ``weighting="probability"``,
    the classes' softmax divided by its sum over d, through which the gradient goes too.

    Equal weights with α = 0.6 are torchcam's; pytorch-grad-cam has ``weighting="probability"``
    and ``alpha=1``.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the images go once more.
        alpha: How much of what the class has in common with the others is taken away; 0 or more.
        references: How many others; all that there are where the model has fewer.
        base: The CAM that explains the difference: any rule of :func:`kernels.fused_cam`.
        weighting: ``"equal"`` or ``"probability"``.

    Returns:
        Maps (B, h, w) float32, float64 for float64.

    Raises:
        MethodError: A parameter is out of range, a target that is no class, or no other class.

    References:
        Zhang et al., Finer-CAM: Spotting the Difference Reveals Finer Details for Visual
        Explanation, CVPR 2025; references as in torchcam 0.5, FinerCAM
    """
    pixels = passes.pixels
    passes.expect(len(pixels.inputs))
    targets = [
        _Difference(index, others, alpha, weighting == "probability")
        for index, others in _nearest(pixels, references)
    ]
    captures = passes.captures(pixels.inputs, targets, LayerGradients, [layer], (base,))
    return _join(
        [
            compute_rule(base, source)
            for captured in captures
            for source in captured.read(LayerGradients)
        ]
    )


@dataclass(frozen=True)
class _Difference:
    """How far a class stands out from others, of one image's logits."""

    index: int
    others: list[int]
    alpha: float
    by_probability: bool

    def __call__(self, output: Tensor) -> Tensor:
        differences = output[self.index] - self.alpha * output[self.others]
        if not self.by_probability:
            return differences.mean()
        shares = output.softmax(0)[self.others]
        return (shares * differences).sum() / (shares.sum() + 1e-9)  # ε as pytorch-grad-cam


def _nearest(pixels: Pixels, count: int) -> list[tuple[int, list[int]]]:
    """List each image's class, and the other classes with the nearest logits."""
    if not isinstance(pixels.targets, Tensor):
        raise MethodError(
            "finercam tells a class from others, so its targets are classes, not callables"
        )
    logits, classes = pixels.logits, pixels.targets[:, None]
    if logits.shape[1] < 2:
        raise MethodError("finercam tells a class from others, but the model has one output")
    distances = (logits - logits.gather(1, classes)).abs().float().scatter(1, classes, torch.inf)
    others = distances.topk(min(count, logits.shape[1] - 1), largest=False).indices
    return list(zip(pixels.targets.tolist(), others.tolist(), strict=True))


@register_method(
    "refinecam",
    rules={"base": one_of(kernels.RULES)},
    title="RefineCAM",
    family="cam",
    kind="evidence",
    reads=LayerGradients,
    volumes=True,
    cost="1 forward, and the backward down to the first layer",
    fusion="product",
)
def refinecam(layer: LayerGradients, *, base: str = "gradcam_plus_plus") -> Maps:
    """The fine detail of early layers where the late ones see the class: their maps' product.

    map = Π_l N(max(L_l, 0)) with L_l the base method's map at layer l, brought to one size, and N
    min-max for each image. Name several layers, from early to late; with one it is the base
    method's own map.

    Args:
        layer: Its activations and gradients (B, C, h, w), floats of any dtype.
        base: The CAM of each layer: any rule of :func:`kernels.fused_cam`.

    Returns:
        Maps (B, h, w) float32, float64 for float64, of one layer and in [0, 1]; the product is
        taken where layers are fused.

    Raises:
        MethodError: A parameter is out of range.

    References:
        How to Evaluate and Refine your CAM, 2026 (arXiv:2605.14641), as in pytorch-grad-cam 1.5.7
        and torchcam 0.5, RefineCAM
    """
    maps = compute_rule(base, layer)
    return replace(maps, raw=maps.normalised)


def _join(parts: list[Maps]) -> Maps:
    """Join the maps of several batches."""

    def terms() -> Tensor:
        return torch.cat([part.terms() for part in parts if part.terms is not None])

    return Maps(
        raw=torch.cat([part.raw for part in parts]),
        normalised=torch.cat([part.normalised for part in parts]),
        terms=terms,
    )
