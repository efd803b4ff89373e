"""Every metric on a case whose answer is known, both ways.

The right map scores best, as good as is possible, and random maps score by chance on average. A
metric that is not in a table here fails the first test.
"""

import math

import pytest
import torch
from torch import nn

import cam
from tests.support.maps import attribution_of
from tests.support.networks import Pixel, Still, Weighted

SIDE, PATCH = 24, (slice(8, 16), slice(8, 16))
MASK = torch.zeros(SIDE, SIDE, dtype=torch.bool)
MASK[PATCH] = True
SHARE = 1 / 9  # of the patch
DRAWS = 40
RANDOM = torch.rand(DRAWS, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
FINE = RANDOM[0] * 1e-3
PICTURE = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 0.3
PICTURE[0, 0][PATCH] = 1
BLANK = {"baseline": 0.0}


def share_of_first(logits: torch.Tensor) -> torch.Tensor:
    """The probability itself as the explained score, which is linear in the picture."""
    return logits.softmax(0)[0]


def patch_weights() -> torch.Tensor:
    """Only the patch counts: p is the share of it that is in view."""
    return MASK.float() / 64


def graded_weights() -> torch.Tensor:
    """Every pixel counts, and none as much as another."""
    weights = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(2)) ** 3 + 0.01
    return weights / weights.sum()


def distracted_weights() -> torch.Tensor:
    """All but the patch speaks against the class."""
    return patch_weights() - 0.3 / 512 * ~MASK


