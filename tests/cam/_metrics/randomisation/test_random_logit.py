"""Random logit: other classes explained one at a time, compared by scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import nn

import cam


def network(classes: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 144, classes)
    ).eval()


PICTURES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("similarity", ["spearman", "ssim"])
def test_all_other_classes_by_its_definition(similarity):
    """As many as there are: no draw decides."""
    model, targets = network(), torch.tensor([1, 4])
    result = cam.attribute(model, PICTURES, "saliency", targets)["saliency"]
    actual = cam.metric("random_logit", samples=9, similarity=similarity)(
        model, PICTURES, result, targets, method="saliency"
    )
    for image in range(2):
        values = []
        for other in set(range(5)) - {int(targets[image])}:
            maps = cam.attribute(model, PICTURES[image : image + 1], "saliency", other)["saliency"]
            a, b = (signed.double().numpy() for signed in (maps.signed[0], result.signed[image]))
            values.append(
                spearmanr(a, b, axis=None).statistic
                if similarity == "spearman"
                else structural_similarity(a / a.max(), b / b.max(), data_range=1)
            )
        assert actual[image].item() == pytest.approx(np.mean(values), abs=1e-4)


def test_draws_depend_on_the_seed():
    model = network(40)
    result = cam.attribute(model, PICTURES, "saliency", 3)["saliency"]
    values = [
        cam.metric("random_logit", samples=2, seed=seed)(
            model, PICTURES, result, 3, method="saliency"
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


def test_it_needs_another_class():
    result = cam.attribute(network(), PICTURES, "saliency", 0)["saliency"]
    sentence = "so the target must be a class, of two or more"
    with pytest.raises(cam.MetricError, match=sentence):
        cam.metric("random_logit")(
            network(), PICTURES, result, cam.targets.Logit(1), method="saliency"
        )
    with pytest.raises(cam.MetricError, match=sentence):
        cam.metric("random_logit")(network(1), PICTURES, result, method="saliency")


def test_classes_whose_maps_are_dead_are_no_pass():
    """Of three other classes two do not depend on the picture: their maps are zeros."""
    model = network(4)
    model[3].weight.data[2:] = 0
    result = cam.attribute(model, PICTURES, "saliency", 0)["saliency"]
    scores = cam.metric("random_logit").measure(model, PICTURES, result, 0, method="saliency")
    assert scores.values.isnan().all()
    assert scores.reasons[0].startswith("2 of 3 maps of other classes are the same everywhere")
