"""eigen_smooth and aug_smooth against grad-cam 1.5.7, with the same targets and directions."""

import sys

import numpy as np
import pytest
import pytorch_grad_cam as peers
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

import cam
from tests.support.networks import Curved, Pooled, near, pictures

TARGETS = [3, 1]
PEERS = {
    "gradcam": peers.GradCAM,
    "xgradcam": peers.XGradCAM,
    "layercam": peers.LayerCAM,
    "hirescam": peers.HiResCAM,
    "gradcam_elementwise": peers.GradCAMElementWise,
    "scorecam": peers.ScoreCAM,
    "ablationcam": peers.AblationCAM,
    "shapleycam": peers.ShapleyCAM,
}
SUMS = [
    *PEERS,
    "gradcam_plus_plus",
    "cam",
    "fem",
    "randomcam",
    "finercam",
    "refinecam",
    "smoothgradcam_plus_plus",
    "sscam",
    "iscam",
]


def ours(network, name, layers="0", targets=TARGETS, **parameters) -> cam.Attribution:
    method = cam.method(name, **parameters)
    return cam.attribute(network, pictures(), method, targets=targets, layers=layers)[name]


def theirs(name, network, layers=("0",), **options) -> torch.Tensor:
    targets = [ClassifierOutputTarget(index) for index in TARGETS]
    with PEERS[name](network, [network.get_submodule(layer) for layer in layers]) as peer:
        return torch.from_numpy(peer(pictures(), targets, **options))


@pytest.fixture(autouse=True)
def _upright(monkeypatch) -> None:
    """The peer shows whichever direction its decomposition returned; let it take cam's."""

    def upright(terms):
        projection = get_2d_projection(terms)
        flat = terms.reshape(*terms.shape[:2], -1).sum(1)
        flat = flat - flat.mean(1, keepdims=True)
        along = (projection.reshape(len(projection), -1) * flat).sum(1)
        return projection * np.where(along < 0, -1, 1)[:, None, None].astype(np.float32)

    for module in ("base_cam", "layer_cam", "hirescam", "grad_cam_elementwise"):
        part = getattr(peers, module)
        if hasattr(part, "get_2d_projection"):
            monkeypatch.setattr(part, "get_2d_projection", upright)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("eigen", [False, True])
@pytest.mark.parametrize("augmented", [False, True])
def test_is_grad_cams(name, eigen, augmented):
    network = Curved()
    if name == "scorecam":
        network[-1].weight.data *= 5  # scores that differ enough between channels
    options = {"utility": "score"} if name == "shapleycam" else {}
    actual = ours(network, name, eigen_smooth=eigen, aug_smooth=augmented, **options)
    expected = theirs(name, network, eigen_smooth=eigen, aug_smooth=augmented)
    assert expected.std() > 0.01
    assert near(actual.heatmap, expected)
    if eigen or augmented:
        assert not near(actual.heatmap, ours(network, name, **options).heatmap, 1e-2), (
            "it changes nothing"
        )


def test_several_layers_are_grad_cams():
    network = Curved()
    actual = ours(network, "gradcam", ["0", "2"], eigen_smooth=True, aug_smooth=True)
    expected = theirs("gradcam", network, ["0", "2"], eigen_smooth=True, aug_smooth=True)
    assert near(actual.heatmap, expected)


@pytest.mark.parametrize("name", SUMS)
def test_eigen_smooth_replaces_the_sum_that_the_map_is(name):
    """What is smoothed adds up to the map: seen by a component that is the sum."""
    network = Pooled()
    recorded = []
    plain = ours(network, name, "2")
    with pytest.MonkeyPatch.context() as patch:
        # By its name in the import system: cam.methods is the function there.
        patch.setattr(
            sys.modules["cam._methods.base.smoothing"],
            "first_component",
            lambda terms: recorded.append(terms) or terms.sum(1),
        )
        actual = ours(network, name, "2", eigen_smooth=True)
    assert recorded[0].shape == (2, 8, 10, 7)
    assert near(actual.raw, plain.raw, 1e-5)
    smoothed = ours(network, name, "2", eigen_smooth=True)
    assert not near(smoothed.raw, plain.raw, 1e-3)