class Threshold(nn.Module):
    """The class depends on most of the patch being there."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = (x.mean(1) * patch_weights()).sum((1, 2))
        return torch.stack([20 * (inside - 0.8), torch.zeros_like(inside)], 1)


WHITE = torch.ones(1, 1, SIDE, SIDE)
# Noise all over, as what is blurred must be smaller when compressed.
TEXTURED = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) * 0.3
TEXTURED[:, :, MASK] += 0.7
SETUPS = {
    "patch": (Weighted(patch_weights()), PICTURE, MASK + FINE),
    "graded": (Weighted(graded_weights()), WHITE, graded_weights()),
    "distracted": (Weighted(distracted_weights()), WHITE, distracted_weights()),
    "threshold": (Threshold(), PICTURE, MASK + FINE),
    "textured": (Weighted(patch_weights()), TEXTURED, MASK + FINE),
    "point": (Weighted(patch_weights()), PICTURE, torch.zeros(SIDE, SIDE)),
}
SETUPS["point"][2][3, 4] = 1
COHERENCY = SHARE / 12 / math.sqrt((SHARE / 3 - SHARE**2 / 4) / 12)
# The setup, parameters, what the right map scores (None: only better than any other), and what
# random ones do on average (None: nothing known).
FAITHFUL = {
    # Nine steps of 64 pixels: all of the patch goes, or comes, in the first.
    "deletion": ("patch", {"steps": 9} | BLANK, 0.5 / 9, 0.5),
    "insertion": ("patch", {"steps": 9} | BLANK, 8.5 / 9, 0.5),
    "aopc_morf": ("patch", {"steps": 9} | BLANK, 0.9, 0.5),
    "aopc_lerf": ("patch", {"steps": 9} | BLANK, 0.1, 0.5),
    "srg": ("patch", {"steps": 9} | BLANK, 8 / 9, 0.0),
    "region_perturbation": ("patch", {"size": 8} | BLANK, 0.9, 0.5),
    "irof": ("patch", {"segments": 9} | BLANK, None, 0.5),
    "average_drop": ("patch", {}, 0.0, 0.5),
    "increase": ("distracted", {}, 1.0, 0.0),
    "average_gain": ("distracted", {}, 1.0, 0.0),
    # Coherency 1, complexity 1/9 and no drop. By chance ½ each, but that a random map of the patch
    # alone goes along with it: covariance f / 12 and variance f / 3 - f² / 4, f = 1/9.
    "adcc": ("patch", {}, 3 / (1 + 9 / 8 + 1), 3 / (2 / (1 + COHERENCY) + 2 + 2)),
    # The right map is coherent and small; what ROAD makes of it is known to be best only.
    "arcc": ("patch", {}, None, None),
    "road": ("patch", {}, None, 0.0),
    "road_morf": ("patch", {}, None, None),
    "road_lerf": ("patch", {}, None, None),
    "sic": ("textured", {}, None, None),
    "aic": ("textured", {}, None, None),
    # Half of the patch against nothing of it.
    "f_fidelity": ("patch", {"samples": 200}, 0.5, 0.0),
    "sufficiency": ("threshold", {"share": SHARE}, 1.0, 0.0),
    # Sums over pixels are what the score loses.
    "infidelity": ("graded", {}, 0.0, None),
    "faithfulness_correlation": ("graded", {}, 1.0, 0.0),
    "sensitivity_n": ("graded", {}, 1.0, 0.0),
    "faithfulness_estimate": ("graded", BLANK, 1.0, 0.0),
    "monotonicity_correlation": ("graded", {"samples": 1} | BLANK, 1.0, 0.0),
}
LOCAL = {
    "pointing_game": ("patch", {"tolerance": 0}, 1.0, SHARE),
    "energy_pointing_game": ("point", {}, None, SHARE),
    "grid_pointing_game": ("point", {}, None, SHARE),
    "relevance_rank": ("patch", {}, 1.0, SHARE),
    "top_k_intersection": ("patch", {"k": 64}, 1.0, SHARE),
}
COUNT = SIDE * SIDE
SIMPLE = {
    # One pixel; of values drawn evenly from 0 to 1.
    "sparseness": ("point", {}, 1 - 1 / COUNT, 1 / 3),
    "complexity": ("point", {}, 0.0, math.log(COUNT / 2) + 0.5),
    "effective_complexity": ("point", {}, 1 / COUNT, 0.99),
}
STEADY = {
    "max_sensitivity": {},
    "local_lipschitz": {},
    "continuity": {},
    "relative_input_stability": {},
    "relative_output_stability": {},
    "relative_representation_stability": {"layer": "layer"},
    "stability_noise": {},
    "stability_light": {},
}
MOVING = ("stability_flip", "stability_shift")
FORGETFUL = ("randomisation", "smooth_randomisation", "efficient_randomisation", "random_logit")
TABLES = FAITHFUL | LOCAL | SIMPLE


def test_no_metric_is_left_out():
    # What compares with an exact attribution has its cases in tests/cam/_metrics/truth.
    names = {name for name, info in cam.metrics().items() if info.family != "truth"}
    assert {*TABLES, *STEADY, *MOVING, *FORGETFUL, "monotonicity"} == names


@pytest.mark.parametrize("name", TABLES)
def test_the_right_map_is_best_and_random_ones_are_at_chance(name):
    setup, parameters, optimum, chance = TABLES[name]
    network, picture, right = SETUPS[setup]
    if name in ("energy_pointing_game", "grid_pointing_game"):
        right = MASK.float()
        optimum = 1.0
    info = cam.metrics()[name]
    # Where sums count, of the score that is linear in the picture.
    linear = setup == "graded" or name in ("adcc", "arcc")
    target = share_of_first if linear else 0
    options = {"method": "input_x_gradient"} if info.needs_method or name == "infidelity" else {}
    maps = torch.cat([right[None].float(), RANDOM])
    count = len(maps)
    result = attribution_of(maps, "contribution")
    values = cam.metric(name, **parameters)(
        network, picture.expand(count, -1, -1, -1), result, target, MASK.expand(count, -1, -1),
        **options,
    ).double()  # fmt: skip
    assert values.isfinite().all()
    best, others = values[0].item(), values[1:]
    gain = info.direction * (best - others)
    # Of few regions, or with a single point, a random map may be right too.
    lucky = name in ("region_perturbation", "pointing_game")
    assert (gain >= 0).all() and gain.mean() > 0.1 * others.abs().mean()
    assert lucky or (gain > 1e-3 * others.abs().max()).all(), "the right map alone is best"
    if optimum is not None:
        # Draws of F-Fidelity are random; the fine order within the patch is part of the map.
        assert best == pytest.approx(optimum, abs=0.02 if name == "f_fidelity" else 2e-3)
    if chance is not None:
        error = others.std().item() / math.sqrt(DRAWS)
        assert others.mean().item() == pytest.approx(chance, abs=4 * error + 0.01)


class Context(nn.Module):
    """A patch that speaks against the class without its context, and for it within."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patch = (x.mean(1) * patch_weights()).sum((1, 2))
        context = (x.mean(1) * ~MASK / 512).sum((1, 2))
        score = 0.1 * context + 6 * patch - 10 * patch * (1 - context)
        return torch.stack([score, torch.zeros_like(score)], 1)


