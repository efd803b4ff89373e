"""Attention methods against float64 formulas, torchcam's LeGrad, and by hand."""

import gc
import math

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

import cam
from cam._engine.attention.attention_capture import record_attention

NAMES = ["attention_rollout", "generic_attention", "legrad"]
KINDS = ["fused", "explicit", "folded", "multihead", "multihead, separate"]


class Block(nn.Module):
    def __init__(self, kind: str, dim: int, heads: int) -> None:
        super().__init__()
        self.kind, self.heads = kind, heads
        self.before, self.behind = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        if kind == "multihead, separate":
            self.attention = nn.MultiheadAttention(
                dim, heads, batch_first=True, kdim=dim, vdim=dim, bias=False
            )
            self.attention._qkv_same_embed_dim = False
            for name in "qkv":
                matrix = nn.Parameter(torch.randn(dim, dim) / 3)
                setattr(self.attention, f"{name}_proj_weight", matrix)
        self.wider, self.narrower = nn.Linear(dim, 12), nn.Linear(12, dim)

    def projected(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Queries, keys, values, each (B, heads, N, d)."""
        inner = self.attention
        if self.kind == "multihead, separate":
            matrices = [getattr(inner, f"{name}_proj_weight") for name in "qkv"]
            biases = [torch.zeros(len(matrices[0]), dtype=x.dtype)] * 3
        else:
            matrices, biases = inner.in_proj_weight.chunk(3), inner.in_proj_bias.chunk(3)
        return [
            (x @ matrix.T + bias).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for matrix, bias in zip(matrices, biases, strict=True)
        ]

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind.startswith("multihead"):
            return self.attention(x, x, x, need_weights=False)[0]
        q, k, v = self.projected(x)
        if self.kind == "fused":
            mixed = functional.scaled_dot_product_attention(q, k, v)
        elif self.kind == "explicit":
            weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
            mixed = weights @ v
        else:
            folded = [tensor.flatten(0, 1) for tensor in (q, k, v)]
            weights = torch.bmm(folded[0], folded[1].transpose(1, 2)) / math.sqrt(q.shape[-1])
            mixed = torch.bmm(functional.softmax(weights, -1), folded[2]).view_as(q)
        return self.attention.out_proj(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(self.before(x))
        return x + self.narrower(functional.gelu(self.wider(self.behind(x))))


class Tiny(nn.Module):
    """Three blocks over 4 × 3 patches and some tokens before them."""

    def __init__(self, kind: str = "fused", extra: int = 1, pool: str = "token") -> None:
        super().__init__()
        torch.manual_seed(3)
        dim = 6
        self.patches = nn.Conv2d(3, dim, 4, stride=4)
        self.extra = nn.Parameter(torch.randn(1, extra, dim))
        self.positions = nn.Parameter(torch.randn(1, extra + 12, dim))
        self.blocks = nn.ModuleList(Block(kind, dim, 2) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 5)
        self.pool = pool
        self.shift = nn.Parameter(torch.randn(dim))
        self.forwards = 0
        for parameter in self.parameters():
            parameter.data *= 1.5
        self.eval()

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.extra.expand(len(x), -1, -1), patches], 1) + self.positions

    def classify(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(tokens)
        first = self.extra.shape[1]
        pooled = tokens[:, 0] if self.pool == "token" else tokens[:, first:].mean(1)
        return self.head(pooled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.forwards += 1
        tokens = self.embed(x)
        for block in self.blocks:
            tokens += self.shift  # in place, a block's output
            tokens = block(tokens)
        return self.classify(tokens)


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(1))


def near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> bool:
    return bool((actual - expected).norm() <= tolerance * expected.norm())


def truth(network: Tiny, picture: torch.Tensor, target: int) -> dict[str, torch.Tensor]:
    """One picture's maps (4, 3) as the papers write them, with whole matrices, in float64."""
    network = network.double()
    tokens = network.embed(picture[None].double())
    weights, behind = [], []
    for block in network.blocks:
        tokens = tokens + network.shift
        q, k, v = block.projected(block.before(tokens))
        layer_weights = torch.softmax(q @ k.transpose(2, 3) / q.shape[3] ** 0.5, 3)
        weights.append(layer_weights)
        tokens = tokens + block.attention.out_proj((layer_weights @ v).transpose(1, 2).flatten(2))
        tokens = tokens + block.narrower(functional.gelu(block.wider(block.behind(tokens))))
        behind.append(tokens)
    gradients = torch.autograd.grad(network.classify(tokens)[0, target], weights, retain_graph=True)
    count = weights[0].shape[-1]
    extra = count - 12
    identity = torch.eye(count, dtype=torch.float64)
    rolled, relevance = identity, identity
    for layer_weights, gradient in zip(weights, gradients, strict=True):
        rolled = (layer_weights[0].mean(0) + identity) / 2 @ rolled
        relevance = relevance + (layer_weights[0] * gradient[0]).relu().mean(0) @ relevance
    relevance = relevance - identity
    layers = []
    for layer_weights, tokens in zip(weights, behind, strict=True):
        score = network.head(network.norm(tokens.mean(1)))[0, target]
        (gradient,) = torch.autograd.grad(score, layer_weights, retain_graph=True)
        layers.append(gradient[0].relu().mean((0, 1)))
    rows = [0] if network.pool == "token" else list(range(extra, count))
    maps = {
        "attention_rollout": rolled[rows].mean(0),
        "generic_attention": relevance[rows].mean(0),
        "legrad": torch.stack(layers).mean(0),
    }
    network.float()
    return {name: layer_weights[extra:].view(4, 3).detach() for name, layer_weights in maps.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("extra", "pool"), [(1, "token"), (1, "mean"), (0, "mean"), (5, "token")])
def test_are_the_papers_matrices(kind, extra, pool, pictures):
    network = Tiny(kind, extra, pool).requires_grad_(False)
    attributions = cam.attribute(network, pictures, NAMES, targets=[3, 1])
    network.requires_grad_()
    for image, target in enumerate([3, 1]):
        for name, expected in truth(network, pictures[image], target).items():
            assert expected.std() > 1e-6, "a flat map would agree with anything"
            assert near(attributions[name].raw[image], expected.float()), name
            low, high = expected.aminmax()
            scaled = ((expected - low) / (high - low))[None, None]
            at_size = functional.interpolate(scaled, (16, 12), mode="bilinear")[0, 0]
            low, high = at_size.aminmax()
            heatmap = (at_size - low) / (high - low)
            assert near(attributions[name].heatmap[image], heatmap.float()), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_puts_out_what_it_does_without(kind, pictures):
    network = Tiny(kind)
    expected = network(pictures).detach()
    actual = cam.attribute(network, pictures, NAMES)["legrad"].logits
    assert torch.allclose(actual, expected, atol=1e-5)


def test_rollout_by_hand(pictures):
    """All tokens alike attend evenly: a half stays at each layer, the rest goes round."""
    network = Tiny()
    for block in network.blocks:
        block.attention.in_proj_weight.data[:12] = 0
        block.attention.in_proj_bias.data[:12] = 0
    attribution = cam.attribute(network, pictures, "attention_rollout")["attention_rollout"]
    # What leaves the class token in three halvings, spread evenly over all 13.
    assert torch.allclose(attribution.raw, torch.full((2, 4, 3), (1 - 0.5**3) / 13), atol=1e-6)


@pytest.mark.parametrize("last", [None, 2])
def test_legrad_is_torchcams(last):
    from torchcam.methods import LeGrad

    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(32, 8, 4, 2, 24, 48, num_classes=7).eval()
    nn.init.normal_(network.heads.head.weight)
    pictures = torch.randn(2, 3, 32, 32)
    layers = [f"encoder.layers.encoder_layer_{index}" for index in range(4)][-(last or 4) :]
    with LeGrad(network, layers) as peer:
        network(pictures)
        (expected,) = peer.compute_cams([3, 1], normalized=False)
    method = cam.method("legrad", last=last)
    attribution = cam.attribute(network, pictures, method, targets=[3, 1])["legrad"]
    assert expected.std() > 1e-6
    assert near(attribution.raw, expected)


def test_all_share_one_forward_and_one_backward(pictures):
    network = Tiny()
    cam.attribute(network, pictures, [*NAMES[:2], "saliency"])
    assert network.forwards == 1
    attributions = cam.attribute(network, pictures, [*NAMES, "saliency"])
    assert network.forwards == 1 + 2, "LeGrad sends its layers' tokens through the classifier"
    costs = {
        name: (attribution.cost.forwards, attribution.cost.backwards)
        for name, attribution in attributions.items()
    }
    assert costs["attention_rollout"] == costs["generic_attention"] == (1, 1)
    assert costs["legrad"] == (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_its_images_give(name, pictures):
    network = Tiny()
    together = cam.attribute(network, pictures, name, targets=2, batch_size=4)[name]
    for image in range(2):
        alone = cam.attribute(network, pictures[image : image + 1], name, targets=2)[name]
        assert near(together.raw[image], alone.raw[0])
    bad = pictures.clone()
    bad[0, 1, 2, 3] = torch.nan
    with pytest.warns(cam.CamWarning, match=f"{name}: the map of image 0 is NaN"):
        attribution = cam.attribute(network, bad, name, targets=2)[name]
    assert attribution.heatmap[0].isnan().all()
    assert near(attribution.raw[1], together.raw[1])


@pytest.mark.parametrize("name", NAMES)
def test_leaves_the_model_as_it_was(name, pictures):
    network = Tiny()
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.inference_mode(), pytest.warns(cam.CamWarning, match="training mode"):
        cam.attribute(network, pictures, name)
    with pytest.raises(cam.ModelError):
        cam.attribute(network, pictures[:, :2], name)
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert module.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(
        parameter.grad is None and parameter.requires_grad for parameter in network.parameters()
    )
    assert torch.is_grad_enabled()


def test_calls_leave_no_tensors(pictures):
    """The blocks' graphs are freed with the call, without a run of the garbage collector."""
    network = Tiny()

    def alive() -> int:
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    cam.attribute(network, pictures, NAMES)
    gc.collect()
    before = alive()
    gc.disable()
    try:
        for _ in range(5):
            cam.attribute(network, pictures, NAMES)
        assert alive() <= before
    finally:
        gc.enable()


@pytest.mark.parametrize("name", NAMES)
def test_can_be_asked_for_under_autocast_and_compiled(name, pictures):
    network = Tiny()
    expected = cam.attribute(network, pictures, name, targets=3)[name].raw
    compiled = torch.compile(network, backend="eager")
    assert near(cam.attribute(compiled, pictures, name, targets=3)[name].raw, expected)
    with torch.autocast("cpu", torch.bfloat16):
        actual = cam.attribute(network, pictures, name, targets=3)[name].raw
    assert near(actual, expected, 0.1)


def test_double_and_half_precision(pictures):
    network = Tiny()
    expected = truth(network, pictures[0], 3)
    attributions = cam.attribute(network.double(), pictures.double(), NAMES, targets=3)
    for name in NAMES:
        assert near(attributions[name].raw[0], expected[name].float(), 1e-6)
    attributions = cam.attribute(network.bfloat16(), pictures.bfloat16(), NAMES, targets=3)
    for name in NAMES:
        assert near(attributions[name].raw[0], expected[name].float(), 0.1), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.arange(7) < torch.arange(1, 6)[:, None] + 2},
        {"attn_mask": torch.linspace(-2, 2, 35).view(5, 7)},
        {"enable_gqa": True},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_a_fused_attention_is_computed_as_torch_does(options):
    generator = torch.Generator().manual_seed(0)
    heads = 2 if "enable_gqa" in options else 4
    query = torch.randn(2, 4, 5, 8, generator=generator, dtype=torch.float64)
    key, value = torch.randn(2, 2, heads, 7, 8, generator=generator, dtype=torch.float64)
    expected = functional.scaled_dot_product_attention(query, key, value, **options)
    with record_attention(nn.Identity(), torch.zeros(2, 3, 8, 8), False) as reader:
        actual = functional.scaled_dot_product_attention(query, key, value, **options)
    assert torch.allclose(actual, expected, atol=1e-12)
    assert reader.weights[0].shape == (2, 4, 5, 7)
    assert torch.allclose(reader.weights[0].sum(-1), torch.ones(2, 4, 5, dtype=torch.float64))
    assert reader.weights[0].requires_grad


@pytest.mark.parametrize(
    "options", [{}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"bias": False}], ids=str
)
@pytest.mark.parametrize("ask", [(False, True), (True, True), (True, False)])
def test_multihead_attention_gives_what_it_does_without(options, ask):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 2, batch_first=True, **options).eval()
    if "add_bias_kv" in options:
        nn.init.normal_(attention.bias_v)
    tokens = torch.randn(3, 5, 6)
    mask = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).tril() == 0, -torch.inf)
    arguments = {"need_weights": ask[0], "average_attn_weights": ask[1], "attn_mask": mask}
    expected = attention(tokens, tokens, tokens, **arguments)
    with record_attention(attention, torch.zeros(3, 3, 8, 8), False) as reader:
        actual = attention(tokens, tokens, tokens, **arguments)
    assert torch.allclose(actual[0], expected[0], atol=1e-6)
    assert (actual[1] is None) == (expected[1] is None)
    if ask[0]:
        assert torch.allclose(actual[1], expected[1], atol=1e-6)
    assert len(reader.weights) == 1


