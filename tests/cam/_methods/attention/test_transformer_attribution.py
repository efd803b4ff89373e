"""Transformer attribution against its paper's rules, written again layer by layer."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

import cam

NAME = "transformer_attribution"


def network() -> nn.Module:
    torch.manual_seed(0)
    made = torchvision.models.VisionTransformer(
        image_size=12,
        patch_size=4,
        num_layers=3,
        num_heads=2,
        hidden_dim=24,
        mlp_dim=32,
        num_classes=4,
    )
    generator = torch.Generator().manual_seed(3)
    for parameter in made.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.data + noise * (0.2 if parameter.ndim < 2 else 0.3)
    return made.eval().double()


def pictures() -> Tensor:
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(5)).double()


def linear(relevance: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Equation 4: each output's relevance among its positive contributions."""
    parts = (x[..., None, :] * weight).clamp(min=0)  # (…, outputs, inputs)
    assert (parts.sum(-1) > 0).all()
    return (parts / parts.sum(-1, keepdim=True) * relevance[..., None]).sum(-2)


def product(relevance: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Half of each product's relevance to each factor, as for equation 7."""
    quotient = relevance / (a @ b) / 2
    return a * (quotient @ b.mT), b * (a.mT @ quotient)


def branches(relevance: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 8 to 10: relevance of a sum, brought to |Σ R_a| : |Σ R_b|."""
    parts = [branch * relevance / (a + b) for branch in (a, b)]
    size = sum(part.sum().abs() for part in parts)
    total = relevance.sum()
    return tuple(part * part.sum().abs() / size * total / part.sum() for part in parts)


def truth(model: nn.Module, picture: Tensor, target: int) -> Tensor:
    """One picture's map (3, 3), in float64."""
    batch = picture[None]
    patches = model.conv_proj(batch).flatten(2).mT
    x = torch.cat([model.class_token, patches], 1) + model.encoder.pos_embedding
    trace = []
    for block in model.encoder.layers:
        normed = block.ln_1(x)
        inner = block.self_attention
        joint = functional.linear(normed, inner.in_proj_weight, inner.in_proj_bias)
        q, k, v = (part.unflatten(2, (2, -1)).transpose(1, 2) for part in joint.chunk(3, -1))
        weights = (q @ k.mT / 12**0.5).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        attended = inner.out_proj(mixed)
        middle = attended + x
        second = block.ln_2(middle)
        activated = block.mlp[1](block.mlp[0](second))
        outer = block.mlp[3](activated)
        trace.append((block, x, normed, q, k, v, weights, mixed, attended, middle))
        trace[-1] += (second, activated, outer)
        x = outer + middle
    final = model.encoder.ln(x)
    score = model.heads.head(final[:, 0])[0, target]
    gradients = torch.autograd.grad(score, [step[6] for step in trace])
    with torch.no_grad():
        relevance = torch.zeros_like(final)
        one_hot = functional.one_hot(torch.tensor([target]), 4).double()
        relevance[:, 0] = linear(one_hot, final[:, 0], model.heads.head.weight)
        layers = []
        for step in reversed(trace):
            block, x, normed, q, k, v, weights, mixed, attended, middle, *rest = step
            second, activated, outer = rest
            by_mlp, relevance = branches(relevance, outer, middle)
            by_mlp = linear(by_mlp, activated, block.mlp[3].weight)
            relevance = relevance + linear(by_mlp, second, block.mlp[0].weight)
            through, relevance = branches(relevance, attended, x)
            through = linear(through, mixed, block.self_attention.out_proj.weight)
            by_weights, by_v = product(through.unflatten(2, (2, -1)).transpose(1, 2), weights, v)
            layers.append(by_weights)
            by_q, by_k = product(by_weights, q, k.mT)
            joined = [part.transpose(1, 2).flatten(2) for part in (by_q, by_k.mT, by_v)]
            joined = linear(torch.cat(joined, -1), normed, block.self_attention.in_proj_weight)
            relevance = relevance + joined
        result = torch.eye(10).double()
        for by_weights, gradient in zip(reversed(layers), gradients, strict=True):
            layer = torch.eye(10) + (by_weights * gradient).clamp(min=0).mean((0, 1))
            result = layer @ result
    return result[0, 1:].reshape(3, 3)


def test_it_is_what_the_papers_rules_give():
    model, batch = network(), pictures()
    attribution = cam.attribute(model, batch, NAME, targets=[3, 1])[NAME]
    for image, target in enumerate([3, 1]):
        expected = truth(model, batch[image], target)
        assert expected.std() > 0.1 * expected.mean() > 0
        difference = (attribution.raw[image].double() - expected).norm()
        assert difference <= 1e-5 * expected.norm()


def test_it_is_not_the_generic_one():
    methods = [NAME, "generic_attention"]
    maps = cam.attribute(network(), pictures(), methods, targets=[3, 1])
    raw = [maps[name].raw.flatten() for name in methods]
    assert torch.corrcoef(torch.stack(raw))[0, 1] < 0.99


def test_tokens_may_come_before_pictures():
    """As in torch's encoder, whose batch is the second axis."""
    torch.manual_seed(0)

    class Encoder(nn.Module):
        def __init__(self, batch_first: bool) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.batch_first = batch_first
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x).flatten(2).permute(2, 0, 1)
            if self.batch_first:
                return self.head(self.encoder(tokens.transpose(0, 1)).mean(1))
            return self.head(self.encoder(tokens).mean(0))

    first, second = Encoder(False).eval().double(), Encoder(True).eval().double()
    second.load_state_dict(first.state_dict())
    maps = [cam.attribute(model, pictures(), NAME, 2)[NAME].raw for model in (first, second)]
    assert torch.allclose(maps[0], maps[1], rtol=1e-4)
    # Nine tokens are three times three pictures.
    batch = torch.cat([pictures(), pictures()[:1]])
    together = cam.attribute(first, batch, NAME, 2)[NAME].raw
    for image in range(3):
        alone = cam.attribute(first, batch[image : image + 1], NAME, 2)[NAME].raw
        assert torch.allclose(alone[0], together[image], rtol=1e-4)


def test_swin_is_refused():
    model = torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4], num_classes=5)
    with pytest.raises(cam.ModelError, match="attends within windows"):
        cam.attribute(model.eval(), torch.randn(2, 3, 64, 64), NAME)
