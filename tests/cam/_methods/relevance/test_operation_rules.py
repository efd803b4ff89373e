"""Rules of single operations against the same with whole matrices."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import cam

GENERATOR = torch.Generator().manual_seed(2)
PIXELS = torch.randn(1, 1, 2, 6, generator=GENERATOR).double()
READ = torch.randn(12, generator=GENERATOR).double()
WEIGHT, BIAS = torch.randn(2, 12, generator=GENERATOR).double()


class Reading(nn.Module):
    """A sum of what an operation makes of twelve pixels, each times a number."""

    def __init__(self, operation, layer_first: bool = False) -> None:
        super().__init__()
        self.operation = operation
        self.same = nn.Linear(12, 12, bias=False) if layer_first else nn.Identity()
        if layer_first:
            self.same.weight.data = torch.eye(12)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.same(x.flatten(1) * 1)
        return torch.stack([(self.operation(x).flatten(1) * READ).sum(1), x.sum(1)], 1)


def relevance(operation, bias: str = "share", layer_first: bool = False) -> Tensor:
    method = cam.method("lrp", composite="epsilon", epsilon=0, bias=bias)
    network = Reading(operation, layer_first)
    return cam.attribute(network, PIXELS, method, targets=0)["lrp"].raw.flatten().double()


def shared(matrix: Tensor, shift: Tensor) -> Tensor:
    """Relevance of x where y = M x + b, whose outputs' is their number's part of the score."""
    parts = matrix * PIXELS.flatten()  # (outputs, inputs)
    sizes = parts.abs()
    parts = parts + shift[:, None] * sizes / sizes.sum(1, keepdim=True)
    return (parts * READ[:, None]).sum(0)


def close(actual: Tensor, expected: Tensor) -> bool:
    return torch.allclose(actual, expected, rtol=1e-4, atol=1e-6)


def affine(kind: str) -> tuple[object, Tensor, Tensor]:
    """An operation, and its matrix and shift for these pixels where it is nearly linear."""
    x = PIXELS.flatten()
    if kind == "softmax":
        s = x.softmax(0)
        matrix = torch.diag(s) - torch.outer(s, s)
        return lambda values: values.softmax(-1), matrix, s - matrix @ x
    groups = 3 if kind == "group norm" else 1
    centring = torch.eye(12 // groups) - groups / 12
    deviation = (x.view(groups, -1).var(1, correction=0) + 1e-5).sqrt()
    blocks = torch.block_diag(*(centring / part for part in deviation))
    matrix = WEIGHT[:, None] * blocks
    if kind == "group norm":
        return lambda y: functional.group_norm(y, 3, WEIGHT, BIAS), matrix, BIAS
    return lambda y: functional.layer_norm(y, (12,), WEIGHT, BIAS), matrix, BIAS


@pytest.mark.parametrize("kind", ["softmax", "layer norm", "group norm"])
def test_constants_are_shared_by_the_size_of_contributions(kind):
    operation, matrix, shift = affine(kind)
    assert torch.allclose(operation(PIXELS.flatten()[None])[0], matrix @ PIXELS.flatten() + shift)
    assert close(relevance(operation), shared(matrix, shift))
    assert close(relevance(operation, "absorb"), shared(matrix, 0 * shift))


def test_an_embedding_goes_to_its_token():
    embedding = BIAS.view(2, 6)
    actual = relevance(lambda x: x.view(-1, 2, 6) + embedding, layer_first=True)
    tokens, read = PIXELS.view(2, 6), READ.view(2, 6)
    share = tokens.abs() / tokens.abs().sum(1, keepdim=True)
    expected = tokens * read + share * (embedding * read).sum(1, keepdim=True)
    assert close(actual, expected.flatten())
    subtracted = relevance(lambda x: x.view(-1, 2, 6) - embedding, layer_first=True)
    assert close(subtracted, (2 * tokens * read - expected).flatten())
    reverse = relevance(lambda x: embedding - x.view(-1, 2, 6), layer_first=True)
    assert close(reverse, (expected - 2 * tokens * read).flatten())


def test_what_is_added_to_pixels_goes_to_each_for_itself():
    actual = relevance(lambda x: x - BIAS)
    assert close(actual, (PIXELS.flatten() - BIAS) * READ)


def test_a_class_tokens_relevance_goes_to_all_patches():
    token, read = torch.arange(1.0, 7).double(), READ.view(2, 6)

    def joined(x: Tensor) -> Tensor:
        # The first patch makes way, so that twelve numbers are left.
        patches = x.view(-1, 2, 6)
        both = torch.cat([token.expand(len(x), 1, 6), patches], 1)
        return both[:, :2] + 0 * patches

    patches = PIXELS.view(2, 6)
    expected = patches.abs() / patches.abs().sum() * (token * read[0]).sum()
    expected[0] += patches[0] * read[1]
    assert close(relevance(joined), expected.flatten())


@pytest.mark.parametrize(
    "operation",
    [
        functional.gelu,
        torch.tanh,
        lambda x: x**3,
        lambda x: x.pow(2),
        lambda x: 1 / x,
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x: functional.normalize(x, dim=1),
        lambda x: functional.rms_norm(x, (12,), WEIGHT),
        lambda x: functional.batch_norm(x, BIAS, WEIGHT.abs(), WEIGHT, BIAS),
        lambda x: x.mul_(2).add(x),
        lambda x: x * x,
    ],
    ids=[
        *("gelu", "tanh", "cube", "square", "inverse", "norm", "normalize", "rms"),
        *("batch_norm", "in_place", "product"),
    ],
)
def test_what_is_elementwise_passes_on_what_it_gets(operation):
    assert close(relevance(operation), operation(PIXELS.flatten()[None].clone())[0] * READ)


def test_a_gate_takes_nothing_and_equal_factors_half():
    x = PIXELS.flatten()
    gated = relevance(lambda x: x * x.mean(1, keepdim=True).sigmoid())
    assert close(gated, x * x.mean().sigmoid() * READ)
    # Of x_i x_-i both get half.
    both = relevance(lambda x: x * x.flip(1))
    product = x * x.flip(0) * READ
    assert close(both, (product + product.flip(0)) / 2)


def test_a_quotient_belongs_to_its_numerator():
    x = PIXELS.flatten()
    actual = relevance(lambda x: x / (2 + x.flip(1) ** 2))
    assert close(actual, x / (2 + x.flip(0) ** 2) * READ)


def test_torchs_own_functions_run_as_what_they_are_made_of():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 2, batch_first=True).double()
    for parameter in attention.parameters():
        parameter.requires_grad_(False)

    def written_out(x: Tensor) -> Tensor:
        x = x.view(-1, 2, 6)
        joint = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = (part.unflatten(2, (2, 3)).transpose(1, 2) for part in joint.chunk(3, -1))
        weights = (q @ k.mT / 3**0.5).softmax(-1)
        return attention.out_proj((weights @ v).transpose(1, 2).flatten(2))

    for options in ({"need_weights": True}, {"need_weights": False}):

        def fused(x: Tensor, options=options) -> Tensor:
            x = x.view(-1, 2, 6)
            return attention(x, x, x, **options)[0]

        assert close(relevance(fused), relevance(written_out))
