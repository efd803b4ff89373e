"""Robustness, randomisation and information curves: by hand, at their bounds, against peers."""

import copy
import importlib
import io
import itertools
import math

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from PIL import Image
from scipy import stats
from skimage.metrics import structural_similarity
from torch import nn

import cam
from cam._metrics.base.map_ranking import rank_agreement
from cam._metrics.faithfulness.imputation import impute
from cam._metrics.randomisation.model_randomisation import _histogram_entropy
from cam._metrics.randomisation.random_networks import randomise_in_stages
from tests.support.maps import attribution_of
from tests.support.networks import Weighted


class Layered(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
        self.eval()


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


def test_max_sensitivity_is_captums(network, pictures):
    maps, targets = explain(network, pictures, [1, 3]), torch.tensor([1, 3])
    spy = copy.deepcopy(network)
    batches = recording(spy)
    metric = cam.metric("max_sensitivity", radius=0.1, samples=4)
    actual = metric(spy, pictures, attribution_of(maps), targets, batch_size=64, **OPTIONS)
    tried = batches[1].view(2, 4, 3, 20, 16)
    change = tried - pictures[:, None]
    assert 0.099 < change.abs().max() <= 0.1 + 1e-6
    assert change.mean().abs() < 0.01 and not torch.equal(tried[:, 0], tried[:, 1])
    expected = sensitivity_max(
        lambda x, target: (explain(network, x[0] if isinstance(x, tuple) else x, target),),
        pictures,
        lambda x, radius: tried.flatten(0, 1),
        perturb_radius=0.1,
        n_perturb_samples=4,
        target=targets,
    )
    assert actual.min() > 0.001
    assert torch.allclose(actual, expected, rtol=1e-4)


def test_what_does_not_depend_on_the_picture_has_no_sensitivity(network, pictures):
    """RandomCAM would: the map here is the same whatever the picture, a Gaussian in the middle."""
    still = Still().eval()
    maps = cam.attribute(still, pictures, "eigencam", 0, layers="layer")["eigencam"].signed
    options = {"method": "eigencam", "layers": "layer"}
    assert (
        cam.metric("max_sensitivity")(still, pictures, attribution_of(maps), 0, **options).max()
        == 0
    )
    noise = cam.metric("stability_noise")(still, pictures, attribution_of(maps), 0, **options)
    assert torch.allclose(noise, torch.ones(2))
    # But it does not go along with the picture.
    shift = cam.metric("stability_shift", pixels=4)(
        still, pictures, attribution_of(maps), 0, **options
    )
    assert shift.max() < 0.9


class Still(nn.Module):
    """A layer with one map, off the middle, whatever comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        rows, columns = torch.arange(20.0)[:, None] - 6, torch.arange(16.0) - 5
        bump = torch.exp(-(rows**2 + columns**2) / 40)
        maps = self.layer(bump.expand(len(x), 1, -1, -1) + 0 * x[:, :1])
        return maps.mean((2, 3)) * self.weight


class Pixel(nn.Module):
    """A layer that shows the picture's brightness: its map goes along with whatever moves."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.layer(x.sum(1, keepdim=True)).mean((2, 3)) * self.weight


def test_a_map_that_goes_along_is_stable(pictures):
    pixel, options = Pixel().eval(), {"method": "eigencam", "layers": "layer"}
    positive = pictures.sigmoid()
    maps = cam.attribute(pixel, positive, "eigencam", 0, layers="layer")["eigencam"].signed
    flip = cam.metric("stability_flip")(pixel, positive, attribution_of(maps), 0, **options)
    assert torch.allclose(flip, torch.ones(2), atol=1e-6)
    shift = cam.metric("stability_shift", pixels=3)(
        pixel, positive, attribution_of(maps), 0, **options
    )
    # EigenCAM cuts at the mean of the picture, which the mirrored edge changes a little.
    assert shift.min() > 0.95
    assert (
        cam.metric("stability_flip")(pixel, positive, attribution_of(1 - maps), 0, **options).max()
        < -0.8
    )


def test_stability_by_its_definition(network, pictures):
    """Each changed picture explained alone, and compared by scipy."""
    maps, targets = explain(network, pictures, [1, 3]), [1, 3]

    def correlation(a, b) -> float:
        return stats.spearmanr(a.flatten().numpy(), b.flatten().numpy()).statistic

    flipped = explain(network, pictures.flip(3), targets).flip(2)
    actual = cam.metric("stability_flip")(
        network, pictures, attribution_of(maps), targets, **OPTIONS
    )
    for correlation_value, a, b in zip(actual.tolist(), flipped, maps, strict=True):
        assert correlation_value == pytest.approx(correlation(a, b), abs=1e-4)
    wide = nn.functional.pad(pictures, (3, 3, 3, 3), mode="reflect")
    actual = cam.metric("stability_shift", pixels=3)(
        network, pictures, attribution_of(maps), targets, **OPTIONS
    )
    left = explain(network, wide[:, :, 3:23, 0:16], targets)  # what was at x is at x + 3
    right = explain(network, wide[:, :, 3:23, 6:22], targets)
    up = explain(network, wide[:, :, 0:20, 3:19], targets)
    down = explain(network, wide[:, :, 6:26, 3:19], targets)
    for image in range(2):
        m = maps[image]
        expected = [
            correlation(left[image][:, 3:], m[:, :-3]),
            correlation(right[image][:, :-3], m[:, 3:]),
            correlation(up[image][3:], m[:-3]),
            correlation(down[image][:-3], m[3:]),
        ]
        assert actual[image].item() == pytest.approx(sum(expected) / 4, abs=1e-4)


def test_stability_under_noise_of_that_size(network, pictures):
    maps, spy = explain(network, pictures, [1, 3]), copy.deepcopy(network)
    batches = recording(spy)
    metric = cam.metric("stability_noise", noise=0.2, samples=3)
    actual = metric(spy, pictures, attribution_of(maps), [1, 3], batch_size=64, **OPTIONS)
    noisy = batches[1].view(2, 3, 3, 20, 16)
    for image in range(2):
        spread = pictures[image].max() - pictures[image].min()
        change = (noisy[image] - pictures[image]) / spread
        assert change.std().item() == pytest.approx(0.2, rel=0.05)
        again = explain(network, noisy[image], [1, 3][image])
        values = [
            stats.spearmanr(again_map.flatten().numpy(), maps[image].flatten().numpy()).statistic
            for again_map in again
        ]
        assert actual[image].item() == pytest.approx(sum(values) / 3, abs=1e-4)


@pytest.mark.parametrize(
    "name", ["stability_flip", "stability_noise", "randomisation", "efficient_randomisation"]
)
def test_a_heatmap_without_an_order_has_a_reason(name, network, pictures):
    scores = cam.metric(name).measure(
        network, pictures, attribution_of(torch.zeros(2, 20, 16)), **OPTIONS
    )
    assert scores.values.isnan().all()
    assert all("the same everywhere" in reason for reason in scores.reasons)


def test_another_map_that_is_the_same_everywhere_agrees_in_nothing():
    reference = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    maps = reference.clone()
    maps[1], maps[2, 0, 0] = 0.3, torch.nan
    assert torch.allclose(
        rank_agreement(maps, reference), torch.tensor([1, 0, torch.nan]).double(), equal_nan=True
    )


# Randomisation.


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


# Information curves.


def textured(seed: int) -> torch.Tensor:
    """A picture (1, 3, 24, 24) in [0, 1], an object in noise."""
    picture = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) * 0.3
    picture[:, :, 6:14, 6:14] += 0.7
    return picture


