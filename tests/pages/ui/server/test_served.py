"""The pages show served models, and refuse those without classes."""

import pytest
import torch
from torch import nn
from torchvision import transforms

import cam
from cam.pages.ui.server import resources, served
from cam.pages.ui.state.choices import ModelChoice
from tests.support.dashboard_page import open_page

STEPS = transforms.Compose([transforms.Resize((48, 48)), transforms.ToTensor()])


class Boxes(nn.Module):
    """A box for each image, as torchvision's detectors return them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, pixels):
        scores = self.features(pixels).mean((1, 2, 3)).sigmoid()
        box = torch.tensor([[4.0, 4.0, 20.0, 20.0]])
        label = torch.ones(1, dtype=torch.long)
        return [{"boxes": box, "scores": each[None], "labels": label} for each in scores]


class Segments(nn.Module):
    """Two classes for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, pixels):
        return self.features(pixels)


@pytest.fixture
def shelf():
    models = {"boxes": Boxes(), "segments": Segments()}
    served.models.fill(
        {name: lambda net=net: cam.Model(net.eval(), STEPS) for name, net in models.items()}
    )
    resources._load_shared.clear()
    yield
    served.models.fill({})
    resources._load_shared.clear()


@pytest.mark.parametrize("name", ["boxes", "segments"])
def test_what_has_no_classes_is_a_sentence_where_classes_are_compared(shelf, name):
    with pytest.raises(cam.ModelError, match="no score for each class; a detector's boxes are"):
        resources.score(ModelChoice(name), resources.open_sample("coffee"))
    for page in ("anatomy", "compare"):
        app = open_page(page, model=name)
        assert not app.exception
        assert "no score for each class" in app.error[0].value


def test_explore_shows_a_detector(shelf):
    app = open_page(model="boxes", least="0.05")
    assert not app.exception and not app.error
    assert any("detected in 4, 4, 20, 20" in each.value for each in app.markdown)
    app = open_page(model="boxes", target="box:1@4,4,20,20", least="0.05")
    # A random network's map may be worth a warning too.
    assert not any("link" in each.value for each in app.warning)
    app = open_page(model="boxes", target="zebra", least="0.05")
    sentence = "The link asks for `zebra`, which is not here"
    assert any(sentence in each.value for each in app.warning)


def test_explore_says_how_a_bare_tensor_is_declared(shelf):
    app = open_page(model="segments")
    assert not app.exception
    assert "cam.Model(module, task=…) says so" in app.error[0].value


def test_a_detectors_probabilities_are_no_softmax_over_boxes(shelf):
    model = served.models.take("boxes")
    with pytest.raises(cam.ModelError, match="no score for each class"):
        model.predict(torch.rand(1, 3, 48, 48))
    assert len(model.detect(torch.rand(1, 3, 48, 48), 0.0)[0]) == 1


def test_a_model_is_made_once_and_an_error_is_not_kept():
    made = []

    def make() -> str:
        made.append(1)
        if len(made) == 1:
            raise cam.ModelError("not yet")
        return "model"

    shelf = served.Shelf()
    shelf.fill({"slow": make})
    with pytest.raises(cam.ModelError, match="not yet"):
        shelf.take("slow")
    assert shelf.take("slow") == shelf.take("slow") == "model" and len(made) == 2