def test_eigen_smooth_by_hand():
    """Grad-CAM's weights are ±1: of (x, -x + the constant 5) w ⊙ A is (x, x - 5)."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 1), torch.nn.Flatten(), torch.nn.Linear(8, 1)
    )
    network[0].weight.data[:, 0, 0, 0] = torch.tensor([1.0, -1])
    network[0].bias.data = torch.tensor([0.0, 5])
    network[2].weight.data = torch.tensor([[1.0] * 4 + [-1.0] * 4])
    picture = torch.tensor([[[[1.0, -2], [0, 4]]]])
    method = cam.method("gradcam", eigen_smooth=True)
    attribution = cam.attribute(network.eval(), picture, method, targets=0, layers="0")["gradcam"]
    # The axis is (1, 1) / √2, and the places' mean is 0.75.
    assert torch.allclose(attribution.raw, (picture[0] - 0.75) * 2**0.5, atol=1e-5)


def test_aug_smooth_asks_all_pictures_about_the_first_ones_target():
    """Where a mirror image has another top class, it still is not asked about that."""
    network = Curved()
    # Scores that the scale of the picture decides: the top class changes with the factor.
    actual = ours(network, "gradcam", targets=None, aug_smooth=True)
    explicit = ours(network, "gradcam", targets=actual.targets, aug_smooth=True)
    assert torch.equal(actual.heatmap, explicit.heatmap)
    mean, raw = torch.zeros(2, 20, 14), torch.zeros(2, 20, 14)
    for mirrored in (False, True):
        for factor in (0.9, 1, 1.1):
            inputs = factor * (pictures().flip(3) if mirrored else pictures())
            plain = cam.attribute(network, inputs, "gradcam", targets=actual.targets, layers="0")
            for total, values in ((mean, plain["gradcam"].heatmap), (raw, plain["gradcam"].raw)):
                total += (values.flip(2) if mirrored else values) / 6
    assert near(actual.heatmap, mean, 1e-5)
    assert near(actual.raw, raw, 1e-5)


def test_a_method_beside_an_augmented_one_explains_the_picture_itself():
    network = Curved()
    methods = [cam.method("gradcam", aug_smooth=True), "ablationcam"]
    beside = cam.attribute(network, pictures(), methods, targets=TARGETS, layers="0")
    assert near(beside["ablationcam"].raw, ours(network, "ablationcam").raw, 1e-6)


def test_aug_smooth_counts_its_passes():
    actual = ours(Curved(), "gradcam", aug_smooth=True)
    assert (actual.cost.forwards, actual.cost.backwards) == (6, 6)
    assert ours(Curved(), "scorecam", aug_smooth=True).cost.backwards == 0


def test_aug_smooth_of_a_batch_larger_than_its_own_batches():
    network = Curved()
    method = cam.method("ablationcam", aug_smooth=True)
    small, large = (
        cam.attribute(network, pictures(), method, targets=TARGETS, layers="0", batch_size=size)
        for size in (1, 32)
    )
    assert near(small["ablationcam"].heatmap, large["ablationcam"].heatmap)


@pytest.mark.parametrize("parameters", [{"eigen_smooth": True}, {"aug_smooth": True}])
def test_an_image_of_nan_stays_alone(parameters):
    network, broken = Curved(), pictures()
    broken[0] = torch.nan
    method = cam.method("gradcam", **parameters)
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(network, broken, method, targets=TARGETS, layers="0")["gradcam"]
    assert attribution.heatmap[0].isnan().all()
    assert near(attribution.heatmap[1], ours(network, "gradcam", **parameters).heatmap[1])


@pytest.mark.parametrize("name", ["eigencam", "eigengradcam", "kpcacam", "guided_gradcam"])
def test_what_is_no_sum_takes_no_eigen_smooth_but_can_be_augmented(name):
    with pytest.raises(cam.MethodError, match=f"{name} takes no eigen_smooth: its map is no sum"):
        cam.method(name, eigen_smooth=True)
    assert "eigen_smooth" not in cam.methods()[name].parameters
    actual = ours(Curved(), name, aug_smooth=True)
    assert not near(actual.heatmap, ours(Curved(), name).heatmap, 1e-3)


@pytest.mark.parametrize("name", SUMS)
def test_every_cam_lists_both(name):
    parameters = cam.methods()[name].parameters
    assert parameters["eigen_smooth"] is False and parameters["aug_smooth"] is False


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("gradcam", {"eigen_smooth": "yes"}, "gradcam's eigen_smooth must be True or False"),
        ("gradcam", {"aug_smooth": 1}, "gradcam's aug_smooth must be True or False, but is 1"),
        ("saliency", {"aug_smooth": True}, "saliency has no parameters, so 'aug_smooth' cannot"),
        ("gradcam", {"smooth": True}, "gradcam has no parameter 'smooth'"),
    ],
)
def test_refuses_in_one_sentence(name, parameters, sentence):
    with pytest.raises(cam.MethodError, match=sentence):
        cam.method(name, **parameters)
