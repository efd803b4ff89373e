"""Tuning finds what is the best by construction, within its budget."""

import pytest
import torch
from torch import nn

import cam
from cam._methods.base.method_registry import METHODS
from tests.support.stand_in import Metric, Scores


class Level(Metric):
    """The mean of the raw map, which a parameter of the method sets."""

    def __init__(self) -> None:
        super().__init__("level")

    def measure(self, model, batch, attribution, targets, masks=None, **_) -> Scores:
        values = attribution.raw.mean((1, 2))
        return Scores(values, (None,) * len(values))


@pytest.fixture
def levels():
    """A method whose map is one level everywhere, plus the picture's mean."""

    @cam.register_method(
        "levels", title="Levels", family="gradient", kind="evidence", reads=cam.sources.Pixels,
        cost="1 forward",
        rules={"level": cam.parameters.number(above=0), "seed": cam.parameters.SEED},
    )  # fmt: skip
    def levels(pixels: cam.sources.Pixels, *, level: float = 2.0, seed: int = 0) -> cam.Maps:
        """One level.

        References:
            A test, 2026
        """
        raw = pixels.inputs.mean(1) + level
        return cam.Maps(raw, raw.clamp(0, 1))

    yield
    del METHODS._entries["levels"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()


def pictures(count: int, groups=None):
    generator = torch.Generator().manual_seed(1)
    items = [(torch.rand(3, 12, 12, generator=generator), 0) for _ in range(count)]
    return cam.dataset(items, groups=groups)


def test_the_best_parameter_is_chosen_and_reported_on_the_other_half(levels):
    data = pictures(40)
    tuning = cam.tune(network(), data, "levels", Level())
    assert str(tuning.method) == "levels(level=4.0)" and tuning.layers is None
    # The seed is no candidate.
    assert set(tuning.table["method"]) == {"levels", "levels(level=1.0)", "levels(level=4.0)"}
    (row,) = tuning.report.to_dict("records")
    assert row["groups"] == 20 and row["verdict"] == "better" and row["wins"] == 20
    assert row["difference"] == pytest.approx(2, abs=1e-5)
    assert row["after"] - row["before"] == pytest.approx(2, abs=1e-5)
    assert "On the other half of the data" in str(tuning)


def test_the_halves_share_no_group_and_few_groups_get_no_verdict(levels):
    groups = [f"patient {number // 4}" for number in range(24)]
    batches = []

    class Watching(Level):
        def measure(self, model, batch, attribution, targets, masks=None, **_) -> Scores:
            batches.append([float(picture.sum()) for picture in batch])
            return super().measure(model, batch, attribution, targets, masks)

    data = pictures(24, groups)
    tuning = cam.tune(network(), data, "levels", Watching(), seed=3)
    assert tuning.report["groups"].tolist() == [3]
    assert tuning.report["verdict"].tolist() == ["too few (3 groups)"]
    of_picture = {float(item.image.sum()): item.group for item in data}
    # The report measures the winner and the method as it was given, on the same pictures.
    reported = {of_picture[total] for batch in batches[-2:] for total in batch}
    searched = {of_picture[total] for batch in batches[:-2] for total in batch}
    assert len(reported) == len(searched) == 3 and not reported & searched


def test_the_budget_ends_the_search(levels):
    counted = []
    model = network()
    model.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    notes = []
    tuning = cam.tune(model, pictures(40), "levels", Level(), budget=5, tell=notes.append)
    searching = [note for note in notes if note.startswith("trying")]
    # Four pictures a candidate: the second one exceeds five.
    assert len(searching) == 2 and tuning.passes >= 5
    # Two reports of twenty pictures come on top.
    assert sum(counted) == tuning.passes + 40
    assert len(model._forward_pre_hooks) == 1


@pytest.mark.slow
def test_layers_are_searched(bundled):
    data = cam.dataset("photo-grid", size=4)
    items = [(item.image, item.target) for item in data]
    tuning = cam.tune(
        bundled, cam.dataset(items), "gradcam", cam.metric("deletion", steps=2), budget=60
    )
    layers = {layer for layer in tuning.table["layers"] if layer}
    assert layers <= {layer.name for layer in bundled.feature_layers} and layers


def test_what_cannot_be_tuned(levels):
    with pytest.raises(cam.InputError, match="at least 4 independent groups"):
        cam.tune(network(), pictures(8, ["one"] * 4 + ["two"] * 4), "levels", Level())
    with pytest.raises(cam.InputError, match="budget must be a whole number of at least 1"):
        cam.tune(network(), pictures(8), "levels", Level(), budget=0)
    model = network()
    with pytest.raises(cam.Cancelled, match="while trying levels"):
        cam.tune(model, pictures(8), "levels", Level(), tell=lambda _: False)
    assert not model._forward_pre_hooks
