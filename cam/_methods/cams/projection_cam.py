"""CAMs that project a layer's feature maps on their first principal component."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from cam._engine.method_sources import LayerActivations, LayerGradients
from cam._methods.base.maps import normalise_maps
from cam._methods.base.method_registry import register_method
from cam._methods.base.principal_component import centre, first_component, orient
from cam.parameters import number, one_of, optional
from cam.types import Maps

LARGE = 1024
"""Above this number of positions the component is found iteratively."""

KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": lambda vectors, gamma: (gamma * vectors @ vectors.T + 1).tanh(),
    "poly": lambda vectors, gamma: (gamma * vectors @ vectors.T + 1) ** 3,
    "rbf": lambda vectors, gamma: (-gamma * _distances(vectors)).exp(),
    "cosine": lambda vectors, _: _directions(vectors) @ _directions(vectors).T,
    "linear": lambda vectors, _: vectors @ vectors.T,
}
"""Name → from n vectors (n, C) and γ to their kernel (n, n)."""


@register_method(
    "eigencam",
    title="Eigen-CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="1 forward",
    sums=False,
)
def eigencam(layer: LayerActivations) -> Maps:
    """What a layer reacts to most, whatever the class: its maps' first principal component.

    map_s = Σ_c v_c (A_cs - mean_s A_cs) with v the first principal axis of the h·w vectors A_s;
    centred as in pytorch-grad-cam, which the paper's decomposition of A itself is not.

    References:
        Muhammad and Yeasin, Eigen-CAM: Class Activation Map using Principal Components, IJCNN 2020,
        equation 3
    """
    return _project(layer.activations)


@register_method(
    "eigengradcam",
    title="Eigen-Grad-CAM",
    family="cam",
    kind="evidence",
    reads=LayerGradients,
    volumes=True,
    cost="1 forward, and the backward down to the layer",
    sums=False,
)
def eigengradcam(layer: LayerGradients) -> Maps:
    """Eigen-CAM of activations times gradients, so that it asks about the class.

    map_s = Σ_c v_c (E_cs - mean_s E_cs) with E = G·A and v the first principal axis of its h·w
    vectors.

    References:
        pytorch-grad-cam 1.5.7, EigenGradCAM (Gildenblat and contributors)
    """
    return _project(layer.activations * layer.gradients)


@register_method(
    "kpcacam",
    rules={"kernel": one_of(KERNELS), "gamma": optional(number(above=0))},
    title="KPCA-CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="1 forward",
    sums=False,
)
def kpcacam(
    layer: LayerActivations, *, kernel: str = "sigmoid", gamma: float | None = None
) -> Maps:
    """Eigen-CAM along a curved axis: the first principal component of a kernel of the places.

    With a_s = A_s - mean_s A_s the centred vectors of the n = h·w places, K_st = k(a_s, a_t) and
    K' = (1 - 1/n) K (1 - 1/n): map = √λ v with v the eigenvector of K' to its largest eigenvalue λ.
    The kernels are ``"sigmoid"`` tanh(γ a·b + 1), ``"poly"`` (γ a·b + 1)³, ``"rbf"``
    exp(-γ |a - b|²), ``"cosine"`` a·b / |a||b| and ``"linear"`` a·b, which is Eigen-CAM.

    An eigenvector has two directions; the one along which the sum of the channels grows is taken,
    as for Eigen-CAM. K' takes n² numbers, which are many at an early layer.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        kernel: Name of the kernel.
        gamma: γ, above 0; None: 1 / C.

    Returns:
        Maps (B, h, w) float32.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Karmani et al., KPCA-CAM: Visual Explainability of Deep Computer Vision Models using Kernel
        PCA, MMSP 2024; kernels as in scikit-learn, KernelPCA
    """
    scale = 1 / layer.activations.shape[1] if gamma is None else gamma
    centred, finite = centre(layer.activations)
    # One picture at a time: K' of a wide layer is large.
    components = [
        _kernel_component(vectors.double(), KERNELS[kernel], scale) for vectors in centred
    ]
    raw = orient(torch.stack(components).float(), centred)
    raw = raw.where(finite, torch.nan).view(-1, *layer.activations.shape[2:])
    return Maps(raw=raw, normalised=normalise_maps(raw))


def _distances(vectors: Tensor) -> Tensor:
    squares = vectors.square().sum(1)
    return (squares[:, None] + squares - 2 * vectors @ vectors.T).clamp(min=0)


def _directions(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=1, eps=1e-30)


def _kernel_component(
    vectors: Tensor, kernel: Callable[[Tensor, float], Tensor], gamma: float
) -> Tensor:
    """Compute √λ v (n,) of a kernel for vectors (n, C)."""
    gram = kernel(vectors, gamma)
    gram = gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    value, axis = _largest(gram, vectors.sum(1))
    return axis * value.clamp(min=0).sqrt()


def _largest(gram: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Find the largest eigenvalue of a symmetric matrix, and its eigenvector.

    All of them take a time of n³, which is half a minute for 56 × 56 positions; so for a large
    matrix only the largest is searched for, from a likely start, and all where that fails.

    Args:
        gram: (n, n).
        start: (n,) a guess of the eigenvector.

    Returns:
        The eigenvalue and the eigenvector (n,).
    """
    if len(gram) > LARGE:
        try:
            values, axes = torch.lobpcg(
                gram, k=1, X=start[:, None], largest=True, niter=300, tol=1e-12
            )
        except RuntimeError:  # a start that is zero, or no number
            pass
        else:
            value, axis = values[0], axes[:, 0]
            if bool((gram @ axis - value * axis).norm() <= 1e-8 * value):
                return value, axis
    values, axes = torch.linalg.eigh(gram)
    return values[-1], axes[:, -1]


def _project(features: Tensor) -> Maps:
    """Make maps of the first principal component of (B, C, h, w)."""
    raw = first_component(features)
    return Maps(raw=raw, normalised=normalise_maps(raw))
