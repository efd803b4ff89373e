"""Agreement with Quantus 0.6 where it is right, and the differences."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import cam

quantus = pytest.importorskip("quantus")
QUIET = {"disable_warnings": True, "display_progressbar": False, "abs": False, "normalise": False}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def network(channels: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3)
    return nn.Sequential(*layers).eval()


HIDING = {"features_in_step": 8, "perturb_baseline": 0.0, **QUIET}
GREY, COLOUR = network(1), network(3)
PICTURES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
MAPS = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(2))
CLASSES = torch.tensor([0, 1, 2])
MASKS = torch.zeros(3, 8, 8, dtype=torch.bool)
MASKS[0, 1:5, 2:7] = MASKS[1, 6:, :3] = MASKS[2, 4, 4] = True


def theirs(metric, model=GREY, pictures=PICTURES, maps=MAPS, masks=MASKS, **options) -> list:
    return metric(
        model=model,
        x_batch=pictures.numpy(),
        y_batch=CLASSES[: len(pictures)].numpy(),
        a_batch=maps[:, None].numpy(),
        s_batch=masks[:, None].numpy(),
        device="cpu",
        **options,
    )


def ours(name, masks=MASKS, maps=MAPS, **parameters) -> torch.Tensor:
    return cam.metric(name, **parameters)(GREY, PICTURES, maps, CLASSES, masks)


@pytest.mark.parametrize(
    ("name", "metric", "parameters"),
    [
        ("sparseness", lambda: quantus.Sparseness(**QUIET), {}),
        ("complexity", lambda: quantus.Complexity(**QUIET), {}),
        ("energy_pointing_game", lambda: quantus.RelevanceMassAccuracy(**QUIET), {}),
        ("relevance_rank", lambda: quantus.RelevanceRankAccuracy(**QUIET), {}),
        ("top_k_intersection", lambda: quantus.TopKIntersection(k=7, **QUIET), {"k": 7}),
        ("pointing_game", lambda: quantus.PointingGame(**QUIET), {"tolerance": 0}),
        (
            "faithfulness_estimate",
            lambda: quantus.FaithfulnessEstimate(**HIDING),
            {"steps": 8, "baseline": 0.0},
        ),
        (
            "monotonicity_correlation",
            lambda: quantus.MonotonicityCorrelation(nr_samples=1, **HIDING),
            {"steps": 8, "samples": 1, "baseline": 0.0},
        ),
    ],
)
def test_agrees(name, metric, parameters):
    expected = torch.tensor(np.asarray(theirs(metric(), softmax=True), dtype=np.float32))
    assert torch.allclose(ours(name, **parameters), expected, atol=1e-5)


def test_an_empty_mask_is_no_hit():
    empty = MASKS.clone()
    empty[0] = False
    assert theirs(quantus.PointingGame(**QUIET), masks=empty)[0] == 1
    assert ours("pointing_game", empty)[0].isnan()


def test_the_area_under_pixel_flipping_has_the_whole_picture_in_it(monkeypatch):
    # NumPy 2 has another name for what Quantus calls.
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    flipping = {"features_in_step": 8, "perturb_baseline": 0.0, **QUIET}
    curves = np.asarray(theirs(quantus.PixelFlipping(**flipping), softmax=True))  # (3, 8)
    with torch.no_grad():
        whole = GREY(PICTURES).softmax(1).gather(1, CLASSES[:, None]).numpy()
    complete = np.concatenate([whole, curves], 1)
    expected = (complete.sum(1) - (complete[:, 0] + complete[:, -1]) / 2) / 8
    actual = ours("deletion", steps=8)
    assert np.allclose(actual.numpy(), expected, atol=1e-5)
    area = np.asarray(
        theirs(quantus.PixelFlipping(**flipping, return_auc_per_sample=True), softmax=True)
    )
    # Seven steps wide, and not eight: without the first, which falls most for a good map.
    assert np.allclose(area, curves.sum(1) - (curves[:, 0] + curves[:, -1]) / 2, atol=1e-5)
    assert not np.allclose(area / 8, expected, atol=1e-3)


def test_road_takes_pictures_with_colours_and_every_batch():
    metric = quantus.ROAD(percentages=[50], **QUIET)
    colours = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    with pytest.raises(IndexError):
        theirs(metric, COLOUR, colours)
    assert cam.metric("road")(COLOUR, colours, MAPS, CLASSES).isfinite().all()
    # And of several batches theirs gives the first one's score.
    first = theirs(quantus.ROAD(percentages=[50], noise=0, **QUIET), batch_size=1)
    alone = theirs(
        quantus.ROAD(percentages=[50], noise=0, **QUIET), pictures=PICTURES[:1], maps=MAPS[:1],
        masks=MASKS[:1], batch_size=1,
    )  # fmt: skip
    assert first == alone
    assert len(ours("road")) == 3


def gradient(model, inputs, targets, **_) -> np.ndarray:
    pixels = torch.tensor(inputs, dtype=torch.float32, requires_grad=True)
    score = model(pixels).gather(1, torch.as_tensor(targets).long()[:, None]).sum()
    return torch.autograd.grad(score, pixels)[0].numpy()


def test_their_mean_over_random_networks_has_the_one_in_it_that_is_not_random():
    # Ours, by its definition and without it, is in test_robustness.py.
    options = {
        "model": GREY,
        "x_batch": PICTURES.numpy(),
        "y_batch": CLASSES.numpy(),
        "explain_func": gradient,
        "explain_func_kwargs": {},
    }
    stages = quantus.MPRT(**QUIET)(**options)
    mean = quantus.MPRT(return_average_correlation=True, **QUIET)(**options)
    table = np.array(list(stages.values()))  # (1 + layers, 3)
    assert np.allclose(table[0], 1) and len(table) == 3
    assert np.allclose(mean, table.mean(0)), "the network itself is in it"


def test_a_map_is_not_scaled_by_its_neighbours():
    pair = np.stack([MAPS[0].numpy(), 10 * MAPS[1].numpy()])
    scaled = quantus.normalise_func.normalise_by_max(pair)
    assert scaled[0].max() < 0.2, "their default divides by the largest of the batch"
    both = torch.from_numpy(pair)
    drop = cam.metric("average_drop")
    together = drop(GREY, PICTURES[:2], both, CLASSES[:2])
    assert torch.allclose(together[:1], drop(GREY, PICTURES[:1], both[:1], CLASSES[:1]), atol=1e-6)


def test_effective_complexity_is_their_count_as_a_share():
    scaled = MAPS / MAPS.amax((1, 2), keepdim=True)
    counts = theirs(quantus.EffectiveComplexity(eps=0.3, **QUIET), maps=scaled)
    expected = torch.tensor(counts).float() / 64
    assert torch.allclose(ours("effective_complexity", epsilon=0.3), expected)
    assert expected.min() > 0.2 and expected.max() < 0.9


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_region_perturbation_is_the_mean_of_their_falls_and_of_none(order):
    metric = quantus.RegionPerturbation(
        patch_size=2, regions_evaluation=5, order=order, perturb_baseline=0.0, **QUIET
    )
    falls = np.asarray(theirs(metric, softmax=True))  # (3, 5), without the whole picture
    assert falls.shape == (3, 5)
    actual = ours("region_perturbation", size=2, regions=5, order=order, baseline=0.0)
    assert np.allclose(actual.numpy(), falls.sum(1) / 6, atol=1e-5)


def test_their_monotonicity_never_shows_the_picture():
    """They hide pixels of a blank picture: every map passes, ours compares what comes into view."""
    for maps in (MAPS, 1 - MAPS, 1 / MAPS):
        assert all(theirs(quantus.Monotonicity(**HIDING), maps=maps, softmax=True))
    assert ours("monotonicity", steps=8).min() == 0


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("relative_input_stability", quantus.RelativeInputStability),
        ("relative_output_stability", quantus.RelativeOutputStability),
        ("relative_representation_stability", quantus.RelativeRepresentationStability),
    ],
)
def test_relative_stability_is_their_objective_of_the_same_pictures(name, metric):
    """Their noise is drawn elsewhere, so the objective is theirs, and the largest is taken here."""
    model = nn.Sequential(*GREY)
    pictures = PICTURES + 2
    result = cam.attribute(model, pictures, "input_x_gradient", CLASSES)["input_x_gradient"]
    batches: list[torch.Tensor] = []
    handle = model[0].register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].clone()))
    actual = cam.metric(name, samples=3, noise=0.02)(
        model, pictures, result, CLASSES, method="input_x_gradient", batch_size=64
    )
    handle.remove()
    tried = next(batch for batch in batches if len(batch) == 9).detach().view(3, 3, 1, 8, 8)

    def run(x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            return model(x).numpy(), model[:3](x).numpy()

    objective = getattr(metric(**QUIET), f"{name}_objective")
    values = []
    for step in range(3):
        changed = tried[:, step]
        maps = [
            cam.attribute(model, x, "input_x_gradient", CLASSES)["input_x_gradient"].signed
            for x in (pictures, changed)
        ]
        explained = [each[:, None].double().numpy() for each in maps]
        (logits, inside), (new_logits, new_inside) = run(pictures), run(changed)
        same = logits.argmax(1) == new_logits.argmax(1)
        below = {
            "relative_input_stability": (
                pictures.double().numpy().copy(),
                changed.double().numpy().copy(),
            ),
            "relative_output_stability": (logits, new_logits),
            "relative_representation_stability": (inside.copy(), new_inside.copy()),
        }[name]
        values.append(np.where(same, objective(*below, *explained), -1))
    expected = np.stack(values).max(0)
    assert (expected > 0).all()
    assert np.allclose(actual.numpy(), expected, rtol=1e-3)


def test_local_lipschitz_is_their_constant_of_the_same_pictures():
    model = nn.Sequential(*GREY)
    result = cam.attribute(model, PICTURES, "saliency", CLASSES)["saliency"]
    batches: list[torch.Tensor] = []
    handle = model[0].register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].clone()))
    actual = cam.metric("local_lipschitz", samples=4, noise=0.2)(
        model, PICTURES, result, CLASSES, method="saliency", batch_size=64
    )
    handle.remove()
    tried = next(batch for batch in batches if len(batch) == 12).detach().view(3, 4, 1, 8, 8)
    scale = quantus.normalise_func.normalise_by_max
    values = []
    for step in range(4):
        again = cam.attribute(model, tried[:, step], "saliency", CLASSES)["saliency"].signed
        # One map at a time, as theirs are scaled by the largest of a batch.
        a, b = (
            np.concatenate([scale(each[None].numpy()) for each in maps]).reshape(3, -1)
            for maps in (result.signed, again)
        )
        values.append(
            quantus.similarity_func.lipschitz_constant(
                a,
                b,
                PICTURES.numpy().reshape(3, -1),
                tried[:, step].numpy().reshape(3, -1),
                norm_numerator=quantus.similarity_func.distance_euclidean,
                norm_denominator=quantus.similarity_func.distance_euclidean,
            )
        )
    assert np.allclose(actual.numpy(), np.stack(values).max(0), rtol=1e-4)
