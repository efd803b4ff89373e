"""ADCC and ARCC: by hand, and against pytorch-grad-cam's."""

import math

import pytest
import torch
from pytorch_grad_cam.metrics.arcc import ARCC
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import nn

import cam
from tests.support.maps import attribution_of
from tests.support.networks import Weighted


def order(*importance: float) -> torch.Tensor:
    return torch.tensor(importance, dtype=torch.float32).view(1, 2, 2)


class Same(nn.Module):
    """A layer that hands on a picture's one channel, and p = its weighted share."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1, bias=False)
        self.layer.weight.data.fill_(1)
        self.rest = Weighted([[0.5, 0.3], [0.2, 0.0]])

    def forward(self, x):
        return self.rest(self.layer(x))


PICTURE = torch.tensor([[[[1.0, 1], [0, 0.2]]]])
# Of what the map (1, 0, 0.25, 0.5) shows of the image EigenCAM's map is (1, 0, 0, 0): the Pearson
# correlation of both, less their means 0.4375 and 0.25.
PRODUCT = 0.5625 * 0.75 + (0.4375 + 0.1875 - 0.0625) * 0.25
LENGTHS = (0.5625**2 + 0.4375**2 + 0.1875**2 + 0.0625**2) * (0.75**2 + 3 * 0.25**2)
COHERENCY = (PRODUCT / math.sqrt(LENGTHS) + 1) / 2


def test_adcc_by_hand():
    """EigenCAM of one channel that is the picture itself: the centred picture, cut at 0, scaled.

    Of evidence (0.9, 0.1, 0.3, 0.5) A = (1, 0, 0.25, 0.5). x = (1, 1, 0, 0.2) ⊙ A is
    z = (1, 0, 0, 0.1), less its mean 0.275: its map is (1, 0, 0, 0). p = 0.8 becomes 0.5.
    """
    maps = attribution_of(order(0.9, 0.1, 0.3, 0.5))
    actual = cam.metric("adcc")(Same(), PICTURE, maps, 0, method="eigencam", layers="layer").item()
    parts = (COHERENCY, 1 - 0.4375, 1 - 0.3 / 0.8)
    assert actual == pytest.approx(3 / sum(1 / part for part in parts), abs=1e-5)


def test_adcc_is_0_where_one_part_is_0_and_nan_where_nothing_correlates():
    metric, options = cam.metric("adcc"), {"method": "eigencam", "layers": "layer"}
    # The map of what (1, ½, ½, ½) shows of (0, 1, 1, 1) is (0, 1, 1, 1), its very opposite.
    opposite = torch.tensor([[[[0.0, 1], [1, 1]]]])
    result = attribution_of(order(1, 0.5, 0.5, 0.5), "contribution")
    assert metric(Same(), opposite, result, 0, **options).item() == pytest.approx(0, abs=1e-6)
    flat = metric.measure(Same(), PICTURE, attribution_of(order(1, 1, 1, 1)), 0, **options)
    assert flat.reasons == ("the map is the same everywhere",)


def test_arcc_by_hand():
    """A quarter is removed: the first pixel, or the second, which become their neighbours' mean.

    With 2/5, 2/5 across and 1/5 beside the corner: the first 0.4 · 1 + 0.4 · 0 + 0.2 · 0.2 = 0.44,
    the second 0.4 · 1 + 0.4 · 0.2 + 0.2 · 0 = 0.48. p = 0.5 · 0.44 + 0.3, and 0.5 + 0.3 · 0.48.
    """
    maps = attribution_of(order(0.9, 0.1, 0.3, 0.5))
    metric = cam.metric("arcc", shares=(0.25,), noise=0)
    actual = metric(Same(), PICTURE, maps, 0, method="eigencam", layers="layer").item()
    parts = (COHERENCY, 1 - 0.4375, 0.644 - 0.52)
    assert actual == pytest.approx(3 / sum(1 / part for part in parts), abs=1e-3)
    # The other way round it is worse than chance, and scores 0.
    opposite = attribution_of(order(0.1, 0.9, 0.3, 0.5))
    assert metric(Same(), PICTURE, opposite, 0, method="eigencam", layers="layer").item() == 0


def test_arcc_is_grad_cams_on_photos(bundled, batch):
    """Theirs is given our Grad-CAM as the method, so that only the metric is compared.

    Both draw the noise of ROAD, whose part in the mean over eight removals is below 0.01.
    """
    classes = bundled.module(batch).argmax(1).tolist()
    result = cam.attribute(bundled, batch, "gradcam", targets=classes)["gradcam"]

    def explain_again(input_tensor, targets):
        maps = cam.attribute(bundled, input_tensor, "gradcam", targets=classes)["gradcam"]
        return maps.heatmap.numpy()

    targets = [ClassifierOutputSoftmaxTarget(index) for index in classes]
    peer = ARCC(explain_again)
    expected = peer(batch, result.heatmap.numpy(), targets, bundled.module)
    actual = cam.metric("arcc")(bundled, batch, result, classes, method="gradcam")
    assert actual.tolist() == pytest.approx(expected.tolist(), abs=0.02)
