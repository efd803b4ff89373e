"""Each gradient-CAM rule against pytorch-grad-cam and a case by hand."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import (
    GradCAM,
    GradCAMElementWise,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
)
from pytorch_grad_cam.utils.image import scale_cam_image

from cam import kernels
from cam.kernels import RULES
from tests.support.kernel_layers import DEVICE, distance, noise
from tests.support.rules64 import NO_WEIGHTS

PEERS = {
    "gradcam": GradCAM,
    "xgradcam": XGradCAM,
    "gradcam_plus_plus": GradCAMPlusPlus,
    "layercam": LayerCAM,
    "hirescam": HiResCAM,
    "gradcam_elementwise": GradCAMElementWise,
}


def test_has_a_peer_for_every_rule():
    assert set(PEERS) == set(RULES)


@pytest.mark.parametrize(("h", "w"), [(9, 11), (30, 40)], ids=["plane", "walk"])
@pytest.mark.parametrize("rule", RULES)
def test_equals_pytorch_grad_cam(rule, h, w, road):
    # pytorch-grad-cam adds 1e-6 to Grad-CAM++'s 2 G² + G³ ΣA, which the paper does not; on
    # gradients of this size that is below the tolerance.
    scale = 1000 if rule == "gradcam_plus_plus" else 1
    a = noise(3, 40, h, w, seed=1).clamp(min=0).to(DEVICE)
    g = scale * noise(3, 40, h, w, seed=2).to(DEVICE)
    peer = PEERS[rule](torch.nn.Conv2d(1, 1, 1), [])
    arrays = a.cpu().double().numpy(), g.cpu().double().numpy()
    peer_signed = peer.get_cam_image(None, None, None, *arrays, False)
    peer_maps = scale_cam_image(np.maximum(peer_signed, 0))
    maps, signed, weights = kernels.fused_cam(
        a, g, (rule,), return_signed=True, return_weights=True
    )
    assert distance(signed[:, 0], torch.from_numpy(peer_signed)) < 1e-5
    assert distance(maps[:, 0], torch.from_numpy(peer_maps)) < 1e-5
    if rule not in NO_WEIGHTS:
        peer_weights = peer.get_cam_weights(None, None, None, *arrays)
        assert distance(weights[:, 0], torch.from_numpy(peer_weights)) < 1e-5


# Two channels of two pixels. ΣA = (4, 2).
A = [[[[1.0, 3.0]], [[2.0, 0.0]]]]
G = [[[[2.0, 0.0]], [[-1.0, 0.5]]]]
BY_HAND = {
    "gradcam": ([1, -0.25], [1 - 0.5, 3]),
    "xgradcam": ([2 / 4, -2 / 2], [0.5 - 2, 1.5]),
    # α G = G / (2 + G ΣA): 2 / (2 + 8), and 0.5 / (2 + 1) where the gradient is positive
    "gradcam_plus_plus": ([0.2, 1 / 6], [0.2 + 2 / 6, 0.6]),
    "layercam": (None, [2, 0]),
    "hirescam": (None, [2 - 2, 0]),
    "gradcam_elementwise": (None, [2, 0]),
}


@pytest.mark.parametrize("rule", RULES)
def test_equals_a_case_by_hand(rule, road):
    a, g = torch.tensor(A, device=DEVICE), torch.tensor(G, device=DEVICE)
    signed, weights = kernels.fused_cam(a, g, (rule,), normalise=False, return_weights=True)
    expected_weights, expected = BY_HAND[rule]
    assert signed.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    if expected_weights is not None:
        assert weights.flatten().tolist() == pytest.approx(expected_weights, abs=1e-6)


def test_equals_a_whole_case_by_hand(road):
    a = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]], [[0.0, -1.0]]]], device=DEVICE)
    g = torch.tensor([[[[2.0, 0.0]], [[-1.0, -3.0]], [[5.0, -3.0]]]], device=DEVICE)
    maps, signed, weights = kernels.fused_cam(a, g, return_signed=True, return_weights=True)
    assert weights.tolist() == [[[1, -2, 1]]]
    assert signed.tolist() == [[[[-3, 2]]]]
    assert maps.tolist() == [[[[0, 1]]]]  # 2 / (2 + 1e-7) is 1 in float32


@pytest.mark.parametrize("shape", [(1, 4, 2, 2), (1, 4, 30, 40)], ids=["plane", "walk"])
def test_plus_plus_survives_gradients_whose_square_underflows(shape, road):
    """Real gradients of a layer can be 1e-25; G² is then 0, and 0 / 0 is no weight."""
    a, g = noise(*shape, seed=1).abs().to(DEVICE), noise(*shape, seed=2).to(DEVICE)
    tiny = kernels.fused_cam(a, g * 1e-25, ("gradcam_plus_plus",))
    # In the limit α is 1/2 wherever G is not zero.
    weights = (g.double().clamp(min=0) / 2).sum((2, 3))
    signed = torch.einsum("bc,bchw->bhw", weights, a.double()) * 1e-25
    positive = signed - signed.amin()
    assert distance(tiny[0, 0] * (1e-7 + positive.max()), positive[0]) < 1e-5


def test_rules_agree_where_the_gradient_is_one_value_a_channel(road):
    """G constant over space: Grad-CAM, XGrad-CAM and HiResCAM are then the same map."""
    a = noise(2, 12, 5, 6, seed=1).abs().to(DEVICE)
    g = noise(2, 12, 1, 1, seed=2).to(DEVICE).expand(2, 12, 5, 6)
    maps = kernels.fused_cam(a, g, ("gradcam", "xgradcam", "hirescam"), normalise=False)
    assert distance(maps[:, 1], maps[:, 0]) < 1e-5
    assert distance(maps[:, 2], maps[:, 0]) < 1e-5
