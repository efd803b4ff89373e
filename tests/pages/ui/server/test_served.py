"""The pages show served models, and refuse those without classes."""

import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import nn
from torchvision import transforms

import cam
from cam.pages.ui.server import resources, served
from cam.pages.ui.state.choices import ModelChoice
from tests.support.checkout import ROOT

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
def test_what_has_no_classes_is_a_sentence_on_every_page(shelf, name):
    with pytest.raises(cam.ModelError, match="no score for each class; a detector's boxes are"):
        resources.score(ModelChoice(name), resources.open_sample("coffee"))
    app = AppTest.from_file(str(ROOT / "dashboard.py"), default_timeout=60)
    app.query_params["model"] = name
    app.run()
    assert not app.exception
    assert "no score for each class" in app.error[0].value


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
