"""Score-CAM and Ablation-CAM against grad-cam, by hand, on odd networks."""

import pytest
import torch
from pytorch_grad_cam import AblationCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

import cam
import cam._methods.cams.score_cam

NAMES = ["scorecam", "ablationcam"]
PEERS = {"scorecam": ScoreCAM, "ablationcam": AblationCAM}


def conv(*channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(*channels, 3, padding=1), nn.ReLU())


class Chain(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        head = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 5))
        super().__init__(conv(3, 6), nn.MaxPool2d(2), conv(6, 12), *head)
        self.eval()
        # Scores that differ enough between channels, and two maps that are dead.
        self[-1].weight.data *= 3
        self[2][0].bias.data += 0.1
        self[2][0].bias.data[[4, 9]] = -9


class Branch(nn.Module):
    """A layer that something goes past: added in place, or concatenated."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.layer = conv(3, 6), conv(6, 6)
        self.head = nn.Linear(12 if kind == "concatenated" else 6, 5)
        self.kind = kind
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        past = self.first(x)
        maps = self.layer(past)
        if self.kind == "concatenated":
            joined = torch.cat([past, maps], 1)
        elif self.kind == "added to what goes past":
            joined = past
            joined += maps
        elif self.kind == "in the first one's shape":
            return self.head((past + maps).reshape(len(x), 6, -1).mean(2))
        else:
            joined = maps + past
        return self.head(joined.mean((2, 3)))


class Twice(nn.Module):
    """One ReLU that runs twice: what counts is its last run."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, 5)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.second(self.relu(self.first(x)))).mean((2, 3)))


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 20, 14, generator=torch.Generator().manual_seed(1))


