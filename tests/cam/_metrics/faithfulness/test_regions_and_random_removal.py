"""Regions and random holes, written again one at a time."""

import numpy as np
import pytest
import torch
from skimage.segmentation import slic
from torch import nn

import cam
from tests.support.networks import Weighted

SIDE = 24


def pictures() -> torch.Tensor:
    rough = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(rough, (SIDE, SIDE), mode="nearest")


def network() -> Weighted:
    weights = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return Weighted(weights / weights.sum())


MAPS = torch.randn(2, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def probability(model: nn.Module, picture: np.ndarray) -> float:
    with torch.no_grad():
        return model(torch.from_numpy(picture)[None].float()).softmax(1)[0, 0].item()


def test_irof_by_its_definition():
    """Superpixels of scikit-image, one after the other, the highest mean first."""
    model = network()
    actual = cam.metric("irof", segments=16)(model, pictures(), MAPS, 0)
    counts = []
    for value, picture, heatmap in zip(actual, pictures().numpy(), MAPS.numpy(), strict=True):
        scaled = (picture - picture.min()) / (picture.max() - picture.min())
        labels = slic(np.moveaxis(scaled, 0, -1), n_segments=16, start_label=0, channel_axis=-1)
        numbers = sorted(np.unique(labels), key=lambda at: -heatmap[labels == at].mean())
        whole, left = probability(model, picture), picture.copy()
        curve = [1.0]
        for number in numbers:
            left[:, labels == number] = picture.mean((1, 2))[:, None]
            curve.append(probability(model, left) / whole)
        counts.append(len(numbers))
        assert value.item() == pytest.approx(1 - np.trapezoid(curve) / len(numbers), abs=1e-5)
    assert min(counts) >= 4


def test_patches_are_cut_at_the_right_and_the_bottom_and_there_may_be_few():
    """24 = 10 + 10 + 4: nine patches, the most important first by the sum of their pixels."""
    model = network()
    actual = cam.metric("region_perturbation", size=10, regions=100, baseline=0.0)(
        model, pictures(), MAPS, 0
    )
    ends = [0, 10, 20, 24]
    for value, picture, heatmap in zip(actual, pictures().numpy(), MAPS.numpy(), strict=True):
        patches = [
            (slice(ends[row], ends[row + 1]), slice(ends[column], ends[column + 1]))
            for row in range(3)
            for column in range(3)
        ]
        patches.sort(key=lambda patch: -heatmap[patch].sum())
        left, falls = picture.copy(), [0.0]
        for rows, columns in patches:
            left[:, rows, columns] = 0
            falls.append(probability(model, picture) - probability(model, left))
        assert value.item() == pytest.approx(np.mean(falls), abs=1e-5)


class Keeping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(x.clone())
        return network()(x)


@pytest.mark.parametrize(
    ("share", "alpha", "beta", "chances"),
    [(0.2, 0.5, 0.1, (0.5, 0.125)), (0.5, 0.9, 0.1, (0.2, 0.2)), (0.1, 0.3, 1.0, (0.3, 0.3))],
)
def test_f_fidelity_makes_holes_of_the_papers_size(share, alpha, beta, chances):
    model = Keeping()
    metric = cam.metric("f_fidelity", share=share, alpha=alpha, beta=beta, samples=40)
    positive = pictures() + 1  # no pixel is 0 already
    values = metric(model, positive / 2, MAPS, 0, batch_size=512)
    tried = model.batches[1].view(2, 2, 40, 3, SIDE, SIDE)
    for image in range(2):
        cut = MAPS[image].flatten().sort(descending=True).values[round(share * SIDE**2) - 1]
        important = MAPS[image] >= cut
        holes = (tried[image] == 0).all(2)  # (2, 40, H, W)
        for part, inside in enumerate((important, ~important)):
            assert not (holes[part] & ~inside).any(), "only pixels of the part"
            chance = holes[part][:, inside].double().mean().item()
            count = int(inside.sum()) * 40
            error = (chances[part] * (1 - chances[part]) / count) ** 0.5
            assert chance == pytest.approx(chances[part], abs=4 * error)
        means = [
            np.mean([probability(network(), picture.numpy()) for picture in tried[image, part]])
            for part in range(2)
        ]
        assert values[image].item() == pytest.approx(means[1] - means[0], abs=1e-5)


def test_sufficiency_counts_how_often_the_class_stays():
    class Counting(nn.Module):
        """Class 0 where the mean is above a half."""

        batches: list[torch.Tensor]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.batches.append(x.clone())
            mean = x.mean((1, 2, 3))
            return torch.stack([mean, torch.full_like(mean, 0.5)], 1)

    model = Counting()
    model.batches = []
    positive = pictures() * 0.5 + 0.4
    scores = cam.metric("sufficiency", share=0.3, samples=25).measure(
        model, positive, MAPS, 0, batch_size=512
    )
    tried = model.batches[1].view(2, 25, 3, SIDE, SIDE)
    for image in range(2):
        cut = MAPS[image].flatten().sort(descending=True).values[round(0.3 * SIDE**2) - 1]
        stays = (MAPS[image] >= cut)[None]
        same = (tried[image] == positive[image]).all(1)
        assert (same[:, stays[0]]).all() and not same[:, ~stays[0]].any()
        expected = (tried[image].mean((1, 2, 3)) > 0.5).double().mean().item()
        assert scores.values[image].item() == pytest.approx(expected, abs=1e-6)
    other = cam.metric("sufficiency").measure(model, positive, MAPS, 1)
    assert other.reasons == ("the target is not the model's top class",) * 2
    with pytest.raises(cam.MetricError, match="sufficiency asks whether the target is the top"):
        cam.metric("sufficiency")(model, positive, MAPS, cam.targets.Logit(0))
