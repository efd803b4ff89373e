"""Prompts that read one colour each: the map lies there."""

import pytest
import torch
from torch import nn

import cam
from cam._models.image_text.prompt_classifier import PromptClassifier

COLOURS = ("red", "green", "blue")


class Colours(nn.Module):
    """How much of each colour an image has, (B, 3), by a layer of feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 3, 4, 4, bias=False)
        self.patches.weight.data = torch.eye(3)[:, :, None, None].expand(3, 3, 4, 4) / 16
        self.positive = nn.ReLU()

    def forward(self, pixels):
        return self.positive(self.patches(pixels)).mean((2, 3))


@pytest.fixture(scope="module")
def model() -> cam.Model:
    # The prompts' features as CLIP's text tower gives them: of any length.
    text = torch.diag(torch.tensor([2.0, 0.5, 7.0]))
    classifier = PromptClassifier(Colours(), text, torch.tensor(10.0), torch.tensor(-3.0))
    return cam.Model(classifier.eval(), labels=COLOURS)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """Red in one quarter, green in another, blue in a third, on black."""
    pixels = torch.zeros(1, 3, 64, 64)
    for channel, (top, left) in enumerate([(0, 0), (0, 32), (32, 0)]):
        pixels[0, channel, top + 8 : top + 24, left + 8 : left + 24] = 1
    return pixels


def test_the_score_is_the_scaled_cosine(model, image):
    """Equal parts of three colours: each cosine is 1 by the root of 3."""
    assert torch.allclose(model.score(image), torch.full((1, 3), 10 / 3**0.5 - 3))
    brighter = model.score(image * 0.01)
    assert torch.allclose(brighter, model.score(image), atol=1e-4)


@pytest.mark.parametrize(
    "method",
    ["gradcam", "layercam", "hirescam", "xgradcam", "input_x_gradient", "lrp", "occlusion", "rise"],
)
@pytest.mark.parametrize("colour", range(3))
def test_the_map_lies_on_the_colour_that_the_prompt_names(model, image, method, colour):
    options = {"rise": {"masks": 400}, "occlusion": {"window": 8, "stride": 8}}.get(method, {})
    layers = ["image.positive"]
    maps = cam.attribute(
        model, image, cam.method(method, **options), targets=COLOURS[colour], layers=layers
    )
    positive = maps[method].signed[0].clamp(min=0)
    top, left = [(0, 0), (0, 32), (32, 0)][colour]
    inside = positive[top : top + 32, left : left + 32].sum() / positive.sum()
    # RISE's map is a mean of masks, nowhere zero: it says where there is most.
    assert method == "rise" or inside > 0.95
    quarters = positive.reshape(2, 32, 2, 32).sum((1, 3))
    assert quarters.argmax() == (top // 32) * 2 + left // 32
