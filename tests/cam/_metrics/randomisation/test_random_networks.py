"""Random networks stay alive and in order; dead maps are no pass."""

import copy

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import cam
from cam._metrics.randomisation.random_networks import (
    draw_pictures,
    randomise_in_stages,
)

SIZE = (2, 3, 24, 20)


class Deep(nn.Sequential):
    """Twenty convolutions with batch norms: PyTorch's initialisation alone kills it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1)]
        for _ in range(19):
            layers += [nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
        super().__init__(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        # Statistics of "training": those of the pictures themselves.
        self.train()
        for _ in range(60):
            self(torch.randn(SIZE))
        self.eval()


@pytest.fixture(scope="module")
def deep() -> Deep:
    return Deep()


@pytest.fixture
def pictures() -> torch.Tensor:
    rough = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(rough, SIZE[2:], mode="bilinear")


@pytest.mark.parametrize(
    ("order", "changes"),
    [
        ("top_down", [{"6", "4"}, {"6", "4", "3"}, {"6", "4", "3", "1", "0"}]),
        ("bottom_up", [{"0", "1"}, {"0", "1", "3"}, {"0", "1", "3", "4", "6"}]),
        ("independent", [{"6", "4"}, {"3"}, {"1", "0"}]),
    ],
)
def test_each_order_forgets_its_layers_and_no_others(order, changes):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(4 * 20 * 16, 2),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5)
    before = copy.deepcopy(network.state_dict())
    changed = []
    for random in randomise_in_stages(network, torch.zeros(SIZE), 3, 0, order):
        weights = dict(random.named_parameters())
        changed.append({name[0] for name in weights if not weights[name].equal(before[name])})
    assert changed == changes
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_batch_norms_are_set_on_what_they_receive_now(deep):
    """All random: a batch norm without a trained scale gives mean 0 and variance 1."""
    (random,) = randomise_in_stages(deep, torch.zeros(SIZE), 1, 0)
    outputs = []
    for layer in random:
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output))
    with torch.no_grad():
        random(draw_pictures(torch.zeros(SIZE)))
    assert len(outputs) == 19
    for output in outputs:
        assert output.mean((0, 2, 3)).abs().max() < 1e-3
        assert (output.var((0, 2, 3), correction=0) - 1).abs().max() < 1e-2


def test_random_layers_have_the_trained_spread(deep):
    noise = draw_pictures(torch.zeros(SIZE))
    spreads = []
    for network in (deep, *randomise_in_stages(deep, noise, 1, 0)):
        with torch.no_grad():
            spreads.append(network(noise).std(correction=0).item())
    assert spreads[1] == pytest.approx(spreads[0], rel=1e-3)


def test_what_comes_before_the_random_layers_is_as_trained(deep):
    first, *_ = randomise_in_stages(deep, torch.zeros(SIZE), 10, 0)
    state = first.state_dict()
    equal = [torch.equal(value, state[name]) for name, value in deep.state_dict().items()]
    # Four of forty layers are random; a convolution has 2 entries, a batch norm 5.
    assert equal.index(False) > 0.85 * len(equal)
    assert not any(equal[equal.index(False) + 7 :])


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
def test_deep_networks_stay_alive(order, deep, pictures):
    """Without it the gradients of this network are all 0 or a trillionth of the trained one's."""
    trained = cam.attribute(deep, pictures, "saliency", 0)["saliency"].signed
    for random in randomise_in_stages(deep, pictures, 4, 0, order):
        maps = cam.attribute(random, pictures, "saliency", 0)["saliency"].signed
        ratio = maps.flatten(1).std(1) / trained.flatten(1).std(1)
        assert ratio.min() > 1e-3
        logits = random(pictures)
        assert (logits[0] - logits[1]).abs().max() > 1e-3 * logits.abs().max()


def test_gradcam_of_the_bundled_model_stays_alive(bundled, batch):
    """The review's case: raw maps of at most 6e-11 when all is random, half of them zero."""
    trained = cam.attribute(bundled, batch[:2], "gradcam")["gradcam"]
    targets = trained.targets
    for random in randomise_in_stages(bundled.module, batch, 2, 0):
        result = cam.attribute(random, batch[:2], "gradcam", targets, trained.layers)["gradcam"]
        reach = result.raw.flatten(1).std(1) / trained.raw.flatten(1).std(1)
        assert reach.min() > 1e-4


class Dying(nn.Conv2d):
    """What it learned it cannot learn anew: all that passes it is gone."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def dying() -> nn.Sequential:
    torch.manual_seed(2)
    layer = Dying(4, 4, 3, padding=1)
    nn.init.normal_(layer.weight)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), layer, nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1),
        nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip


def test_a_dead_network_is_no_pass(pictures):
    """Its maps are zeros, unlike any map: counted as 0 they would pass every method."""
    network = dying()
    result = cam.attribute(network, pictures, "saliency", 0)["saliency"]
    for name, reason in (
        ("randomisation", "2 of 3 maps of the random networks are the same everywhere"),
        ("smooth_randomisation", "2 of 3 maps of the random networks are the same everywhere"),
        ("efficient_randomisation", "the map of the random network is the same everywhere"),
    ):
        scores = cam.metric(name).measure(network, pictures, result, 0, method="saliency")
        assert scores.values.isnan().all()
        assert all(text.startswith(reason) for text in scores.reasons), scores.reasons


def test_few_dead_maps_are_left_out_and_told(pictures):
    network = dying()
    result = cam.attribute(network, pictures, "saliency", 0)["saliency"]
    scores = cam.metric("randomisation", order="independent").measure(
        network, pictures, result, 0, method="saliency"
    )
    values = []
    for random in randomise_in_stages(network, pictures, 3, 0, "independent"):
        maps = cam.attribute(random, pictures, "saliency", 0)["saliency"].signed
        if maps.max() > 0:
            values.append(
                [
                    spearmanr(a.flatten(), b.flatten()).statistic
                    for a, b in zip(maps, result.signed, strict=True)
                ]
            )
    assert len(values) == 2
    expected = torch.tensor(values).mean(0)
    assert torch.allclose(scores.values.double(), expected.double(), atol=1e-4)
    assert scores.reasons == (None, None)
    assert all(remark.startswith("1 of 3 maps") for remark in scores.remarks)


def test_pictures_of_noise_are_as_smooth_as_photos_and_in_the_models_colours():
    pictures = draw_pictures(torch.zeros(1, 3, 64, 64))
    assert torch.equal(pictures, draw_pictures(torch.ones(5, 3, 64, 64)))
    assert pictures.mean((2, 3)).abs().max() < 1e-5
    assert pictures.var((2, 3), correction=0).allclose(torch.ones(8, 3), atol=1e-4)
    # Neighbours are alike, as 1/f makes them.
    alike = (pictures[..., 1:] * pictures[..., :-1]).mean()
    assert alike > 0.7
    mean, deviation = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    coloured = draw_pictures(torch.zeros(1, 3, 64, 64), (mean, deviation))
    levels = coloured * torch.tensor(deviation).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    assert levels.mean() == pytest.approx(0.45, abs=1e-4)
    assert levels.std((2, 3)).mean() == pytest.approx(0.225, abs=1e-3)
