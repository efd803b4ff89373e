"""Compare whether a method runs with running it to its end."""

import pytest
import torch
from torch import nn

import cam
from cam._runs.engines.applicability import explain_refusal

# With separate passes, and something that they ask of the network; few enough to run them all.
EXTRA_PASSES = {"guided_backprop", "deconvnet", "guided_gradcam", "lrp", "deeplift", "fullgrad"}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_it_says_what_running_says(name, photos, monkeypatch):
    # What is asked is the same with any kernels, and the interpreter takes minutes.
    monkeypatch.setenv("CAM_KERNELS", "reference")
    torch.manual_seed(0)
    model = cam.load_model(f"timm/{name}", weights=None)
    batch = model.prepare(photos[0])
    methods = [
        name for name, info in cam.methods().items() if not info.passes or name in EXTRA_PASSES
    ]
    refused = {}
    for method in methods:
        try:
            cam.attribute(model, batch, method)
        except cam.CamError as error:
            refused[method] = str(error)
    assert {name: explain_refusal(model, batch, name) for name in methods} == {
        name: refused.get(name) for name in methods
    }
    # Each network allows much and not all.
    assert 0 < len(refused) < 10


@pytest.mark.parametrize("name", ["rise", "scorecam", "integrated_gradients", "occlusion"])
def test_a_method_of_many_passes_is_stopped_after_the_first(name):
    sent = []
    module = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.register_forward_hook(lambda _, inputs, __: sent.append(len(inputs[0])))
    assert explain_refusal(module, torch.rand(1, 3, 64, 64), name) is None
    # The shared pass, what finds the preset layer, and one more.
    assert sum(sent) <= 4


def test_parameters_count_and_other_errors_are_told_with_their_kind():
    class Breaks(nn.Module):
        def forward(self, inputs):
            raise RuntimeError("the cable is out\nsecond line")

    batch = torch.rand(1, 3, 8, 8)
    assert explain_refusal(nn.Sequential(nn.Flatten(), Breaks()), batch, "saliency") is not None
    sound = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    reason = explain_refusal(
        sound, batch, cam.method("occlusion", window=4, stride=4, baseline=[0.0, 1.0])
    )
    assert "baseline does not fit the image" in reason
    with pytest.raises(cam.MethodError, match="there is no method"):
        explain_refusal(sound, batch, "gradcamm")
