"""Recorded attention against torch's own weights, and a softmax by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import cam
from cam._engine.attention.attention_capture import record_attention


class Fused(nn.Module):
    """Patches of 4 × 4 pixels, and torch's attention, which computes no weights here."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def tokens(self, pixels):
        return self.norm(self.patches(pixels).flatten(2).transpose(1, 2))

    def forward(self, pixels):
        tokens = self.tokens(pixels)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)


class ByHand(Fused):
    """The same patches; queries, keys and values are the tokens themselves."""

    def forward(self, pixels):
        tokens = self.tokens(pixels)
        scores = tokens @ tokens.transpose(1, 2) / 8**0.5
        return (scores.softmax(-1) @ tokens).mean(1)


class ByFunction(Fused):
    def forward(self, pixels):
        tokens = self.tokens(pixels)
        return functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(1)


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 12, 8, generator=torch.Generator().manual_seed(1))


def record(network, pictures):
    plain = network(pictures)
    with torch.no_grad(), record_attention(network, pictures, blocks=False) as reader:
        output = network(pictures)
    assert torch.allclose(output, plain, atol=1e-6)
    return reader.finish("network")


def test_the_weights_are_those_that_torch_returns(pictures):
    network = Fused().eval()
    recording = record(network, pictures)
    tokens = network.tokens(pictures)
    _, weights = network.attention(tokens, tokens, tokens, average_attn_weights=False)
    assert recording.grid == (3, 2)
    assert torch.allclose(recording.weights[0].view_as(weights), weights, atol=1e-6)


@pytest.mark.parametrize("network", [ByHand(), ByFunction()], ids=["softmax", "fused function"])
def test_the_weights_are_the_softmax_of_the_products(network, pictures):
    recording = record(network.eval(), pictures)
    tokens = network.tokens(pictures)
    expected = torch.softmax(tokens @ tokens.transpose(1, 2) / 8**0.5, -1)
    assert torch.allclose(recording.weights[0].view_as(expected), expected, atol=1e-6)


def test_no_hook_stays_and_no_attention_is_refused(pictures):
    network = Fused().eval()
    record(network, pictures)
    assert not any(child._forward_hooks for child in network.modules())
    with pytest.raises(cam.ModelError, match="Conv2d has no self-attention"):
        with record_attention(network.patches, pictures, blocks=False) as reader:
            network.patches(pictures)
        reader.finish("Conv2d")
