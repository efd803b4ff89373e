"""Check where images are placed, against scikit-learn and known groups."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

import cam
from cam._runs.results.gallery.placement import project, spread


def test_the_projection_is_that_of_scikit_learn():
    points = np.random.default_rng(0).normal(size=(30, 7)) * np.arange(1, 8)
    positions, axes = project(points)
    model = PCA(2).fit(points)
    truth = model.transform(points)
    assert np.abs(positions) == pytest.approx(np.abs(truth))
    assert f"({model.explained_variance_ratio_[0]:.0%} of the variance)" in axes[0]
    # Twice the same, and mirrored with the points.
    assert np.array_equal(positions, project(points)[0])


def test_alike_points_have_no_variance():
    positions, axes = project(np.ones((4, 3)))
    assert not positions.any() and "(0% of" in axes[0]


def test_eigenvectors_part_two_groups():
    chance = np.random.default_rng(0)
    points = np.concatenate([chance.normal(centre, 0.1, (12, 3)) for centre in (0, 5)])
    positions, _ = spread(points)
    assert positions.shape == (24, 2)
    first, second = positions[:12], positions[12:]
    inner = np.linalg.norm(first - first.mean(0), axis=1).mean()
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > inner


def test_images_of_one_class_lie_together():
    """The two classes of the network look at stripes along rows, and along columns."""
    placement = cam.example_run().placement("integrated_gradients")
    assert (placement.total, placement.blank, len(placement.items)) == (64, 0, 64)
    assert placement.items["item"].tolist() == list(range(64))


def test_what_cannot_be_placed():
    run = cam.example_run()
    with pytest.raises(cam.RunError, match="2 maps of gradcam are too few"):
        run.only(items=[0, 1]).placement("gradcam")
    with pytest.raises(cam.InputError, match="tsne"):
        run.placement("gradcam", "tsne")