def test_encoder_layers_of_torch_leave_their_fast_path(pictures):
    torch.manual_seed(0)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=False)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            tokens = self.encoder(self.patches(x).flatten(2).permute(2, 0, 1))
            return self.head(tokens.mean(0))

    network = Encoder().eval()
    expected = network(pictures).detach()
    attributions = cam.attribute(network, pictures, NAMES)
    for name in NAMES:
        assert attributions[name].raw.shape == (2, 4, 3)
        assert attributions[name].raw[0].std() > 0
    assert torch.allclose(attributions["legrad"].logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("test_vit", (10, 10)),  # class token
        ("test_vit3", (10, 10)),  # registers, attention pooling
        ("deit_tiny_distilled_patch16_224", (14, 14)),  # two tokens
        ("vit_tiny_r_s16_p8_224", (7, 7)),  # patches of convolutions' maps
    ],
)
def test_timms_families(name, grid):
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    size = network.default_cfg["input_size"]
    pictures = torch.randn(1, *size)
    attributions = cam.attribute(network, pictures, NAMES)
    for method in NAMES:
        raw = attributions[method].raw
        assert raw.shape == (1, *grid), method
        assert raw.std() > 1e-5 * raw.abs().max(), method


class Outputs(nn.Module):
    """As Hugging Face's: blocks that return tuples, and an object with logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Tiny("explicit")

        class Tuple(Block):
            def forward(self, x):
                return (super().forward(x), None)

        for block in self.inner.blocks:
            block.__class__ = Tuple

    def forward(self, x):
        tokens = self.inner.embed(x)
        for block in self.inner.blocks:
            tokens = block(tokens + self.inner.shift)[0]
        return {"logits": self.inner.classify(tokens)}


def test_tuples_and_dicts_on_the_way(pictures):
    attributions = cam.attribute(Outputs(), pictures, NAMES, targets=3)
    expected = truth(Tiny("explicit"), pictures[0], 3)
    for name in NAMES:
        assert near(attributions[name].raw[0], expected[name].float()), name


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4], num_classes=5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("make", "size", "sentence"),
    [
        (lambda: torchvision.models.shufflenet_v2_x0_5(), 64, "has no self-attention"),
        (swin, 64, "attends within windows"),
        (lambda: timm.create_model("pvt_v2_b0"), 64, "different numbers of tokens"),
        (lambda: timm.create_model("xcit_nano_12_p16_224"), 224, "no grid of patches"),
    ],
    ids=["convolutions", "windows", "reduced", "channels"],
)
def test_says_where_attention_cannot_be_followed(name, make, size, sentence):
    torch.manual_seed(0)
    network = make().eval()
    with pytest.raises(cam.ModelError, match=sentence) as caught:
        cam.attribute(network, torch.randn(2, 3, size, size), name)
    assert "use 'gradcam' or 'saliency' instead" in str(caught.value)


@pytest.mark.parametrize("last", [0, True, 1.5, "2"])
def test_legrad_refuses_what_is_no_number_of_blocks(last):
    with pytest.raises(cam.MethodError, match="last must be a whole number of at least 1, or None"):
        cam.method("legrad", last=last)


def test_legrad_refuses_more_blocks_than_there_are(pictures):
    with pytest.raises(cam.MethodError, match="from 1 to the 3 blocks, but is 4"):
        cam.attribute(Tiny(), pictures, cam.method("legrad", last=4))


@pytest.mark.slow
def test_a_real_sized_vit_of_torchvision():
    torch.manual_seed(0)
    network = torchvision.models.vit_b_16().eval()
    nn.init.normal_(network.heads.head.weight, std=0.02)
    pictures = torch.randn(1, 3, 224, 224)
    attributions = cam.attribute(network, pictures, NAMES)
    assert all(attribution.raw.shape == (1, 14, 14) for attribution in attributions.values())
    assert torch.allclose(attributions["legrad"].logits, network(pictures), atol=1e-4)
