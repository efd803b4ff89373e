"""Segments explained where one half of the image is known to count."""

import warnings

import pytest
import torch

import cam
from cam.targets import Segment
from tests.cam._methods.test_every_method import SMALLER
from tests.support.segmenters import LeftHalf, make_pictures

NOT_HERE = {"drise", "xrai"}  # of detectors; in segments of many scales, which take long
METHODS = [
    name for name, info in cam.methods().items() if not info.attention and name not in NOT_HERE
]
# Parts small enough that none reaches far into both halves, and as many draws as they take.
FINER: dict[str, dict] = {
    "rise": {"masks": 1000},
    "lime": {"samples": 300, "segments": 40},
    "kernelshap": {"samples": 300, "segments": 40},
    "partitionshap": {"segments": 40},
}
# Answers that the network does not decide: features alone, or random numbers.
BLIND = {"eigencam", "kpcacam", "fem", "randomcam"}


@pytest.fixture(scope="module")
def model() -> cam.Model:
    return cam.Model(LeftHalf(), task="segmentation", labels=["dark", "bright"])


def explain(model, name, target, pictures):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cam.CamWarning)
        method = cam.method(name, **(SMALLER | FINER).get(name, {}))
        return cam.attribute(model, pictures, method, target)[name]


def test_the_bottleneck_is_the_layer(model):
    assert model.layers == ("bottleneck",)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("target", ["segment:bright", "segment:1@48,20", "segment:1@40,8,60,50"])
def test_the_map_lies_on_the_half_that_counts(model, name, target):
    """The pixels that are asked about may lie in the other half."""
    pictures = make_pictures(1)
    try:
        result = explain(model, name, target, pictures)
    except (cam.MethodError, cam.LayerError) as error:
        pytest.skip(f"not applicable: {error}")
    assert float(result.heatmap.max()) == pytest.approx(1, abs=1e-3)
    columns = (result.heatmap[0] > 0.5).nonzero()[:, 1]
    # To half a cell of the bottleneck beyond the middle.
    share = float((columns < 32 + 4).float().mean())
    if name not in BLIND:
        assert share > 0.9, f"{share:.2f} of the strong pixels"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("segment:1@70,3", "the place 70, 3 lies outside of the image of 64 × 64 pixels"),
        ("segment:bright@40,8,60", "a segment's place is x, y, or"),
        ("segment:grey", "has no class 'grey'"),
        ("segment:7", "target 7 is out of range"),
        (1, r"cam.targets.Segment\(class\) for a class's pixels, or 'segment:CLASS'"),
        (Segment(1, torch.zeros(64, 64, dtype=torch.bool)), "its mask is empty"),
        (Segment(1, torch.ones(32, 64, dtype=torch.bool)), r"must be bool of shape \(64, 64\)"),
    ],
)
def test_refuses_in_one_sentence(model, target, sentence):
    with pytest.raises(cam.TargetError, match=sentence) as error:
        cam.attribute(model, make_pictures(1), "gradcam", target)
    assert "\n" not in str(error.value)


def test_a_class_that_is_not_there():
    class Dark(LeftHalf):
        def forward(self, pixels):
            return super().forward(pixels) - torch.tensor([0.0, 100.0])[:, None, None]

    model = cam.Model(Dark(), task="segmentation")
    with pytest.raises(cam.TargetError, match=r"of the region \(there it is 0\); ask for what is"):
        cam.attribute(model, make_pictures(1), "gradcam", "segment:1@48,20")
    maps = cam.attribute(model, make_pictures(1), "saliency", Segment(1, at=(48, 20), absent=True))
    assert maps["saliency"].raw.any()


class Local(torch.nn.Module):
    """Each pixel's logits are made of that pixel alone."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(3, 4, 1)
        self.head = torch.nn.Conv2d(4, 2, 1)

    def forward(self, pixels):
        return self.head(self.features(pixels).square())


def test_a_pixel_is_mirrored_with_the_image():
    torch.manual_seed(0)
    pictures = make_pictures(1)
    method = cam.method("hirescam", aug_smooth=True)
    target = Segment(1, at=(48, 20), absent=True)
    maps = cam.attribute(Local().eval(), pictures, method, target, "features")
    raw = maps["hirescam"].raw[0]
    assert raw[20, 48] != 0
    raw[20, 48] = 0
    assert not raw.any()


def test_metrics_take_the_place_as_the_truth(model):
    """The half that is explained lies left: all of the evidence, or none of it, is in the box."""
    pictures = make_pictures(1)
    metric = cam.metric("energy_pointing_game")
    for numbers, least, most in (("0,0,32,64", 0.85, 1), ("36,0,64,64", 0, 0.001)):
        target = f"segment:1@{numbers}"
        maps = cam.attribute(model, pictures, "saliency", target)["saliency"]
        assert least <= float(metric(model, pictures, maps, target)[0]) <= most


def test_the_scores_follow_what_is_deleted(model):
    """When all is hidden the class has gone, and the score is that of the same pixels."""
    pictures = make_pictures(1)
    target = "segment:bright"
    maps = cam.attribute(model, pictures, "saliency", target)["saliency"]
    value = cam.metric("deletion", steps=4)(model, pictures, maps, target)
    assert value.isfinite().all()
