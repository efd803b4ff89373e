"""The anatomy against hooks and autograd by hand in float64."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import cam
from cam._attribution.anatomy import neighbour_correlation, sign_changes
from tests.support.networks import Curved, Pooled, near, pictures

NETWORKS = [(Pooled, "2"), (Curved, "0")]


def by_hand(module: nn.Module, batch: torch.Tensor, target: int, layer: str) -> dict:
    """Every step written out: a hook keeps the maps, autograd gives both gradients."""
    module, pixels = copy.deepcopy(module).double(), batch.double().requires_grad_()
    outputs = []
    module.get_submodule(layer).register_forward_hook(lambda _m, _i, output: outputs.append(output))
    logits = module(pixels)
    [maps] = outputs
    gradients, by_pixels = torch.autograd.grad(logits[:, target].sum(), [maps, pixels])
    weights = gradients.sum((2, 3)) / gradients[0, 0].numel()
    weighted = torch.stack(
        [weights[:, c, None, None] * maps[:, c] for c in range(maps.shape[1])], dim=1
    )
    summed = sum(weighted[:, c] for c in range(maps.shape[1]))
    rectified = torch.where(summed > 0, summed, 0.0)
    heatmap = functional.interpolate(
        stretched(rectified)[:, None], batch.shape[2:], mode="bilinear"
    )
    largest = by_pixels.abs().max(1).values
    return {
        "logits": logits,
        "scores": logits[:, target],
        "activations": maps,
        "gradients": gradients,
        "weights": weights,
        "weighted": weighted,
        "summed": summed,
        "rectified": rectified,
        "normalised": stretched(rectified),
        "heatmap": stretched(heatmap[:, 0]),
        "pixel_gradients": by_pixels,
        "pixel_maximum": largest,
        # Gradients by pixels may be as small as that themselves.
        "saliency": stretched(largest, 0),
    }


def stretched(maps: torch.Tensor, epsilon: float = 1e-7) -> torch.Tensor:
    flat = maps.flatten(1)
    low, high = flat.min(1).values[:, None, None], flat.max(1).values[:, None, None]
    return (maps - low) / (high - low + epsilon)


@pytest.mark.parametrize(("network", "layer"), NETWORKS)
def test_every_step_is_what_autograd_by_hand_gives(network, layer):
    module, batch = network(), pictures()
    steps = cam.anatomy(module, batch, 4, layer)
    assert steps.layer == layer
    assert steps.targets.tolist() == [4, 4]
    for name, expected in by_hand(module, batch, 4, layer).items():
        value = getattr(steps, name)
        assert value.shape == expected.shape, name
        assert near(value.double(), expected.detach()), name


@pytest.mark.parametrize(("network", "layer"), NETWORKS)
def test_the_end_of_the_steps_is_the_map_of_attribute(network, layer):
    module, batch = network(), pictures()
    steps = cam.anatomy(module, batch, [1, 5], layer)
    maps = cam.attribute(module, batch, ["gradcam", "saliency"], [1, 5], layer)
    assert torch.equal(steps.heatmap, maps["gradcam"].heatmap)
    assert torch.equal(steps.summed, maps["gradcam"].raw)
    assert torch.equal(steps.saliency, maps["saliency"].heatmap)
    assert torch.equal(steps.pixel_maximum, maps["saliency"].raw)
    assert near(steps.weighted.sum(1), maps["gradcam"].raw, 1e-5)


def test_the_bundled_model_and_its_preset(bundled, batch):
    steps = cam.anatomy(bundled, batch)
    maps = cam.attribute(bundled, batch)
    assert (steps.layer,) == bundled.layers == maps["gradcam"].layers
    assert torch.equal(steps.targets, maps["gradcam"].targets)
    assert near(steps.weighted.sum(1), maps["gradcam"].raw, 1e-5)
    assert torch.equal(steps.heatmap, maps["gradcam"].heatmap)
    # A mean and a linear layer stand behind: the sum over all places is the score but for the bias.
    bias = bundled.module.classifier.bias[steps.targets]
    assert near(steps.summed.sum((1, 2)) + bias, steps.scores, 1e-5)


def test_one_forward_and_one_backward():
    class Counting(Pooled):
        forwards = backwards = 0

        def forward(self, pixels):
            self.forwards += 1
            if pixels.requires_grad:
                pixels.register_hook(self.count)
            return super().forward(pixels)

        def count(self, _gradient):
            self.backwards += 1

    module = Counting()
    cam.anatomy(module, pictures(), 0, "2")
    assert (module.forwards, module.backwards) == (1, 1)


def test_a_batch_gives_what_its_images_give_one_by_one():
    module, batch = Curved(), pictures()
    together = cam.anatomy(module, batch, [1, 5], "0")
    for index, target in enumerate([1, 5]):
        alone = cam.anatomy(module, batch[index : index + 1], target, "0")
        for name in ("gradients", "weights", "summed", "heatmap", "saliency"):
            assert near(getattr(together, name)[index], getattr(alone, name)[0], 1e-5), name


def test_the_model_comes_back_as_it_was_also_after_an_exception():
    module = Pooled().train()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.warns(cam.CamWarning, match="in training mode"), torch.inference_mode():
        cam.anatomy(module, pictures(), 0, "2")
    with pytest.raises(cam.TargetError):
        cam.anatomy(module, pictures(), 99, "2")
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(child.training and not child._forward_hooks for child in module.modules())
    assert all(weight.grad is None and not weight.requires_grad for weight in module.parameters())


def test_an_image_with_nan_stays_alone_with_it():
    module, batch = Pooled(), pictures()
    sound = cam.anatomy(module, batch, 0, "2")
    batch[0, 0, 0, 0] = torch.nan
    steps = cam.anatomy(module, batch, 0, "2")
    for name in ("summed", "rectified", "normalised", "heatmap", "pixel_maximum", "saliency"):
        assert getattr(steps, name)[0].isnan().all(), name
        assert near(getattr(steps, name)[1], getattr(sound, name)[1], 1e-6), name


def test_the_strongest_channels():
    module, batch = Curved(), pictures()
    steps = cam.anatomy(module, batch, 2, "0")
    for image in (0, 1):
        weights = steps.weights[image].tolist()
        order = sorted(range(len(weights)), key=weights.__getitem__)
        for_it, against = steps.strongest(image, 4)
        assert for_it == [c for c in order[::-1] if weights[c] > 0][:4]
        assert against == [c for c in order if weights[c] < 0][:4]
        adds = [float(steps.weighted[image, c].sum()) for c in range(len(weights))]
        for_it, against = steps.strongest(image, 2, by="sum")
        order = sorted(range(len(adds)), key=adds.__getitem__)
        assert for_it == [c for c in order[::-1] if adds[c] > 0][:2]
        assert against == [c for c in order if adds[c] < 0][:2]


def test_contributions_are_the_score_less_its_bias():
    """Worked out again in float64: the mean of a channel times the weight that reads it."""
    module, batch = Pooled(), pictures()
    steps = cam.anatomy(module, batch, [1, 5], "2")
    contributions = steps.contributions()
    double = copy.deepcopy(module).double()
    weight, bias = (values.detach()[[1, 5]] for values in (double[5].weight, double[5].bias))
    pooled = double[2](double[1](double[0](batch.double()))).detach().mean((2, 3))
    assert contributions.shape == (2, 8)
    assert float((contributions - weight * pooled).abs().max()) < 1e-5
    score = double(batch.double()).detach()[[0, 1], [1, 5]]
    assert float((contributions.sum(1) - (score - bias)).abs().max()) < 1e-5


def test_contributions_of_parts_add_up():
    steps = cam.anatomy(Curved(), pictures(), 2, "0")
    size = steps.activations.shape[2:]
    region = torch.rand(size, generator=torch.Generator().manual_seed(0))
    whole = steps.contributions()
    assert near(steps.contributions(region) + steps.contributions(1 - region), whole, 1e-5)
    corner = torch.zeros(size)
    corner[3, 2] = 1
    product = steps.gradients[:, :, 3, 2] * steps.activations[:, :, 3, 2]
    assert torch.equal(steps.contributions(corner), product)
    assert not steps.contributions(torch.zeros(size)).any()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"layer": "nope"}, cam.LayerError, "no layer 'nope'"),
        (
            {"layer": ["0", "2"]},
            cam.LayerError,
            "an anatomy is of one layer, and these are 2: 0, 2",
        ),
        ({"layer": "5"}, cam.LayerError, "neither feature maps"),
        ({"targets": 6}, cam.TargetError, "target 6 is out of range"),
        ({"targets": "cat"}, cam.TargetError, "means nothing without a model"),
        ({"model": 3}, cam.ModelError, "not int"),
        ({"batch": torch.zeros(3)}, cam.InputError, "must be floats (B, C, H, W)"),
    ],
)
def test_wrong_arguments(arguments, error, says):
    arguments = {"model": Pooled(), "batch": pictures(), "layer": "2"} | arguments
    with pytest.raises(error, match=re.escape(says)):
        cam.anatomy(**arguments)


def test_kernels_that_cannot_run_here_are_told(monkeypatch):
    monkeypatch.setenv("CAM_KERNELS", "abacus")
    with pytest.raises(cam.InputError, match="abacus"):
        cam.anatomy(Pooled(), pictures(), 0, "2")


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 1.5}, {"by": "size"}])
def test_wrong_questions_for_the_strongest(wrong):
    steps = cam.anatomy(Pooled(), pictures(), 0, "2")
    with pytest.raises(cam.MethodError):
        steps.strongest(**wrong)


def test_neighbour_correlation_against_numpy():
    maps = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    for map_, correlation in zip(maps.numpy(), neighbour_correlation(maps), strict=True):
        pairs = [(map_[r, c], map_[r, c + 1]) for r in range(7) for c in range(4)]
        pairs += [(map_[r, c], map_[r + 1, c]) for r in range(6) for c in range(5)]
        assert abs(float(correlation) - np.corrcoef(np.array(pairs).T)[0, 1]) < 1e-6
    ramp = torch.arange(100.0).view(1, 10, 10)
    assert float(neighbour_correlation(ramp)) > 0.9
    assert neighbour_correlation(torch.ones(1, 3, 3)).isnan().all()


def test_sign_changes_by_hand():
    checks = torch.tensor([[[1.0, -1], [-1, 1]], [[1, 2], [3, 4]], [[1, -2], [0, 4]]])
    # Of the third map's pairs, 1|-2 and -2|4 count; those with the zero do not.
    assert sign_changes(checks).tolist() == [1, 0, 1]
    assert sign_changes(torch.zeros(1, 2, 2)).isnan().all()
    with pytest.raises(cam.MethodError, match="at least 2 × 2"):
        sign_changes(torch.zeros(2, 2))


def test_a_detector_is_taken_apart_at_the_level_that_its_box_reads():
    """Faster R-CNN pools each box from one level, so the map of every other is zero."""
    from tests.support.detectors import make_pictures, make_torchvision

    model, pictures = cam.Model(make_torchvision("faster r-cnn")), make_pictures(1)
    box = model.detect(pictures, 0.05)[0][0]
    steps = cam.anatomy(model, pictures, box)
    read = [
        level
        for level in model.layers
        if cam.attribute(model, pictures, "hirescam", box, level)["hirescam"].raw.any()
    ]
    assert [steps.layer] == read
    maps = cam.attribute(model, pictures, "gradcam", box, steps.layer)["gradcam"]
    assert torch.equal(steps.summed, maps.raw)


def test_an_anatomy_takes_places_as_text():
    from tests.support.segmenters import LeftHalf, make_pictures

    network, pictures = LeftHalf(), make_pictures(1)
    steps = cam.anatomy(network, pictures, "segment:1")
    maps = cam.attribute(network, pictures, "saliency", "segment:1")["saliency"]
    assert torch.equal(steps.pixel_maximum, maps.raw)
    with pytest.raises(cam.TargetError, match="an anatomy is of one target an image"):
        cam.anatomy(network, pictures, [["segment:1"]])
