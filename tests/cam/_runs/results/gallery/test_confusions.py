"""Check confusion matrices against one counted by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

import cam


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cam.Run:
    """Twelve grey images, whose brightness decides the class; a third have another label."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.AdaptiveAvgPool2d(1))
    module.append(torch.nn.Flatten())
    torch.manual_seed(0)
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].weight[1] = 1.0
        module[0].bias.copy_(torch.tensor([0.0, 0.0, -9.0]))
    items = [
        (Image.new("RGB", (32, 32), (value,) * 3), label)
        for value, label in [(0, 0), (0, 0), (0, 1), (255, 1), (255, 1), (255, 1), (255, 0), (0, 2)]
    ]
    model = cam.Model(module, labels=["dark", "bright", "never"])
    out = tmp_path_factory.mktemp("run") / "run"
    return cam.evaluate(model, items, ["saliency"], ["sparseness"], out)


def test_it_is_that_of_scikit_learn(run):
    table = run.confusions()
    items = run.items()
    names = ["bright", "dark", "never"]
    truth = confusion_matrix(items["label"], items["predicted_label"], labels=names)
    assert np.array_equal(table.reindex(index=names, columns=names, fill_value=0), truth)
    assert table.index[0] == "bright" and table.loc["bright", "dark"] == 1


def test_a_cell_lists_its_images(run):
    assert run.confused("bright", "dark") == [2]
    assert run.confused("dark", "dark") == [0, 1]
    assert run.confused("dark", "never") == []
