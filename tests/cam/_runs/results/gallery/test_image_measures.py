"""Check the measures of images against hand-computed cases and scipy."""

import math

import numpy as np
import pytest
from scipy.stats import entropy, spearmanr

import cam
from cam._runs.results.gallery.image_measures import (
    correlate_ranks,
    measure_border,
    measure_entropy,
)


def test_evidence_on_the_border_of_maps_of_eight():
    maps = np.zeros((4, 8, 8), np.uint8)
    maps[0, 0, 0] = 255  # a corner
    maps[1, 4, 4] = 7  # the middle
    maps[2] = 3  # even: the ring has 64 - 36 of 64 pixels
    border = measure_border(maps)
    assert border[:3] == pytest.approx([1, 0, 28 / 64])
    assert math.isnan(border[3])


def test_entropy_is_that_of_scipy():
    maps = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    maps[1] = 9
    maps[2] = 0
    maps[2, 1, 1] = 200
    truth = [entropy(map_.ravel() / map_.sum()) / math.log(64) for map_ in maps]
    assert measure_entropy(maps) == pytest.approx(truth)
    assert measure_entropy(maps)[1:] == pytest.approx([1, 0])
    assert math.isnan(measure_entropy(np.zeros((1, 8, 8)))[0])


def test_agreement_is_the_mean_of_each_two_methods_correlations():
    maps = np.random.default_rng(1).integers(0, 9, (3, 2, 6, 6))
    pairs = ((0, 1), (0, 2), (1, 2))
    truth = [
        np.mean([spearmanr(maps[a, image].ravel(), maps[b, image].ravel())[0] for a, b in pairs])
        for image in range(2)
    ]
    assert correlate_ranks(maps) == pytest.approx(truth)
    assert np.isnan(correlate_ranks(maps[:1])).all()
    maps[1, 0] = 4
    assert np.isnan(correlate_ranks(maps)).tolist() == [True, False]


def test_of_a_run():
    run = cam.example_run()
    table = run.image_measures("integrated_gradients").set_index("item")
    facts = run.image(5)
    evidence = facts.heatmaps["integrated_gradients"].clip(min=0)
    ring = np.ones(evidence.shape, bool)
    ring[8:-8, 8:-8] = False
    assert table.loc[5, "border"] == pytest.approx(evidence[ring].sum() / evidence.sum(), abs=0.01)
    assert table.loc[5, "error"] == pytest.approx(1 - facts.facts["probability"], abs=1e-6)
    assert table["disagreement"].between(0, 2).all() and len(table) == 64
    with pytest.raises(cam.RunError, match="no method 'x'"):
        run.image_measures("x")


def test_of_some_images_only():
    run = cam.example_run()
    some = run.only(items=[9, 3]).image_measures("gradcam")
    every = run.image_measures("gradcam").set_index("item")
    assert some["item"].tolist() == [3, 9]
    assert some["disagreement"].tolist() == pytest.approx(
        every.loc[[3, 9], "disagreement"].tolist()
    )
