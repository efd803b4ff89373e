"""Estimate a run: passes counted by hand, and nothing left behind."""

import pytest

import cam
from cam._runs.engines.estimate import estimate
from cam._runs.plan.options import RunOptions
from cam._runs.plan.run_plan import make_plan
from tests.support.stand_in import Drop, Inside, network


def test_passes_are_those_counted_by_hand():
    """One forward and backward that both methods share, and two forwards for each map's drop."""
    model = network()
    data = cam.dataset("photo-grid", size=10)
    costs = estimate(make_plan(model, data, ["gradcam", "saliency"], [Inside(), Drop()]))
    assert (costs.images, costs.looked_at) == (10, 10)
    assert (costs.forwards, costs.backwards) == (1 + 2 * 2, 1)
    assert not model.module._forward_hooks
    # A clock around all of it says at least what clocks around its parts say.
    assert 0 < sum(share.seconds for share in costs.shares) <= costs.seconds
    keys = [(share.method, share.metric) for share in costs.shares]
    assert keys == [
        *((method, None) for method in ("gradcam", "saliency")),
        *((method, what) for method in ("gradcam", "saliency") for what in ("inside", "drop")),
    ]


def test_a_metrics_steps_are_passes():
    """Deletion: the whole picture and four steps; the explanation is one pass more."""
    metrics = [cam.metric("deletion", steps=4)]
    plan = make_plan(
        network(),
        cam.dataset("photo-grid", size=10),
        "gradcam",
        metrics,
        RunOptions(shard_size=3),
    )
    costs = estimate(plan)
    assert (costs.forwards, costs.backwards, costs.looked_at) == (1 + 1 + 4, 1, 3)


def test_bytes_are_those_of_the_store(tmp_path):
    data = cam.dataset("photo-grid", size=10)
    options = {"methods": ["gradcam", "saliency"], "metrics": [Drop()]}
    costs = estimate(make_plan(network(), data, **options))
    run = cam.evaluate(network(), data, out=tmp_path / "run", **options)
    truth = sum(path.stat().st_size for path in run.path.rglob("*.parquet"))
    assert costs.stored * 10 == pytest.approx(truth, rel=0.02)


def test_where_no_image_can_be_read_it_is_told():
    class Broken:
        classes = ("a",)

        def __len__(self):
            return 3

        def __getitem__(self, index):
            raise ValueError("gone")

    with pytest.raises(cam.RunError, match=r"none of the first 3 images .* gone"):
        estimate(make_plan(network(), cam.dataset(Broken()), "gradcam", [Drop()],
                           RunOptions(targets="predicted")))  # fmt: skip


def test_what_fails_on_every_image_is_told_and_not_counted():
    """The bundled network has convolutions only, and nothing to read attention of."""
    data = cam.dataset("photo-grid", size=4)
    model = cam.load_model("efficientnet_lite0")
    plan = make_plan(model, data, ["gradcam", "attention_rollout"], [Inside(), Drop()])
    with pytest.raises(cam.RunError, match=r"^attention_rollout failed on each .* self-attention"):
        estimate(plan, 1)


def test_fewer_images_are_enough_and_it_can_be_stopped():
    plan = make_plan(network(), cam.dataset("photo-grid", size=10), "gradcam", [Drop()])
    shares = []
    assert estimate(plan, 3, shares.append).looked_at == 3
    assert sorted(set(shares)) == [0.0, 1 / 4, 1.0] and shares == sorted(shares)
    with pytest.raises(cam.Cancelled):
        estimate(plan, 3, lambda share: share == 0.0)
    assert not plan.model.module._forward_hooks
