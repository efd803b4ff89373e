"""Localisation and complexity: by hand, at their bounds, at chance."""

import math

import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import nn

import cam
from cam._metrics.localisation.object_masks import _dilate, centre_heatmap

NOTHING = nn.Conv2d(3, 2, 1)  # these metrics run no model


def score(name, heatmap, mask=None, **parameters) -> float:
    metric = cam.metric(name, **parameters)
    picture = torch.zeros(1, 3, *heatmap.shape)
    return metric(
        NOTHING, picture, heatmap[None], None, None if mask is None else mask[None]
    ).item()


HEAT = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
TOP = torch.tensor([[True, True], [False, False]])
LEFT = torch.tensor([[True, False], [True, False]])


def test_by_hand():
    assert score("energy_pointing_game", HEAT, TOP) == pytest.approx(0.7)
    assert score("energy_pointing_game", HEAT, LEFT) == pytest.approx(0.6)
    assert score("grid_pointing_game", HEAT, LEFT) == pytest.approx(0.6)
    assert score("relevance_rank", HEAT, TOP) == 1
    assert score("relevance_rank", HEAT, LEFT) == 0.5
    assert score("top_k_intersection", HEAT, LEFT, k=3) == pytest.approx(2 / 3)
    assert score("top_k_intersection", HEAT, TOP, k=1) == 1
    assert score("pointing_game", HEAT, LEFT, tolerance=0) == 1
    assert score("pointing_game", HEAT, ~TOP, tolerance=0) == 0
    assert score("pointing_game", HEAT, ~TOP, tolerance=1) == 1


def test_negative_values_count_as_nothing():
    signed = torch.tensor([[0.4, -0.3], [0.1, -0.1]])
    assert score("energy_pointing_game", signed, TOP) == pytest.approx(0.8)
    assert score("grid_pointing_game", signed, TOP) == pytest.approx(0.8)


def test_a_point_at_15_pixels_hits_and_one_at_16_misses():
    mask = torch.zeros(60, 60, dtype=torch.bool)
    mask[30, 30] = True
    for at, hits in (((30, 45), 1), ((30, 46), 0), ((39, 42), 1), ((40, 42), 0), ((15, 30), 1)):
        heat = torch.zeros(60, 60)
        heat[at] = 1
        assert score("pointing_game", heat, mask) == hits, at


@pytest.mark.parametrize("shape", [(40, 30), (9, 50), (1, 7)])
@pytest.mark.parametrize("radius", [0, 1, 4, 15])
def test_what_the_disc_reaches_is_what_is_that_near(shape, radius):
    masks = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0)) > 0.99
    masks[:3, shape[0] // 2, shape[1] // 3] = True
    for mask, grown in zip(masks, _dilate(masks, radius), strict=True):
        if mask.any():
            near = distance_transform_edt(~mask.numpy()) <= radius
            assert torch.equal(grown, torch.from_numpy(near))
        else:
            assert not grown.any()


def test_where_several_pixels_are_highest_it_is_the_share_that_hits():
    even = torch.ones(4, 4)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 0] = True
    assert score("pointing_game", even, mask, tolerance=0) == 1 / 16
    assert score("pointing_game", even, mask, tolerance=1) == 3 / 16


LOCALISING = [name for name, info in cam.metrics().items() if info.needs_masks]


@pytest.mark.parametrize("name", LOCALISING)
def test_perfect_and_adversarial_maps_reach_the_bounds(name):
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[20:50, 5:40] = True  # 1050 pixels
    assert score(name, mask.float(), mask) == 1
    # The further from the object, the more important.
    distance = torch.from_numpy(distance_transform_edt(~mask.numpy())).float()
    assert score(name, distance, mask) == 0


@pytest.mark.parametrize("name", LOCALISING)
def test_an_empty_mask_is_nan_with_its_reason_and_not_a_hit(name):
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[1] = True
    scores = cam.metric(name).measure(
        NOTHING, torch.zeros(2, 3, 64, 64), torch.rand(2, 64, 64), None, masks
    )
    assert scores.values[0].isnan() and scores.values[1] == 1
    assert scores.reasons == ("the mask is empty", None)


