"""Attention per head and colours of features, on a backbone of transformers."""

import numpy as np
import pytest
import torch
import transformers
from sklearn.decomposition import PCA
from torch import nn

import cam


@pytest.fixture(scope="module")
def network():
    changes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.Dinov2WithRegistersConfig(
        **changes, image_size=70, patch_size=14, num_register_tokens=4, attn_implementation="eager"
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = transformers.Dinov2WithRegistersForImageClassification(config).eval()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    return network


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, 70, 56, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("block", [-1, 0, 1])
def test_each_head_attends_from_the_class_token(network, batch, block):
    heads = cam.attention_heads(network, batch, block)
    with torch.no_grad():
        attention = network(batch, output_attentions=True).attentions[block]
    # A class token and four registers stand before 5 × 4 patches.
    expected = attention[:, :, 0, 5:].reshape(2, 2, 5, 4)
    assert torch.allclose(heads, expected, atol=1e-6)
    assert heads.sum((2, 3)).max() < 1


def test_without_a_class_token_all_patches_are_asked(batch):
    config = transformers.SiglipVisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=64,
        patch_size=16,
        attn_implementation="eager",
        num_labels=3,
    )
    network = transformers.SiglipForImageClassification(
        transformers.SiglipConfig(vision_config=config.to_dict())
    ).eval()
    heads = cam.attention_heads(network, torch.randn(1, 3, 64, 64))
    assert heads.shape == (1, 2, 4, 4)
    assert torch.allclose(heads.sum((2, 3)), torch.ones(1, 2), atol=1e-5)


@pytest.mark.parametrize("block", [3, -4])
def test_a_block_that_is_not_there_is_refused(network, batch, block):
    with pytest.raises(cam.InputError, match="block must be from -3 to 2, but is"):
        cam.attention_heads(network, batch, block)


def test_a_convolutional_network_has_no_heads(bundled):
    with pytest.raises(cam.ModelError, match="has no self-attention"):
        cam.attention_heads(bundled, cam.sample("chelsea"))


def test_the_colours_are_scikit_learns_components(network, batch):
    layer = "dinov2_with_registers.layernorm"
    colours = cam.principal_colours(network, batch, layer)
    with torch.no_grad():
        tokens = network.dinov2_with_registers(batch).last_hidden_state[:, 5:]
    expected = PCA(3, svd_solver="full").fit_transform(tokens.flatten(0, 1).double().numpy())
    assert colours.shape == (2, 5, 4, 3) and colours.dtype == torch.float32
    for number in range(3):
        ours = colours[..., number].flatten().numpy()
        assert ours.min() == 0 and ours.max() == 1
        assert abs(np.corrcoef(ours, expected[:, number])[0, 1]) > 1 - 1e-6


def test_alike_places_of_two_images_have_alike_colours(bundled):
    """A single image that is there twice has the same colours as alone."""
    chelsea = bundled.prepare(cam.sample("chelsea"))
    twice = cam.principal_colours(bundled, torch.cat([chelsea, chelsea]))
    assert torch.allclose(twice[0], twice[1], atol=1e-5)
    assert torch.allclose(twice[:1], cam.principal_colours(bundled, chelsea), atol=1e-3)


def test_features_of_one_kind_have_no_colours(bundled):
    black = torch.zeros(1, 3, 224, 224)
    module = nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    module(black)
    nn.init.zeros_(module[0].weight)
    assert cam.principal_colours(module, black, "1").eq(0).all()


def test_a_layer_that_lies_on_no_image_is_refused(network, batch):
    with pytest.raises(cam.LayerError, match="is not shown to lie on the image"):
        cam.principal_colours(network, batch, "classifier")
