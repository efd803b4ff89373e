"""AttnLRP against its paper's rules, written again layer by layer."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

import cam

NAME = "attn_lrp"
EPSILON = 1e-12


def unevenly(network: nn.Module) -> nn.Module:
    """Every parameter does something, as after training."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim < 2 and "bias" not in name:
            parameter.data = parameter.data + 0.2 * noise
        elif parameter.ndim < 2 or parameter.abs().max() == 0:
            parameter.data = 0.1 * noise
        else:
            parameter.data = parameter.data + parameter.data.std() * noise
    return network.eval()


def vit() -> torchvision.models.VisionTransformer:
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(
        image_size=12,
        patch_size=4,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=12,
        num_classes=4,
    )
    return unevenly(network).double()


def swin() -> nn.Module:
    torch.manual_seed(0)
    return unevenly(
        torchvision.models.SwinTransformer([2, 2], 8, [2, 2], [2, 4], [4, 4], num_classes=4)
    ).double()


def deit() -> nn.Module:
    torch.manual_seed(0)
    return unevenly(
        timm.create_model(
            "deit_tiny_distilled_patch16_224",
            img_size=32,
            embed_dim=24,
            depth=2,
            num_heads=2,
            num_classes=4,
        )
    ).double()


def timm_vit() -> nn.Module:
    torch.manual_seed(0)
    return unevenly(
        timm.create_model("test_vit", img_size=32, patch_size=8, depth=2, num_classes=4)
    ).double()


def pictures(count: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 3, side, side, generator=generator).double()


