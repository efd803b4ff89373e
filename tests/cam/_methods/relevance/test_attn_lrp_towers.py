"""AttnLRP on CLIP's image tower, as a gradient with parts held still."""

import torch
from torch.nn import functional

import cam
from tests.support.image_text_checkpoints import PROMPTS, save_image_text


def hold(norm: torch.nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    """A layer norm whose deviation only scales."""
    deviation = (x.var(-1, keepdim=True, correction=0) + norm.eps).sqrt().detach()
    return (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias


def test_with_constant_attention_it_is_input_times_a_held_gradient(tmp_path):
    """CP-LRP with the ε-rule: what weighs is a constant, what activates hands on its share."""
    tower = save_image_text(tmp_path, "clip")
    network = tower.vision_model
    model = cam.load_model(f"hf/{tmp_path}", prompts=PROMPTS)
    model.module.double()
    tower.double()
    batch = model.prepare(cam.sample("chelsea")).double()
    rules = {"attention": "constant", "bias": "absorb", "convolution_gamma": 0, "linear_gamma": 0}
    method = cam.method("attn_lrp", **rules, epsilon=1e-12)
    raw = cam.attribute(model, batch, method, targets=1)["attn_lrp"].raw

    pixels = batch.clone().requires_grad_()
    tokens = hold(network.pre_layrnorm, network.embeddings(pixels))
    for layer in network.encoder.layers:
        attention, inner = layer.self_attn, hold(layer.layer_norm1, tokens)
        query, keys, values = (
            projection(inner).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        weights = (query @ keys.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1).detach()
        tokens = tokens + attention.out_proj((weights @ values).transpose(1, 2).flatten(2))
        before = layer.mlp.fc1(hold(layer.layer_norm2, tokens))
        slope = (layer.mlp.activation_fn(before) / before).detach()
        tokens = tokens + layer.mlp.fc2(before * slope)
    features = tower.visual_projection(hold(network.post_layernorm, tokens[:, 0]))
    length = features.norm(dim=1, keepdim=True).detach()
    text = functional.normalize(model.module.classes.weight, dim=1)
    score = (features / length) @ text.T * tower.logit_scale.exp()
    assert torch.allclose(score.float(), model.score(batch), atol=1e-4)
    (slopes,) = torch.autograd.grad(score[0, 1], pixels)
    expected = (pixels * slopes).sum(1).float()
    assert torch.allclose(
        raw.float(), expected, rtol=1e-3, atol=1e-6 * float(expected.detach().abs().max())
    )
    assert raw.std() > 0
