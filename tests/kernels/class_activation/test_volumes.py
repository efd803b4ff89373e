"""Volumes: the rules add over d·h·w places, whatever the layout."""

import pytest
import torch

import kernels

LAYERS = [(2, 5, 3, 4, 6), (1, 70, 2, 7, 7), (2, 3, 5, 16, 16)]


def rules64(activations, gradients):
    """The rules as their papers write them, in float64."""
    a, g = activations.double(), gradients.double()
    space = (2, 3, 4)
    total = a.sum(space, keepdim=True)
    plus = torch.where(g > 0, g / (2 + g * total), 0.0).sum(space, keepdim=True)
    return {
        "gradcam": (g.mean(space, keepdim=True) * a).sum(1),
        "xgradcam": ((a * g).sum(space, keepdim=True) / (total + 1e-7) * a).sum(1),
        "gradcam_plus_plus": (plus * a).sum(1),
        "layercam": (g.clamp(min=0) * a).sum(1),
        "hirescam": (g * a).sum(1),
        "gradcam_elementwise": (g * a).clamp(min=0).sum(1),
    }


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
def test_every_rule_in_double_precision(road, shape, order):
    generator = torch.Generator().manual_seed(0)
    activations = torch.rand(shape, generator=generator).to(memory_format=order)
    gradients = torch.randn(shape, generator=generator).to(memory_format=order)
    maps, signed, weights = kernels.fused_cam(
        activations, gradients, kernels.RULES, return_signed=True, return_weights=True
    )
    images, channels, *sides = shape
    assert signed.shape == maps.shape == (images, len(kernels.RULES), *sides)
    assert weights.shape == (images, len(kernels.RULES), channels)
    for number, rule in enumerate(kernels.RULES):
        expected = rules64(activations, gradients)[rule]
        assert torch.allclose(signed[:, number].double(), expected, rtol=1e-4, atol=1e-4), rule
        positive = expected.clamp(min=0).flatten(1)
        low, high = positive.amin(1, keepdim=True), positive.amax(1, keepdim=True)
        unit = ((positive - low) / (1e-7 + high - low)).view_as(expected)
        assert torch.allclose(maps[:, number].double(), unit, atol=1e-4), rule


def test_a_volume_with_a_nan_does_not_reach_the_next(road):
    activations, gradients = torch.rand(2, 3, 2, 4, 4), torch.rand(2, 3, 2, 4, 4)
    activations[0, 1, 1, 2, 3] = torch.nan
    maps = kernels.fused_cam(activations, gradients)
    assert maps[0].isnan().all() and maps[1].isfinite().all()


def test_another_number_of_axes_is_refused():
    with pytest.raises(ValueError, match=r"\(B, C, h, w\) or \(B, C, d, h, w\)"):
        kernels.fused_cam(torch.rand(1, 1, 1, 2, 3, 3), torch.rand(1, 1, 1, 2, 3, 3))


def test_gradients_of_volumes_are_reduced_over_their_channels(road):
    gradient, inputs = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    raw = kernels.gradient_map(gradient)
    assert torch.allclose(raw, gradient.abs().amax(1))
    maps, products = kernels.gradient_map(
        gradient, inputs, reduce="sum", normalise=True, return_raw=True
    )
    assert torch.allclose(products, (gradient * inputs).sum(1), atol=1e-5)
    size = products.abs().flatten(1)
    low, high = size.amin(1, keepdim=True), size.amax(1, keepdim=True)
    assert torch.allclose(maps.flatten(1), (size - low) / (high - low), atol=1e-5)


def test_moments_of_volumes(road):
    samples = torch.randn(7, 2, 3, 2, 4, 5)
    moments = kernels.Moments()
    moments.add(samples[:3])
    moments.add(samples[3:])
    assert torch.allclose(moments.mean, samples.mean(0), atol=1e-5)
    assert torch.allclose(moments.variance, samples.var(0, correction=0), atol=1e-5)