def object_network() -> Weighted:
    weights = torch.zeros(24, 24)
    weights[6:14, 6:14] = 1 / 64
    return Weighted(weights)


def size_of(pixels: np.ndarray) -> int:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="webp", lossless=True, method=0)
    return len(file.getvalue())


@pytest.mark.parametrize("name", ["sic", "aic"])
def test_information_curves_by_their_definition(name):
    """Each blurred picture weighed and tried alone, and the area taken by hand."""
    picture, batches = textured(0), []
    network = object_network()
    heat = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(1))
    heat[:, 6:14, 6:14] += 0.4

    class Keeping(nn.Module):
        def forward(self, x):
            batches.append(x.clone())
            return network(x)

    model = cam.Model(Keeping(), transform=Plain())
    options = {"shares": (0.05, 0.1, 0.2, 0.5)} | ({"sure": 0.5} if name == "sic" else {})
    scores = cam.metric(name, **options).measure(model, picture, heat, 0, batch_size=64)
    assert scores.reasons == (None,)
    blurred = batches[1]
    sharp = (blurred == picture).all(1).flatten(1).sum(1).tolist()
    assert sharp[0] < 0.02 * 576 and sharp == sorted(sharp) and sharp[4] >= 288
    corners = (slice(None), slice(None), [0, 0, -1, -1], [0, -1, 0, -1])
    assert torch.equal(blurred[corners], picture[corners].expand(5, -1, -1))

    def both(sharpened) -> tuple[int, float]:
        p = network(sharpened[None]).softmax(1)[0, 0].item()
        pixels = (sharpened.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
        return size_of(pixels), p if name == "sic" else float(p > 0.5)

    with torch.no_grad():
        least, *between, full = [both(sharpened) for sharpened in [*blurred, picture[0]]]
    points, highest = [(0.0, 0.0)], 0.0
    for size, p in between:
        x = (size - least[0]) / (full[0] - least[0])
        y = (p - least[1]) / (full[1] - least[1])
        highest = max(highest, min(max(y, 0), 1))
        points.append((min(max(x, 0), 1), highest))
    points = [*sorted(points, key=lambda point: point[0]), (1.0, 1.0)]
    area = sum((d - a) * (b + e) / 2 for (a, b), (d, e) in itertools.pairwise(points))
    assert 0.2 < area < 1
    assert scores.values.item() == pytest.approx(area, abs=1e-4)


def test_a_curve_whose_sizes_do_not_grow_is_put_in_order(monkeypatch):
    """10 bytes when blurred, 80 and then 40 in between, 100 whole: at 7/9, and then at 1/3."""
    information = importlib.import_module("cam._metrics.faithfulness.information_curves")
    sizes = iter([[10, 80, 40], [100]])
    monkeypatch.setattr(information, "_compressed_sizes", lambda *_: next(sizes))
    batches, network, picture = [], object_network(), textured(6)

    class Keeping(nn.Module):
        def forward(self, x):
            batches.append(x.clone())
            return network(x)

    heat = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(7))
    actual = cam.metric("sic", shares=(0.2, 0.6), sure=0.5)(Keeping(), picture, heat, 0)
    with torch.no_grad():
        nothing, first, second = network(batches[1]).softmax(1)[:, 0].tolist()
        whole = network(picture).softmax(1)[0, 0].item()
    first, second = ((p - nothing) / (whole - nothing) for p in (first, second))
    assert 0 < first < second < 1
    area = second / 2 / 3 + (second + first) / 2 * 4 / 9 + (first + 1) / 2 * 2 / 9
    assert actual.item() == pytest.approx(area, abs=1e-4)


