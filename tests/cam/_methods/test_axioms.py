"""Properties that follow from what a method is, whatever the network."""

import copy

import pytest
import torch
from torch import nn

import cam

# Deterministic ones whose map has to turn over with the picture, on a network that does not care.
FLIPS = [
    "gradcam",
    "xgradcam",
    "gradcam_plus_plus",
    "layercam",
    "hirescam",
    "gradcam_elementwise",
    "eigencam",
    "kpcacam",
    "fem",
    "cam",
    "finercam",
    "shapleycam",
    "fullgrad",
    "scorecam",
    "ablationcam",
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "blur_integrated_gradients",
    "deeplift",
    "lrp",
    "attn_lrp",
    "guided_backprop",
    "guided_gradcam",
]
BATCH = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()


def mirrored() -> nn.Sequential:
    """Each kernel is its own mirror image, so the network returns the same for both pictures."""
    model = network()
    with torch.no_grad():
        for child in model:
            if isinstance(child, nn.Conv2d):
                child.weight.copy_((child.weight + child.weight.flip(3)) / 2)
    return model


@pytest.mark.parametrize("name", FLIPS)
def test_a_mirrored_picture_has_a_mirrored_map(name):
    model = mirrored()
    method = cam.method(name, **({"steps": 8} if "integrated" in name else {}))
    there = cam.attribute(model, BATCH, method, 1, "4")[name]
    back = cam.attribute(model, BATCH.flip(3), method, 1, "4")[name]
    assert torch.allclose(there.scores, back.scores, atol=1e-5)
    assert torch.allclose(back.heatmap.flip(2), there.heatmap, atol=1e-4)
    assert (there.heatmap - there.heatmap.flip(2)).abs().max() > 0.05, "mirrored anyway"


def test_deconvnet_does_not_look_at_the_picture():
    """Without pooling, nothing of the forward pass is in its map: any picture has the same."""
    first, second = (
        cam.attribute(network(), batch, "deconvnet", 1)["deconvnet"].raw
        for batch in (BATCH, BATCH.flip(3))
    )
    assert torch.allclose(first, second, atol=1e-6)


class Written(nn.Module):
    """The same function as :func:`network`, written in another way.

    Batch norm is folded into the convolution, the ReLU is a product with its own mask's values,
    the mean is a sum, and the linear layer a convolution.
    """

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.first = nn.utils.fuse_conv_bn_eval(copy.deepcopy(model[0]), copy.deepcopy(model[1]))
        self.second = copy.deepcopy(model[3])
        self.maps = nn.Identity()
        self.last = nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.last.weight.copy_(model[7].weight[:, :, None, None])
            self.last.bias.copy_(model[7].bias)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden = (self.first(pixels) + self.first(pixels).abs()) / 2
        maps = self.maps(torch.where(self.second(hidden) > 0, self.second(hidden), 0.0))
        pooled = maps.sum((2, 3), keepdim=True) / (maps.shape[2] * maps.shape[3])
        return self.last(pooled).flatten(1)


@pytest.mark.parametrize(
    "name",
    [
        "saliency",
        "input_x_gradient",
        "integrated_gradients",
        "smoothgrad",
        "occlusion",
        "rise",
        "kernelshap",
    ],
)
def test_what_is_computed_counts_and_not_how(name):
    """Implementation invariance (Sundararajan et al. 2017, section 2.2)."""
    options = {
        "integrated_gradients": {"steps": 8},
        "smoothgrad": {"samples": 4},
        "occlusion": {"window": 4, "stride": 4},
        "rise": {"masks": 20},
        "kernelshap": {"samples": 40, "segments": 6},
    }
    model = network()
    other = Written(model).eval().double()
    model = model.double()
    batch = BATCH.double()
    assert torch.allclose(model(batch), other(batch))
    method = cam.method(name, **options.get(name, {}))
    maps = [cam.attribute(variant, batch, method, 1)[name].raw for variant in (model, other)]
    assert torch.allclose(*maps, rtol=1e-4, atol=1e-6 * float(maps[0].abs().max()))


def test_guided_backpropagation_does_depend_on_how():
    """It knows ReLUs; the same function without one is another network to it, and is refused."""
    other = Written(network()).eval()
    with pytest.raises(cam.CamError, match="ReLU"):
        cam.attribute(other, BATCH, "guided_backprop", 1)


class Saturated(nn.Module):
    """y = 1 - max(1 - x, 0) for the mean x of the picture: flat from x = 1 on (section 2.1)."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.mean((1, 2, 3))
        return torch.stack([1 - torch.relu(1 - x), 0 * x], 1)


@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift", "occlusion"])
def test_what_differs_from_the_baseline_and_matters_gets_something(name):
    """Sensitivity: at x = 2 the gradient is zero, and yet black and white differ by 1."""
    white = torch.full((1, 3, 8, 8), 2.0)
    options = {"integrated_gradients": {"steps": 64}, "occlusion": {"window": 8, "stride": 8}}
    attributions = cam.attribute(Saturated(), white, cam.method(name, **options.get(name, {})), 0)
    assert cam.attribute(Saturated(), white, "saliency", 0)["saliency"].raw.abs().max() == 0
    raw = attributions[name].raw
    whole = raw.mean() if name == "occlusion" else raw.sum()
    assert float(whole) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    "name",
    ["saliency", "input_x_gradient", "integrated_gradients", "deeplift", "smoothgrad", "occlusion"],
)
def test_a_pixel_that_is_never_read_gets_nothing(name):
    """Dummy: the network looks at the left half alone."""

    class Left(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.network(pixels[..., :8])

    options = {
        "integrated_gradients": {"steps": 4},
        "smoothgrad": {"samples": 3},
        "occlusion": {"window": 4, "stride": 4},
    }
    method = cam.method(name, **options.get(name, {}))
    actual = cam.attribute(Left().eval(), BATCH, method, 1)[name].raw
    assert actual[..., 8:].abs().max() <= 1e-7
    assert actual[..., :8].abs().max() > 1e-4
