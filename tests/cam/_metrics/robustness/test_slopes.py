"""Continuity written again, and what relative stability refuses."""

import numpy as np
import pytest
import torch
from torch import nn

import cam


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 160, 3)
    ).eval()


PICTURES = torch.randn(2, 3, 10, 16, generator=torch.Generator().manual_seed(1))


def test_continuity_by_its_definition():
    model = network()
    result = cam.attribute(model, PICTURES, "input_x_gradient", 0)["input_x_gradient"]
    actual = cam.metric("continuity", steps=4, reach=0.3)(
        model, PICTURES, result, 0, method="input_x_gradient"
    )
    for image in range(2):
        slopes = []
        for shift in (2, -2, 5, -5):  # round(0.3 · 16) = 5 in two steps to either side
            moved = np.zeros((3, 10, 16), np.float32)
            picture = PICTURES[image].numpy()
            if shift > 0:
                moved[:, :, shift:] = picture[:, :, :-shift]
            else:
                moved[:, :, :shift] = picture[:, :, -shift:]
            again = cam.attribute(model, torch.from_numpy(moved)[None], "input_x_gradient", 0)
            maps = [
                signed.double().numpy()
                for signed in (result.signed[image], again["input_x_gradient"].signed[0])
            ]
            a, b = (each / np.abs(each).max() for each in maps)
            slopes.append(np.abs(a - b).sum() / np.linalg.norm(picture - moved))
        assert actual[image].item() == pytest.approx(max(slopes), rel=1e-4)


def test_a_picture_that_no_shift_changes_and_too_many_shifts():
    model, blank = network(), torch.zeros_like(PICTURES)
    result = cam.attribute(model, PICTURES, "saliency", 0)["saliency"]
    scores = cam.metric("continuity", steps=4).measure(model, blank, result, 0, method="saliency")
    assert scores.reasons == ("a change leaves the image as it was",) * 2
    with pytest.raises(cam.MetricError, match="12 shifts of up to 4 pixels, which is too many"):
        cam.metric("continuity", steps=12)(model, PICTURES, result, 0, method="saliency")


def test_pictures_that_get_another_class_do_not_count():
    """A network whose top class any noise changes."""

    class Coin(nn.Module):
        """Its top class is decided by the last digits of the brightness: any noise changes it."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.first = 0.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = x.mean((1, 2, 3))
            changed = (mean != self.first).float()
            return torch.stack([mean * (1 - changed), mean * changed], 1) * self.weight

    model = Coin()
    picture = PICTURES[:1] + 3
    model.first = picture.mean((1, 2, 3)).item()
    result = cam.attribute(network(), picture, "saliency", 0)["saliency"]
    for name in ("relative_input_stability", "relative_output_stability"):
        scores = cam.metric(name, samples=3).measure(model, picture, result, 0, method="saliency")
        assert scores.reasons == ("every changed image gets another class",), name


def test_the_representation_is_a_layers_output_or_what_the_last_linear_layer_receives():
    model = network()
    result = cam.attribute(model, PICTURES, "saliency", 0)["saliency"]
    name, options = "relative_representation_stability", {"method": "saliency"}
    values = [
        cam.metric(name, samples=3, layer=layer)(model, PICTURES, result, 0, **options)
        for layer in (None, "2", "1", "3")
    ]
    assert torch.allclose(values[0], values[1]) and torch.allclose(values[1], values[2])
    assert not torch.allclose(values[2], values[3], rtol=0.01)
    with pytest.raises(cam.LayerError, match="no layer 'fc'"):
        cam.metric(name, layer="fc")(model, PICTURES, result, 0, **options)
    convolutional = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(cam.MetricError, match="no linear layer whose input could be"):
        cam.metric(name)(convolutional, PICTURES, result, 0, **options)