class Plain:
    """A transform without normalisation."""

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __call__(self, image):
        raise AssertionError("nothing is transformed here")


def test_sic_is_its_authors_but_for_how_pictures_are_filled_in_and_packed(monkeypatch):
    """PAIR saliency's own program, given this one's imputation and encoder."""
    from saliency.metrics import pic

    picture, network = textured(4), object_network()
    heat = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(5))
    heat[:, 6:14, 6:14] += 0.3
    pixels = (picture[0] * 255).round().byte().movedim(0, -1).numpy()
    picture = torch.from_numpy(pixels).movedim(-1, 0)[None].float() / 255
    # The pixels that are sharp from the beginning, as they reach the model.
    batches = []

    class Keeping(nn.Module):
        def forward(self, x):
            batches.append(x.clone())
            return network(x)

    # Shares of which either way of counting makes the same number of pixels.
    shares = tuple((count - 0.3) / 575 for count in (20, 50, 90, 200, 400))
    model = cam.Model(Keeping(), transform=Plain())
    actual = cam.metric("sic", shares=shares, sure=0.5)(model, picture, heat, 0, batch_size=64)

    def filled(full_img, pixel_mask, method="linear"):
        image = torch.from_numpy(full_img).movedim(-1, 0)[None].float()
        return impute(image, torch.from_numpy(~pixel_mask)[None], 1e-3)[0].round().byte().movedim(
            0, -1
        ).numpy()  # fmt: skip

    def probability(images):
        with torch.no_grad():
            logits = network(torch.from_numpy(images).movedim(-1, 1).float() / 255)
        return logits.softmax(1)[:, 0].numpy()

    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    monkeypatch.setattr(pic, "create_blurred_image", filled)
    monkeypatch.setattr(pic, "estimate_image_entropy", size_of)
    start = (batches[1][0] == picture[0]).all(0).numpy()
    expected = pic.compute_pic_metric(
        pixels, heat[0].numpy(), start, probability, shares, min_pred_value=0.5
    )
    assert 0.4 < expected.auc < 0.95
    # They round to 8 bits what the model sees, and take a thousand points of the curve.
    assert actual.item() == pytest.approx(expected.auc, abs=0.01)


@pytest.mark.parametrize("name", ["sic", "aic"])
def test_the_object_first_is_better_than_last(name):
    picture = textured(2).expand(2, -1, -1, -1)
    mask = torch.zeros(24, 24)
    mask[6:14, 6:14] = 1
    rough = 0.1 * torch.rand(24, 24, generator=torch.Generator().manual_seed(0))
    maps = torch.stack([mask + rough, rough - mask])
    options = {"sure": 0.5} if name == "sic" else {}
    good, bad = cam.metric(name, **options)(object_network(), picture, maps, 0).tolist()
    assert good > 0.7 and bad < 0.3


def test_skipped_pictures_say_why():
    picture = textured(3)
    maps = torch.rand(1, 24, 24)
    network = object_network()

    def reasons(name, picture, target, **options) -> tuple:
        return cam.metric(name, **options).measure(network, picture, maps, target).reasons

    assert reasons("sic", picture, 0, sure=0.99) == (
        "the model's score of the picture is below 0.99",
    )
    assert reasons("sic", picture, 1, sure=0)[0] == "the model scores the blurred picture as high"
    flat = torch.full((1, 3, 24, 24), 0.9)
    assert reasons("sic", flat, 0)[0] == "the blurred picture is not smaller when compressed"
    assert reasons("aic", picture, 1) == ("the target is not the model's top class",)
    assert math.isnan(cam.metric("aic")(network, picture, maps, 1).item())
