"""Randomisation metrics by their definitions, one random network at a time."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import structural_similarity
from torch import nn

import cam
from cam._metrics.randomisation.model_randomisation import _histogram_entropy
from cam._metrics.randomisation.random_networks import randomise_in_stages
from tests.support.maps import attribution_of
from tests.support.networks import Layered, Pixel


@pytest.fixture
def network() -> Layered:
    return Layered()


@pytest.fixture
def pictures() -> torch.Tensor:
    rough = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(rough, (20, 16), mode="bilinear")


OPTIONS = {"method": "layercam", "layers": "3"}
LIKE = torch.zeros(1, 3, 20, 16)


def explain(network, pictures, targets=None) -> torch.Tensor:
    return cam.attribute(network, pictures, "layercam", targets, layers="3")["layercam"].signed


def recording(network) -> list:
    """Every batch that goes into the network from now on."""
    batches = []
    network[0].register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0].clone()))
    return batches


def test_layers_are_forgotten_from_the_last_to_the_first_in_a_copy(network):
    before = copy.deepcopy(network.state_dict())
    changed = []
    for forgetful in randomise_in_stages(network, LIKE, 3, 0):
        assert forgetful is not network
        state = forgetful.state_dict()
        changed.append({key for key in state if not torch.equal(state[key], before[key])})
    assert [sorted({key[0] for key in names}) for names in changed] == [
        ["6"], ["2", "6"], ["0", "2", "6"],
    ]  # fmt: skip
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_stages_are_equal_steps_and_no_more_than_layers(network):
    assert len(list(randomise_in_stages(network, LIKE, 50, 0))) == 3
    (whole,) = randomise_in_stages(network, LIKE, 1, 0)
    same = all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), network.parameters(), strict=True)
    )
    assert not same
    *_, last = randomise_in_stages(network, LIKE, 3, 0)
    for a, b in zip(whole.parameters(), last.parameters(), strict=True):
        assert torch.equal(a, b), "all that is random is so in the same way"
    (other,) = randomise_in_stages(network, LIKE, 1, 1)
    assert not torch.equal(other[0].weight, whole[0].weight)


def test_a_layer_that_cannot_be_drawn_anew_is_shuffled():
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.arange(40.0))

        def forward(self, x):
            return x.mean((2, 3)) @ self.scale[:3, None].expand(3, 2)

    network = Shuffled()
    (randomised,) = randomise_in_stages(network, LIKE, 1, 0)
    assert not torch.equal(randomised.scale, network.scale)
    assert torch.equal(randomised.scale.sort().values, network.scale)


def alike(similarity: str, a: np.ndarray, b: np.ndarray) -> float:
    if similarity == "ssim":
        return structural_similarity(a / a.max(), b / b.max(), data_range=1)
    return 0 if a.min() == a.max() else stats.spearmanr(a, b, axis=None).statistic


@pytest.mark.parametrize("similarity", ["spearman", "ssim"])
def test_randomisation_by_its_definition(similarity, network, pictures):
    """The mean over the stages, without the network itself, whose similarity is 1."""
    maps = explain(network, pictures, [1, 3])
    metric = cam.metric("randomisation", stages=3, similarity=similarity)
    actual = metric(network, pictures, attribution_of(maps), [1, 3], **OPTIONS)
    values = []
    for forgetful in randomise_in_stages(network, LIKE, 3, 0):
        again = explain(forgetful, pictures, [1, 3])
        row = []
        for a, b in zip(again.numpy(), maps.numpy(), strict=True):
            row.append(alike(similarity, a, b))
        values.append(row)
    expected = torch.tensor(values, dtype=torch.float64).mean(0)
    assert torch.allclose(actual.double(), expected, atol=1e-4)


def test_a_method_that_does_not_look_at_the_parameters_scores_1(pictures):
    pixel, positive = Pixel().eval(), pictures.sigmoid()
    maps = cam.attribute(pixel, positive, "eigencam", 0, layers="layer")["eigencam"].signed
    options = {"method": "eigencam", "layers": "layer"}
    for name in ("randomisation", "smooth_randomisation"):
        actual = cam.metric(name)(pixel, positive, attribution_of(maps), 0, **options)
        assert torch.allclose(actual, torch.ones(2), atol=1e-6), name
    actual = cam.metric("efficient_randomisation")(
        pixel, positive, attribution_of(maps), 0, **options
    )
    assert torch.equal(actual, torch.zeros(2))


@pytest.mark.parametrize("similarity", ["spearman", "ssim"])
def test_smooth_randomisation_compares_means_over_noisy_pictures(similarity, network, pictures):
    maps, spy = explain(network, pictures, [1, 3]), copy.deepcopy(network)
    batches = recording(spy)  # the copies that forget keep the hook, and so write here too
    metric = cam.metric(
        "smooth_randomisation", stages=3, samples=4, noise=0.2, similarity=similarity
    )
    actual = metric(spy, pictures, attribution_of(maps), [1, 3], batch_size=64, **OPTIONS)
    noisy = batches[1].view(2, 4, 3, 20, 16)
    networks = [network]
    expected = []
    for image in range(2):
        row = []
        trained = explain(networks[0], noisy[image], [1, 3][image]).double().mean(0)
        for forgetful in randomise_in_stages(network, LIKE, 3, 0):
            again = explain(forgetful, noisy[image], [1, 3][image]).double().mean(0)
            row.append(alike(similarity, again.numpy(), trained.numpy()))
        expected.append(sum(row) / 3)
    assert torch.allclose(actual, torch.tensor(expected, dtype=torch.float32), atol=1e-4)


def test_efficient_randomisation_by_its_definition(network, pictures):
    maps = explain(network, pictures, [1, 3])
    actual = cam.metric("efficient_randomisation")(
        network, pictures, attribution_of(maps), [1, 3], **OPTIONS
    )
    (forgetful,) = randomise_in_stages(network, LIKE, 1, 0)
    after = explain(forgetful, pictures, [1, 3])
    for actual_value, a, b in zip(actual.tolist(), after, maps, strict=True):
        entropies = [
            stats.entropy(np.histogram(values.double().numpy(), bins=100)[0]) for values in (a, b)
        ]
        assert actual_value == pytest.approx(entropies[0] / entropies[1] - 1, abs=1e-3)


def test_entropies_of_histograms_are_numpys():
    maps = torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(0)) ** 2
    for entropy, heatmap in zip(_histogram_entropy(maps, 20), maps, strict=True):
        expected = stats.entropy(np.histogram(heatmap.double().numpy(), bins=20)[0])
        assert entropy.item() == pytest.approx(expected, abs=1e-9)
    assert _histogram_entropy(torch.full((1, 3, 3), 0.2), 20).item() == 0


def test_a_model_that_cannot_be_randomised(pictures):
    class Plain(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    with pytest.raises(cam.MetricError, match="no parameters that could be made random"):
        cam.metric("randomisation")(
            Plain(), pictures, attribution_of(torch.rand(2, 20, 16)), method="saliency"
        )


def test_a_trained_models_maps_depend_on_what_it_learned(bundled, batch):
    """A weak form of Adebayo's finding: a map is not kept when the last layers are gone."""
    maps = cam.attribute(bundled, batch[:1], "saliency")["saliency"].signed
    actual = cam.metric("randomisation", stages=2)(
        bundled, batch[:1], attribution_of(maps), method="saliency"
    )
    assert actual.item() < 0.8
