"""Race the right contenders with the same maps, until cancelled."""

import copy

import pytest
import torch

import cam
from cam._metrics.base.map_ranking import brightest_overlap
from cam._performance import peers, speed
from cam._performance.timing import Timing


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, stride=2),
        torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 5),
    ).eval()  # fmt: skip
    return cam.Model(module, layers="2")


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_a_race_has_everybody_once_a_round_and_leaves_the_model_alone(small, batch):
    before = copy.deepcopy(small.module.state_dict())
    partial = []
    race = speed.race(
        small, batch, 2, 1, report=lambda _share, so_far, at: partial.append((so_far, at))
    )
    plain = {speed.INFERENCE, speed.LAST}
    assert set(race.speeds) == {*plain, speed.OURS, *peers.installed()} - set(race.refused)
    assert set(race.absent) == set(peers.PACKAGES) - set(peers.installed())
    assert not race.refused
    for contender in [*race.speeds.values(), *race.every.values()]:
        assert len(contender.timing.seconds) == 2 and contender.images == 2
        first, second = contender.timing.seconds
        middle = (2 / first + 2 / second) / 2
        assert contender.images_per_second.median == pytest.approx(middle)
    assert race.every[speed.OURS].maps == 7
    assert any(0 < len(so_far.speeds) < len(race.speeds) for so_far, _ in partial), "it grows"
    notes = list(dict.fromkeys(at for _, at in partial))
    here = peers.installed()
    assert notes == [
        *(f"importing {package}" for package in here),
        *(f"trying {package} once" for package in here),
        "warming up", "round 1 of 2", "round 2 of 2",
    ]  # fmt: skip
    assert all(parameter.grad is None for parameter in small.module.parameters())
    assert all(
        torch.equal(value, before[name]) for name, value in small.module.state_dict().items()
    )


def test_the_peers_explain_the_same_class_at_the_same_layer(small, batch):
    targets = [3, 1]
    ours = cam.attribute(small, batch, "gradcam", targets)["gradcam"].raw.clamp(min=0)
    calls = peers.prepare_gradcam(copy.deepcopy(small.module), "2", batch, targets)
    if "captum" in calls:
        theirs = calls["captum"]().detach()[:, 0].clamp(min=0)
        assert torch.allclose(ours, theirs, atol=1e-5)
    if "torchcam" in calls:
        theirs = calls["torchcam"]()[0]
        low, high = (find(ours.flatten(1), 1)[:, None, None] for find in (torch.amin, torch.amax))
        assert torch.allclose(theirs, (ours - low) / (high - low).clamp(min=1e-12), atol=1e-4)


def test_a_peer_that_fails_is_told_and_left_out(small, batch, monkeypatch):
    def failing(*_):
        def call():
            raise RuntimeError("no such shape.\nat all")

        return {"captum": call}

    monkeypatch.setattr(peers, "prepare_gradcam", failing)
    monkeypatch.setattr(peers, "prepare_every_cam", lambda *_: None)
    race = speed.race(small, batch, 1, 0)
    assert race.refused == {"captum": "RuntimeError: no such shape"}
    assert race.absent == ("grad-cam", "torchcam") and "captum" not in race.speeds


def test_cancelled(small, batch):
    with pytest.raises(cam.Cancelled):
        speed.by_batch_size(small, batch[:1], (1, 2), 3, report=lambda share, *_: share < 0.5)


def test_sizes(small, batch):
    speeds = speed.by_batch_size(small, batch[:1], (3, 1), rounds=1)
    assert list(speeds) == [1, 3] and speeds[3][speed.OURS].images == 3
    with pytest.raises(cam.InputError, match="at least 1"):
        speed.by_batch_size(small, batch[:1], (0,))


def test_one_by_one_is_the_sum_in_each_round():
    singles = {"a": Timing((1, 2, 9)), "b": Timing((10, 1, 1)), "c": Timing((5, 5, 5))}
    together = speed.Together(singles, {})
    assert together.one_by_one(1) == singles["a"]
    assert together.one_by_one(2) == Timing((11, 3, 10))
    assert together.one_by_one(4) is None


def test_a_share_of_inference_is_one_whatever_the_batch_and_whatever_else_runs():
    # In each round the machine is slower, and ours takes 0.8 of plain inference's time.
    busy = [1, 2, 3, 1, 5, 1]
    plain = speed.Speed(4, 0, Timing(tuple(0.1 * slow for slow in busy)))
    ours = speed.Speed(4, 1, Timing(tuple(0.08 * slow for slow in busy)))
    assert ours.relative_to(plain) == pytest.approx((1.25, 1.25, 1.25))
    # Images, and not calls, are compared.
    single = speed.Speed(1, 1, Timing((0.05,) * 6))
    assert single.relative_to(speed.Speed(4, 0, Timing((0.1,) * 6))).median == pytest.approx(0.5)


def test_counts_of_methods(small, batch):
    together = speed.together(small, batch, ("gradcam", "layercam", "saliency"), rounds=1)
    assert list(together.joint) == [1, 2, 3] and list(together.singles) == [
        "gradcam",
        "layercam",
        "saliency",
    ]
    with pytest.raises(cam.InputError, match="once each"):
        speed.together(small, batch, ("gradcam", "gradcam"))


def test_precisions_beside_fp32(small, batch):
    rows = speed.by_precision(small, batch, ("gradcam",), ("bf16",), rounds=1)
    exact, short = rows
    assert (exact.precision, exact.spearman, exact.overlap) == ("fp32", pytest.approx(1), 1)
    assert short.precision == "bf16" and not torch.equal(short.heatmap, exact.heatmap)
    [alone] = speed.by_precision(small, batch, ("gradcam",), (), rounds=1)
    assert alone.precision == "fp32"
    plain = cam.attribute(small, batch, "gradcam", precision="fp32")["gradcam"].heatmap
    assert torch.allclose(exact.heatmap, plain, atol=1e-5)


def test_overlap_of_the_brightest_by_hand():
    first = torch.arange(40.0).reshape(1, 5, 8)
    second = first.clone()
    second[0, 4, 7], second[0, 0, 0] = 0, 39  # of the two highest, one has gone
    assert brightest_overlap(first, second).tolist() == [0.5]