@pytest.mark.parametrize("name", ["energy_pointing_game", "grid_pointing_game"])
def test_a_map_of_zeros_finds_nothing(name):
    assert score(name, torch.zeros(2, 2), TOP) == 0


@pytest.mark.parametrize("cells", [2, 3])
def test_random_maps_score_1_in_n_squared_on_the_grid(cells):
    side = 12 * cells
    masks = torch.zeros(200, side, side, dtype=torch.bool)
    generator = torch.Generator().manual_seed(cells)
    for mask, (row, column) in zip(
        masks, torch.randint(cells, (200, 2), generator=generator).tolist(), strict=True
    ):
        mask[12 * row : 12 * row + 12, 12 * column : 12 * column + 12] = True
    maps = torch.rand(200, side, side, generator=generator)
    for name in ("grid_pointing_game", "relevance_rank"):
        values = cam.metric(name)(NOTHING, torch.zeros(200, 3, side, side), maps, None, masks)
        error = values.std().item() / math.sqrt(200)
        assert error < 0.01 and abs(values.mean().item() - 1 / cells**2) < 4 * error, name


def test_ties_go_by_rows_and_columns():
    even = torch.ones(2, 2)
    assert score("relevance_rank", even, TOP) == 1
    assert score("relevance_rank", even, ~TOP) == 0


def test_the_centre_baseline_points_at_the_centre():
    maps = centre_heatmap(torch.zeros(2, 3, 50, 80))
    assert maps.shape == (2, 50, 80) and maps.dtype == torch.float32
    assert maps[0].argmax() == 25 * 80 + 40 and maps.max() == 1 and maps.min() > 0
    middle = torch.zeros(50, 80, dtype=torch.bool)
    middle[25, 40] = True
    assert score("pointing_game", maps[0], middle, tolerance=0) == 1


def test_sparseness_by_hand_even_and_of_one_pixel():
    # 0.1, 0.2, 0.3, 0.4: (-3·0.1 - 0.2 + 0.3 + 3·0.4) / (4·1)
    assert score("sparseness", HEAT) == pytest.approx(0.25)
    assert score("sparseness", -HEAT) == pytest.approx(0.25)
    assert score("sparseness", torch.full((9, 7), 0.3)) == pytest.approx(0, abs=1e-7)
    pixel = torch.zeros(9, 7)
    pixel[3, 3] = 0.2
    assert score("sparseness", pixel) == pytest.approx(1 - 1 / 63)


def test_complexity_by_hand_even_and_of_one_pixel():
    expected = -sum(q * math.log(q) for q in (0.1, 0.2, 0.3, 0.4))
    assert score("complexity", HEAT) == pytest.approx(expected)
    assert score("complexity", -3 * HEAT) == pytest.approx(expected)
    assert score("complexity", torch.full((9, 7), 0.3)) == pytest.approx(math.log(63))
    pixel = torch.zeros(9, 7)
    pixel[3, 3] = 0.2
    assert score("complexity", pixel) == 0


@pytest.mark.parametrize("name", ["sparseness", "complexity"])
def test_scale_does_not_matter_and_zeros_have_no_answer(name):
    maps = torch.rand(9, 7, generator=torch.Generator().manual_seed(0))
    assert score(name, maps * 1e-30) == pytest.approx(score(name, maps), rel=1e-6)
    scores = cam.metric(name).measure(NOTHING, torch.zeros(1, 3, 9, 7), torch.zeros(1, 9, 7))
    assert scores.values.isnan().all() and scores.reasons == ("the map is zero everywhere",)


def test_no_model_is_run():
    class Refusing(nn.Module):
        def forward(self, x):
            raise AssertionError("it ran")

    for name, info in cam.metrics().items():
        if not info.needs_model:
            mask = torch.ones(1, 8, 8, dtype=torch.bool)
            cam.metric(name)(Refusing(), torch.zeros(1, 3, 8, 8), torch.rand(1, 8, 8), None, mask)