class Paper:
    """The rules of the paper, for relevance itself and with a loop over everything.

    Args:
        gamma: Of matrices.
        convolution_gamma: Of the patch embedding.
        constant: Whether attention is a constant, as in CP-LRP.
    """

    def __init__(self, gamma: float, convolution_gamma: float, constant: bool) -> None:
        self.gamma, self.convolution_gamma, self.constant = gamma, convolution_gamma, constant

    def linear(self, relevance, x, weight, bias, gamma) -> Tensor:
        """γ-LRP: of the contributions with the output's sign (1 + γ) times as much counts."""
        z = x[..., None, :] * weight  # (…, outputs, inputs)
        same = torch.sign(z) == torch.sign(z.sum(-1) + bias)[..., None]
        z = z * (1 + gamma * same)
        same = torch.sign(bias) == torch.sign(functional.linear(x, weight, bias))
        total = z.sum(-1) + bias * (1 + gamma * same)
        return (z / total[..., None] * relevance[..., None]).sum(-2)

    def softmax(self, relevance, x) -> Tensor:
        """Proposition 3.1."""
        return x * (relevance - x.softmax(-1) * relevance.sum(-1, keepdim=True))

    def product(self, relevance, a, b) -> tuple[Tensor, Tensor]:
        """Proposition 3.3: half of each a_ji b_ip to each of the two."""
        share = relevance / (a @ b) / 2
        return a * (share @ b.mT), b * (a.mT @ share)

    def norm(self, relevance, x, weight, bias, eps) -> Tensor:
        """Proposition 3.4: the deviation is a constant; the mean is a linear operation."""
        n = x.shape[-1]
        deviation = (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
        centring = torch.eye(n).to(x) - 1 / n
        hidden = x @ centring / deviation
        relevance = relevance * hidden * weight / (hidden * weight + bias)
        return x * ((relevance / hidden) @ centring / deviation)

    def attention(self, relevance, x, module: nn.MultiheadAttention) -> Tensor:
        count, length, width = x.shape
        weight, bias = module.in_proj_weight, module.in_proj_bias
        joint = functional.linear(x, weight, bias)
        q, k, v = (
            part.reshape(count, length, module.num_heads, -1).transpose(1, 2)
            for part in joint.chunk(3, -1)
        )
        logits = q @ k.mT / q.shape[-1] ** 0.5
        heads = logits.softmax(-1) @ v
        mixed = heads.transpose(1, 2).reshape(count, length, width)
        out = module.out_proj
        relevance = self.linear(relevance, mixed, out.weight, out.bias, self.gamma)
        relevance = relevance.reshape(count, length, module.num_heads, -1).transpose(1, 2)
        by_weights, by_v = self.product(relevance, logits.softmax(-1), v)
        by_q, by_k = self.product(self.softmax(by_weights, logits), q, k.mT)
        by_k = by_k.mT
        if self.constant:
            by_v, by_q, by_k = 2 * by_v, 0 * by_q, 0 * by_k
        joined = [part.transpose(1, 2).reshape(x.shape) for part in (by_q, by_k, by_v)]
        return self.linear(torch.cat(joined, -1), x, weight, bias, self.gamma)

    def block(self, relevance, x, block) -> Tensor:
        first, second = block.ln_1, block.ln_2
        normed = first(x)
        attended = block.self_attention(normed, normed, normed, need_weights=False)[0]
        middle = attended + x
        inner = second(middle)
        before = block.mlp[0](inner)
        after = block.mlp[1](before)
        outer = block.mlp[3](after)
        total = outer + middle
        through = relevance * outer / total
        through = self.linear(through, after, block.mlp[3].weight, block.mlp[3].bias, self.gamma)
        # The activation passes on what it gets (equation 9).
        through = self.linear(through, inner, block.mlp[0].weight, block.mlp[0].bias, self.gamma)
        through = self.norm(through, middle, second.weight, second.bias, second.eps)
        relevance = relevance * middle / total + through
        through = self.attention(relevance * attended / middle, normed, block.self_attention)
        through = self.norm(through, x, first.weight, first.bias, first.eps)
        return relevance * x / middle + through

    def explain(self, network, batch: Tensor, target: int) -> Tensor:
        """Return relevance (B, 3, H, W)."""
        size = network.patch_size
        rows = batch.shape[2] // size
        patches = functional.unfold(batch, size, stride=size).mT  # (B, N, 3·size²)
        weight, bias = network.conv_proj.weight.flatten(1), network.conv_proj.bias
        embedded = functional.linear(patches, weight, bias)
        tokens = torch.cat([network.class_token.expand(len(batch), -1, -1), embedded], 1)
        states = [tokens + network.encoder.pos_embedding]
        for block in network.encoder.layers:
            states.append(block(states[-1]))
        last, head = network.encoder.ln, network.heads.head
        final = last(states[-1])
        one_hot = functional.one_hot(torch.tensor([target]), 4)
        relevance = torch.zeros_like(final)
        relevance[:, 0] = self.linear(
            head(final[:, 0]) * one_hot, final[:, 0], head.weight, head.bias, self.gamma
        )
        relevance = self.norm(relevance, states[-1], last.weight, last.bias, last.eps)
        for block, state in zip(reversed(network.encoder.layers), states[-2::-1], strict=True):
            relevance = self.block(relevance, state, block)
        relevance = (relevance * tokens / states[0])[:, 1:]
        relevance = self.linear(relevance, patches, weight, bias, self.convolution_gamma)
        return functional.fold(relevance.mT, (rows * size, rows * size), size, stride=size)


@pytest.mark.parametrize(
    ("gamma", "convolution_gamma", "attention"),
    [(0, 0, "taylor"), (0.05, 0.25, "taylor"), (0.3, 0, "constant"), (0, 0, "constant")],
)
@torch.no_grad()
def test_it_is_what_the_papers_rules_give(gamma, convolution_gamma, attention):
    network, batch = vit(), pictures(2, 12)
    expected = Paper(gamma, convolution_gamma, attention == "constant").explain(network, batch, 1)
    method = cam.method(
        NAME,
        attention=attention,
        bias="absorb",
        linear_gamma=gamma,
        convolution_gamma=convolution_gamma,
        epsilon=EPSILON,
    )
    actual = cam.attribute(network, batch, method, targets=1)[NAME].raw
    assert torch.allclose(actual.double(), expected.sum(1), rtol=1e-5, atol=1e-6)
    assert actual.abs().max() > 1e-3


@pytest.mark.parametrize("attention", ["taylor", "constant"])
@pytest.mark.parametrize(("network", "side"), [(vit, 12), (swin, 32), (deit, 32), (timm_vit, 32)])
def test_relevance_adds_up_to_the_score(network, side, attention):
    method = cam.method(NAME, attention=attention)
    attribution = cam.attribute(network(), pictures(2, side), method, targets=[1, 3])[NAME]
    assert torch.allclose(attribution.raw.sum((1, 2)), attribution.scores, rtol=0.01)
    assert not attribution.notes()


def test_what_biases_absorb_is_remarked():
    method = cam.method(NAME, bias="absorb")
    attribution = cam.attribute(vit(), pictures(2, 12), method, targets=[1, 3])[NAME]
    notes = attribution.notes()
    assert [image for image, _ in notes] == [0, 1]
    for image, sentence in notes:
        assert f"adds up to {float(attribution.raw[image].sum()):.3g}" in sentence
        assert f"score is {float(attribution.scores[image]):.3g}" in sentence


@pytest.mark.parametrize("fused", [True, False])
def test_a_fused_attention_has_the_rules_of_an_explicit_one(fused):
    network = timm_vit()
    expected = cam.attribute(network, pictures(1, 32), NAME, targets=2)[NAME].raw
    for block in network.blocks:
        block.attn.fused_attn = fused
    actual = cam.attribute(network, pictures(1, 32), NAME, targets=2)[NAME].raw
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-7)


def test_a_picture_has_its_map_alone_and_in_a_batch():
    network, batch = swin(), pictures(3, 32)
    together = cam.attribute(network, batch, NAME, targets=2)[NAME].raw
    for image in range(3):
        alone = cam.attribute(network, batch[image : image + 1], NAME, targets=2)[NAME].raw
        assert torch.allclose(alone[0], together[image], rtol=1e-4, atol=1e-7)


def test_parameters_require_gradients_again():
    network = vit()
    network.conv_proj.weight.requires_grad_(False)
    cam.attribute(network, pictures(1, 12), NAME, targets=0)
    frozen = [name for name, weight in network.named_parameters() if not weight.requires_grad]
    assert frozen == ["conv_proj.weight"]
