"""The exact attributions are Shapley values, by trying every coalition of pixels."""

import copy
import itertools
import math
import re

import pytest
import torch
from torch import Tensor, nn

import cam
from cam._truth.known_networks import (
    AdditiveNetwork,
    DistractorNetwork,
    LinearNetwork,
    PatchNetwork,
    XorNetwork,
)

# The same networks for pictures of 4 × 4 pixels: 16 players, 65,536 coalitions.
SMALL = {
    "linear": lambda: LinearNetwork(4),
    "additive": lambda: AdditiveNetwork(4),
    "patch": lambda: PatchNetwork(4, 2),
    "xor": lambda: XorNetwork(4, 2),
    "distractor": lambda: DistractorNetwork(4, 2),
}
HORIZONTAL = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])


def shapley_values(network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """Compute Shapley's formula of every pixel of (3, 4, 4), in float64, (4, 4)."""
    players = 16
    members = torch.tensor(list(itertools.product((0, 1), repeat=players)))  # (65536, 16)
    coalitions = picture.double() * members.view(-1, 1, 4, 4)
    with torch.no_grad():
        scores = torch.cat([network(part)[:, target] for part in coalitions.split(8192)])
    sizes = members.sum(1).tolist()
    orders = torch.tensor(
        [
            math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
            if size < players
            else 0.0
            for size in sizes
        ],
        dtype=torch.float64,
    )
    values = []
    for player in range(players):
        without = (members[:, player] == 0).nonzero()[:, 0]
        # A member more is a power of two further: the first player is the highest digit.
        gains = scores[without + 2 ** (players - 1 - player)] - scores[without]
        values.append((orders[without] * gains).sum())
    return torch.stack(values).view(4, 4)


def draw(name: str) -> list[Tensor]:
    """Pictures (3, 4, 4) that the network was built for, in the corners of a 2 × 2 grid."""
    generator = torch.Generator().manual_seed(0)
    noise = 0.2 * torch.rand(3, 4, 4, generator=generator) - 0.1
    if name in ("linear", "additive"):
        return [2 * torch.rand(3, 4, 4, generator=generator) - 1 for _ in range(2)]
    if name == "distractor":
        picture = noise.clone()
        picture[2] *= 0.2
        picture[:2, :2, :2] = 0.9
        picture[2, 2:, 2:] = 38 / 127 * HORIZONTAL
        return [picture, noise * 0.1]
    alone, both = noise.clone(), noise.clone()
    alone[:, :2, 2:] = HORIZONTAL
    both[:, :2, 2:] = HORIZONTAL
    both[:, 2:, :2] = HORIZONTAL.T * (1 if name == "xor" else 0.85)
    return [alone, both, noise]


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("name", SMALL)
def test_the_exact_values_are_those_of_every_coalition(name, target):
    network = SMALL[name]().double()
    for number, picture in enumerate(draw(name)):
        expected = shapley_values(network, picture, target)
        exact = network.exact(picture[None], torch.tensor([target]))[0]
        assert torch.allclose(exact.double(), expected, rtol=1e-5, atol=1e-6), number
        # The last pictures of patterns have none, and nothing to share.
        silent = name not in ("linear", "additive") and number == len(draw(name)) - 1
        assert (expected.abs().max() > 1e-3) != (silent or (name, number) == ("xor", 1))


@pytest.mark.parametrize("name", ["patch", "xor", "distractor"])
def test_a_picture_of_another_kind_has_no_exact_values(name):
    """Its pixels bring different amounts, so the order matters."""
    network = SMALL[name]()
    photo = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    photo[0, :, :2, :2] = HORIZONTAL + 0.1 * photo[0, :, :2, :2]
    assert network.exact(photo, torch.tensor([0])).isnan().all()


def test_two_patterns_of_other_contrasts_have_no_exact_values():
    picture = torch.zeros(1, 3, 4, 4)
    picture[0, :, :2, :2], picture[0, :, 2:, 2:] = HORIZONTAL, 0.9 * HORIZONTAL.T
    assert XorNetwork(4, 2).exact(picture, torch.tensor([0])).isnan().all()


@pytest.mark.parametrize("name", SMALL)
def test_a_loaded_network_keeps_to_its_pictures(name):
    """At full size: the sum is the score, by the network; the class is the predicted one."""
    model, data = cam.load_model(f"known/{name}"), cam.dataset("known", network=name, size=6)
    items = list(data)
    batch = model.prepare([item.image for item in items])
    targets = torch.tensor([item.target for item in items])
    precise = copy.deepcopy(model.module).double()
    with torch.no_grad():
        logits, blank = precise(batch.double()), precise(torch.zeros_like(batch).double())
        # Each processor adds the 768 products of a template in another order, and XOR amplifies
        # that: 1.5e-4 and 2.5e-4 were measured on two of them.
        assert torch.allclose(model.module(batch).double(), logits, atol=1e-3)
    assert torch.equal(logits.argmax(1), targets)
    assert len(set(targets.tolist())) == (1 if name == "distractor" else 2)
    expected = (logits - blank).gather(1, targets[:, None])[:, 0]
    exact = model.module.exact(batch, targets)
    assert torch.allclose(exact.double().sum((1, 2)), expected, rtol=1e-6, atol=1e-5)
    opposite = model.module.exact(batch, 1 - targets)
    assert torch.equal(exact, -opposite)
    for item, values in zip(items, exact, strict=True):
        assert torch.equal(torch.from_numpy(item.mask), values > 0)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cam.load_model("known/patches"), "no model 'known/patches'; did you mean"),
        (lambda: cam.load_model("known/xor", weights=None), "is built by hand"),
        (lambda: cam.dataset("known", network="xr"), "no network 'xr' of known answers; did you"),
        (lambda: cam.dataset("known", size=0), "size of known images must be a whole number"),
        (lambda: cam.dataset("known", n=2), "there is no option 'n' here"),
    ],
)
def test_refuses_what_there_is_not(make, sentence):
    with pytest.raises(cam.CamError, match=re.escape(sentence)):
        make()
