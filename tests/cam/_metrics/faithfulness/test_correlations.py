"""Correlations of sums and falls: recorded pictures scored again, compared by scipy."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import cam
from tests.support.maps import attribution_of


class Keeping(nn.Module):
    """A small network that writes down what it gets."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.batches: list[torch.Tensor] = []
        self.rest = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 120, 3)
        ).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(x.clone())
        return self.rest(x)


PICTURES = torch.randn(
    2, 3, 12, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
)
MAPS = torch.randn(2, 12, 10, generator=torch.Generator().manual_seed(2))
CLASSES = torch.tensor([2, 0])


def tried(name: str, **parameters) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
    """Values, which pixels were hidden (B, steps, H, W), and the falls of the logit and of p."""
    network = Keeping()
    values = cam.metric(name, **parameters)(
        network, PICTURES, attribution_of(MAPS, "contribution"), CLASSES, batch_size=512
    )
    changed = network.batches[1].unflatten(0, (2, -1))
    hidden = (changed != PICTURES[:, None]).all(2)
    with torch.no_grad():
        whole, logits = network.rest(PICTURES), network.rest(changed.flatten(0, 1))
    falls = []
    for scores, all_scores in ((whole, logits), (whole.softmax(1), logits.softmax(1))):
        of_target = all_scores.unflatten(0, (2, -1))[torch.arange(2), :, CLASSES]
        falls.append((scores[torch.arange(2), CLASSES][:, None] - of_target).numpy())
    return values, hidden.numpy(), *falls


def sums(hidden: np.ndarray, maps: np.ndarray) -> np.ndarray:
    return (hidden * maps[:, None]).sum((2, 3))


def test_faithfulness_correlation_is_of_random_sets_and_the_raw_score():
    values, hidden, falls, _ = tried("faithfulness_correlation", pixels=30, samples=40)
    assert (hidden.sum((2, 3)) == 30).all()
    assert len({sets.tobytes() for sets in hidden[0]}) == 40
    assert (hidden[0] == hidden[1]).all(), "the same sets for every image"
    totals = sums(hidden, MAPS.double().numpy())
    for image in range(2):
        expected = stats.pearsonr(totals[image], falls[image]).statistic
        assert values[image].item() == pytest.approx(expected, abs=1e-5)


def test_sensitivity_n_is_its_mean_over_sizes():
    values, hidden, falls, _ = tried("sensitivity_n", shares=(0.1, 0.5, 0.9), samples=15)
    counts = hidden.sum((2, 3)).reshape(2, 3, 15)
    assert (counts == np.array([12, 60, 108])[None, :, None]).all()
    totals = sums(hidden, MAPS.double().numpy()).reshape(2, 3, 15)
    falls = falls.reshape(2, 3, 15)
    for image in range(2):
        rows = [stats.pearsonr(totals[image, n], falls[image, n]).statistic for n in range(3)]
        assert values[image].item() == pytest.approx(np.mean(rows), abs=1e-5)


def test_faithfulness_estimate_hides_groups_in_the_order_of_signs():
    values, hidden, _, falls = tried("faithfulness_estimate", steps=8)
    assert (hidden.sum((2, 3)) == 15).all() and (hidden.sum(1) == 1).all()
    totals = sums(hidden, MAPS.double().numpy())
    assert (np.diff(totals) < 0).all()
    for image in range(2):
        expected = stats.pearsonr(totals[image], falls[image]).statistic
        assert values[image].item() == pytest.approx(expected, abs=1e-5)


def test_monotonicity_correlation_is_of_absolute_values_and_mean_squares():
    values, hidden, _, falls = tried("monotonicity_correlation", steps=8, samples=3)
    groups = hidden.reshape(2, 8, 3, 12, 10)
    assert (groups[:, :, 0] == groups[:, :, 2]).all()
    totals = sums(groups[:, :, 0], MAPS.abs().double().numpy())
    assert (np.diff(totals) < 0).all()
    squares = (falls.reshape(2, 8, 3) ** 2).mean(2)
    for image in range(2):
        expected = stats.spearmanr(totals[image], squares[image]).statistic
        assert values[image].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["faithfulness_correlation", "faithfulness_estimate"])
def test_reasons_and_refusals(name):
    few = {"pixels": 9} if name == "faithfulness_correlation" else {"steps": 4}
    flat = cam.metric(name, **few).measure(Keeping(), PICTURES, torch.ones_like(MAPS), CLASSES)
    assert flat.reasons == ("the map is the same everywhere",) * 2

    class Blind(nn.Module):
        def forward(self, x):
            return torch.tensor([1.0, 2, 3]).expand(len(x), 3) + 0 * x.sum()

    blind = cam.metric(name, **few).measure(Blind(), PICTURES, MAPS, CLASSES)
    assert blind.reasons == ("hiding pixels does not change the model's score",) * 2
    many = {"pixels": 120} if name == "faithfulness_correlation" else {"steps": 121}
    with pytest.raises(cam.MetricError, match=r"take fewer|too few for 121 groups"):
        cam.metric(name, **many)(Keeping(), PICTURES, MAPS, CLASSES)