def test_monotonicity_passes_the_right_order_and_no_other():
    """On average over what is in view a pixel counts for 5.1/512 in the context, 1/64 in the patch.

    So the context comes first. A random order has as much of both in view, t of each: the score
    6.1 t - 10 t (1 - t) falls at first.
    """
    maps = torch.cat([(MASK + FINE)[None], (~MASK + FINE)[None], RANDOM])
    values = cam.metric("monotonicity", steps=9)(
        Context(), WHITE.expand(len(maps), -1, -1, -1), maps, 0
    )
    assert values[0] == 1 and values[1:].max() == 0
    # But where every pixel speaks for the class any map passes, as its docstring says.
    any_map = cam.metric("monotonicity", steps=9)(
        Weighted(graded_weights()), WHITE.expand(DRAWS, -1, -1, -1), RANDOM, 0
    )
    assert any_map.min() == 1


def compare(name: str, network: nn.Module, parameters: dict) -> tuple[float, torch.Tensor]:
    """Values of the method's own map, and of random ones in its place."""
    options = {"method": "eigencam", "layers": "layer"}
    rough = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(4))
    picture = nn.functional.interpolate(rough, (SIDE, SIDE), mode="bilinear") + 0.1
    right = cam.attribute(network, picture, "eigencam", 0, "layer")["eigencam"].signed
    maps = torch.cat([right, RANDOM])
    values = cam.metric(name, **parameters)(
        network, picture.expand(len(maps), -1, -1, -1), attribution_of(maps), 0, **options
    )
    return values[0].item(), values[1:]


@pytest.mark.parametrize("name", STEADY)
def test_a_map_that_stays_is_the_most_robust(name):
    best, others = compare(name, Still().eval(), STEADY[name])
    if cam.metrics()[name].direction < 0:
        assert best == pytest.approx(0, abs=1e-6) and others.min() > 0.05
    else:
        assert best == pytest.approx(1, abs=1e-6)
        assert others.mean().item() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("name", MOVING)
def test_a_map_that_goes_along_is_the_most_stable(name):
    best, others = compare(name, Pixel().eval(), {})
    # EigenCAM cuts at the picture's mean, which a mirrored edge changes a little.
    assert best > 0.9
    assert others.max() < 0.5
    assert others.mean().item() == pytest.approx(0, abs=0.05)
    assert compare(name, Still().eval(), {})[0] < 0.9


class Classes(nn.Sequential):
    """Each class has a patch elsewhere, and noise that is another's nowhere."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(SIDE * SIDE, 4))
        weights = torch.randn(4, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) * 1e-3
        weights[:, 8:12, 8:12] += 1
        for number in range(4):
            weights[number] = weights[number].roll((5 * number, 3 * number), (0, 1))
        self[1].weight.data.copy_(weights.flatten(1))


@pytest.mark.parametrize("name", FORGETFUL)
def test_what_ignores_the_network_fails_and_what_depends_on_it_passes(name):
    picture = torch.ones(1, 1, SIDE, SIDE) + FINE
    network = Classes().eval()
    result = cam.attribute(network, picture, "input_x_gradient", 1)["input_x_gradient"]
    good = cam.metric(name)(network, picture, result, 1, method="input_x_gradient").item()
    ignoring, _ = compare(name, Pixel().eval(), {})
    if name == "efficient_randomisation":
        # Values near 0 but for a patch, and then all over: far more bins of the histogram.
        assert ignoring == 0 and good > 1
    else:
        assert ignoring == pytest.approx(1, abs=1e-6)
        # Independent values of 576 pixels.
        assert good == pytest.approx(0, abs=4 / math.sqrt(COUNT))