def near(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((actual - expected).norm() <= 1e-4 * expected.norm())


def peers(name, network, layer, pictures, targets) -> tuple[torch.Tensor, torch.Tensor]:
    """The peer's heatmap, and its map before ReLU at the layer's size."""
    maps = []
    with PEERS[name](network, [layer]) as peer:
        original = peer.get_cam_image
        peer.get_cam_image = lambda *a, **k: maps.append(original(*a, **k)) or maps[-1]
        heatmap = peer(pictures, [ClassifierOutputTarget(index) for index in targets])
    return torch.from_numpy(heatmap), torch.from_numpy(maps[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", ["0", "2"])
def test_is_grad_cams(name, layer, pictures):
    network = Chain()
    attribution = cam.attribute(
        network, pictures, name, targets=[3, 1], layers=layer, batch_size=5
    )[name]
    heatmap, raw = peers(name, network, network.get_submodule(layer), pictures, [3, 1])
    assert raw.std() > 0.003, "a flat map would agree with anything"
    assert near(attribution.raw, raw)
    assert near(attribution.heatmap, heatmap)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_is_grad_cams_on_a_photo(name, bundled, batch):
    attribution = cam.attribute(bundled, batch[:1], name, targets=281)[name]
    layer = bundled.module.get_submodule(attribution.layers[0])
    heatmap, raw = peers(name, bundled.module, layer, batch[:1], [281])
    assert near(attribution.raw, raw)
    assert near(attribution.heatmap, heatmap)


# What must come out, written plainly: one picture, one channel at a time, in float64.


def plain_scores(network, layer, picture, target, change) -> torch.Tensor:
    """The score for each channel c when the layer's last output A becomes change(A, c)."""
    network, picture = network.double(), picture[None].double()
    outputs, runs = [], 0
    handle = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        network(picture)
    handle.remove()
    last, channels = len(outputs), outputs[-1].shape[1]

    def replaced(channel):
        nonlocal runs
        runs = 0

        def hook(module, inputs, output):
            nonlocal runs
            runs += 1
            return change(output.clone(), channel) if runs == last else None

        handle = layer.register_forward_hook(hook)
        with torch.no_grad():
            score = network(picture)[0, target]
        handle.remove()
        return score

    scores = torch.stack([replaced(channel) for channel in range(channels)])
    network.float()
    return scores


def without(maps: torch.Tensor, channel: int) -> torch.Tensor:
    maps[:, channel] = 0
    return maps


KINDS = ["added", "added to what goes past", "concatenated", "in the first one's shape"]


@pytest.mark.parametrize("kind", [*KINDS, "run twice"])
def test_ablation_is_right_whatever_goes_past_the_layer(kind, pictures):
    network = Twice() if kind == "run twice" else Branch(kind)
    name = "relu" if kind == "run twice" else "layer"
    layer = network.get_submodule(name)
    attributions = cam.attribute(network, pictures, "ablationcam", targets=[3, 1], layers=name)
    outputs = []
    handle = layer.register_forward_hook(
        lambda module, inputs, output: outputs.append(output.clone())
    )
    with torch.no_grad():
        logits = network(pictures)
    handle.remove()
    for image, target in enumerate([3, 1]):
        score = logits[image, target].double()
        scores = plain_scores(network, layer, pictures[image], target, without)
        weights = (score - scores) / score
        expected = torch.einsum("c,chw->hw", weights, outputs[-1][image].double())
        assert near(attributions["ablationcam"].raw[image].double(), expected)


class Sizes(nn.Module):
    """The identity, which writes down how many pictures come by."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        return x


def test_ablation_runs_what_stands_in_front_of_the_layer_once_for_each_picture(pictures):
    front, back = Sizes(), Sizes()
    chain = list(Chain())
    network = nn.Sequential(front, *chain[:3], back, *chain[3:]).eval()
    attributions = cam.attribute(
        network, pictures, "ablationcam", targets=1, layers="3", batch_size=4
    )
    # The shared pass, the first picture, another one whole, and the pair of both the short way;
    # then 12 channels, less the dead two, in batches of 4; then the second picture's.
    assert back.sizes == [2, 1, 1, 2, 4, 4, 2, 1, 4, 4, 2]
    assert front.sizes == [2, 1, 1, 1]
    assert attributions["ablationcam"].cost.forwards == len(back.sizes)


class Bright(nn.Module):
    """Two maps of a picture of one channel: its left half and its right; scores: weighted sums."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1, bias=False)
        self.layer.weight.data = torch.tensor([1.0, -1]).reshape(2, 1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.layer(x)
        return torch.stack(
            [3 * maps[:, 0].sum((1, 2)) + maps[:, 1].sum((1, 2)), x.sum((1, 2, 3))], 1
        )


PICTURE = torch.tensor([[[[1.0, -2], [0, 4]]]])


def test_ablation_by_hand():
    """Score 3·3 - 3 = 6; without x it is -3, without -x it is 9: weights 1.5 and -0.5."""
    attributions = cam.attribute(Bright().eval(), PICTURE, "ablationcam", targets=0, layers="layer")
    # 1.5·x - 0.5·(-x) = 2·x.
    assert torch.allclose(attributions["ablationcam"].raw, 2 * PICTURE[0])


def test_score_cam_by_hand():
    """The masks are (x + 2) / 6 and (4 - x) / 6, at the picture's size already.

    In view are x·(x + 2) / 6 = (3, 0, 0, 24) / 6, sum 4.5, and x·(4 - x) / 6 = (3, -12, 0, 0) / 6,
    sum -1.5. Class 1 is the sum: softmax(4.5, -1.5) = (σ, 1 - σ) with σ = 1 / (1 + e⁻⁶).
    """
    attributions = cam.attribute(Bright().eval(), PICTURE, "scorecam", targets=1, layers="layer")
    weight = 1 / (1 + torch.exp(torch.tensor(-6.0)))
    assert torch.allclose(attributions["scorecam"].raw, (2 * weight - 1) * PICTURE[0], atol=1e-5)


def test_score_cam_runs_constant_maps_once_for_each_picture(pictures):
    front = Sizes()
    network = nn.Sequential(front, *Chain()).eval()
    reports = []
    cam.attribute(network, pictures, "scorecam", layers="3", batch_size=8, progress=reports.append)
    # 10 live channels and one for the dead two, of two pictures.
    assert sum(front.sizes[1:]) == reports[-1].done == reports[-1].total == 22
    assert max(front.sizes) == 8


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_its_images_give_one_by_one(name, pictures):
    network = Chain()
    together = cam.attribute(network, pictures, name, targets=[3, 1], layers="2", batch_size=7)
    for index, target in enumerate([3, 1]):
        single = pictures[index : index + 1]
        alone = cam.attribute(network, single, name, targets=target, layers="2")[name]
        assert near(together[name].raw[index], alone.raw[0])
        assert near(together[name].heatmap[index], alone.heatmap[0])


@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_nan_does_not_change_its_neighbour(name, pictures):
    network, broken = Chain(), pictures.clone()
    broken[0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(network, broken, name, targets=[3, 1], layers="2")[name]
    whole = cam.attribute(network, pictures, name, targets=[3, 1], layers="2")[name]
    assert attribution.raw[0].isnan().all() and near(attribution.raw[1], whole.raw[1])


@pytest.mark.parametrize("name", NAMES)
def test_takes_callables_and_several_layers_and_leaves_nothing_behind(name, pictures):
    network = Chain()
    layers = ["0", "2"]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    named = cam.attribute(network, pictures, name, targets=cam.targets.Logit(2), layers=layers)
    plain = cam.attribute(network, pictures, name, targets=2, layers=layers)
    assert near(named[name].heatmap, plain[name].heatmap)
    assert not any(child._forward_hooks for child in network.modules())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_can_be_cancelled_and_leaves_no_hook(name, pictures):
    network = Chain()
    with pytest.raises(cam.Cancelled, match=name):
        cam.attribute(
            network, pictures, name, layers="2", batch_size=3, progress=lambda p: p.done < 6
        )
    assert not any(child._forward_hooks for child in network.modules())
