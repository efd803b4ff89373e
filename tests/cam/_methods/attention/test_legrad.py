"""LeGrad on towers of images and text, by formulas."""

import pytest
import torch
from torch.nn import functional

import cam
from tests.support.image_text_checkpoints import PROMPTS, save_image_text


def explain(folder, last):
    model = cam.load_model(f"hf/{folder}", prompts=PROMPTS)
    batch = model.prepare([cam.sample("chelsea"), cam.sample("rocket")])
    method = cam.method("legrad", last=last)
    return model, batch, cam.attribute(model, batch, method, targets=[1, 2])["legrad"].raw


def attend(attention: torch.nn.MultiheadAttention, tokens: torch.Tensor, probe: torch.Tensor):
    """The weights of one query, and what it gets by any weights."""
    heads = attention.num_heads
    matrices = attention.in_proj_weight.chunk(3)
    biases = attention.in_proj_bias.chunk(3)
    query, keys, values = (
        (x @ matrix.T + bias).unflatten(2, (heads, -1)).transpose(1, 2)
        for x, matrix, bias in zip((probe, tokens, tokens), matrices, biases, strict=True)
    )
    weights = (query @ keys.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1)

    def mix(weights):
        return attention.out_proj((weights @ values).transpose(1, 2).flatten(2))

    return weights, mix


@pytest.mark.parametrize("last", [None, 1, 2])
def test_where_an_attention_pools_its_gain_is_what_counts(tmp_path, last):
    """SigLIP's: each block's tokens go through the head, whose attention has the gradient."""
    network = save_image_text(tmp_path, "siglip").vision_model
    model, batch, raw = explain(tmp_path, last)
    with torch.no_grad():
        hidden = network(batch, output_hidden_states=True).hidden_states[1:]
    hidden = hidden[-last:] if last else hidden
    head, classes = network.head, model.module.classes
    total = 0
    for tokens in hidden:
        tokens = network.post_layernorm(tokens)
        weights, mix = attend(head.attention, tokens, head.probe.expand(len(tokens), -1, -1))
        weights = weights.detach().requires_grad_()
        pooled = mix(weights)
        features = (pooled + head.mlp(head.layernorm(pooled)))[:, 0]
        direction = functional.normalize(features, dim=1) * features.shape[1] ** 0.5
        logits = direction @ classes.weight.T
        score = logits[0, 1] + logits[1, 2]
        (slopes,) = torch.autograd.grad(score, weights)  # (B, heads, 1, N)
        total = total + slopes.clamp(min=0).mean((1, 2))
    expected = (total / len(hidden)).reshape(2, 6, 6)
    assert torch.allclose(raw, expected.detach(), rtol=1e-3, atol=1e-7)
    assert raw.std() > 0


def test_in_clip_each_block_is_read_by_the_images_own_head(tmp_path):
    """The gain of each block's own attention in the score of its mean token."""
    tower = save_image_text(tmp_path, "clip")
    network = tower.vision_model
    model, batch, raw = explain(tmp_path, None)
    text = model.module.classes.weight
    with torch.no_grad():
        hidden = network(batch, output_hidden_states=True).hidden_states
    total = 0
    for layer, tokens in zip(network.encoder.layers, hidden[:-1], strict=True):
        attention, inner = layer.self_attn, layer.layer_norm1(tokens)
        query, keys, values = (
            projection(inner).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        weights = (query @ keys.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1)
        weights = weights.detach().requires_grad_()
        mixed = attention.out_proj((weights @ values).transpose(1, 2).flatten(2))
        output = tokens + mixed
        output = output + layer.mlp(layer.layer_norm2(output))
        features = tower.visual_projection(network.post_layernorm(output.mean(1)))
        logits = functional.normalize(features, dim=1) * features.shape[1] ** 0.5 @ text.T
        (slopes,) = torch.autograd.grad(logits[0, 1] + logits[1, 2], weights)
        total = total + slopes.clamp(min=0).mean((1, 2))
    expected = (total / len(network.encoder.layers))[:, 1:].reshape(2, 6, 6)
    assert torch.allclose(raw, expected.detach(), rtol=1e-3, atol=1e-7)
