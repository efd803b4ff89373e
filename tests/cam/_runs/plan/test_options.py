"""Check the options of a run in Python, command line and folder."""

import dataclasses
import inspect
import json

import pytest

import cam
from cam._cli.evaluate_command import evaluate as command
from cam._runs.plan.options import RunOptions
from tests.support.stand_in import Drop, network

# What DESIGN.md and the guide promise, written again.
PROMISED = {
    "baselines": (),
    "targets": "data",
    "layers": None,
    "precision": None,
    "shard_size": 16,
    "batch_size": 32,
    "heatmaps": 56,
    "polarity": "signed",
}


def test_the_record_holds_the_promised_defaults_and_cannot_change():
    options = RunOptions()
    assert options.keywords() == PROMISED and options.changes() == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.heatmaps = 0


def test_evaluate_takes_each_option_with_its_default():
    parameters = inspect.signature(cam.evaluate).parameters
    assert {name: parameters[name].default for name in PROMISED} == PROMISED
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in PROMISED)


def test_the_command_line_takes_each_option_with_its_default():
    parsed = command.make_context("evaluate", ["photo-grid", "--out", "run"]).params
    values = {name: parsed[name] or None if name == "layers" else parsed[name] for name in PROMISED}
    assert values == PROMISED


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shard_size": 0}, "shard_size must be a whole number of at least 1, but is 0"),
        ({"batch_size": 2.0}, "batch_size must be a whole number of at least 1, but is 2.0"),
        ({"polarity": "unsigned"}, "polarity must be one of signed, positive, absolute, but is"),
        ({"heatmaps": True}, "heatmaps must be a whole number of at least 0, but is True"),
        ({"targets": "top"}, "targets must be one of data, predicted, but is 'top'"),
        ({"baselines": ["center"]}, "there is no baseline 'center'; did you mean 'centre'"),
    ],
    ids=["shard_size", "batch_size", "polarity", "heatmaps", "targets", "baselines"],
)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(cam.InputError, match=message):
        RunOptions(**wrong)


def test_changes_come_back_from_json():
    options = RunOptions("centre", layers=("features.3",), shard_size=4)
    assert options.baselines == ("centre",)
    assert options.changes() == {
        "baselines": ("centre",),
        "layers": ("features.3",),
        "shard_size": 4,
    }
    stored = json.loads(json.dumps(dataclasses.asdict(options)))
    assert RunOptions.of_facts(stored | {"of a later version": 1}) == options
    assert RunOptions.of_facts({"shard_size": 4}) == RunOptions(shard_size=4)


def test_a_run_stores_all_of_them(tmp_path):
    data = cam.dataset("photo-grid", size=2)
    run = cam.evaluate(
        network(), data, "saliency", [Drop()], tmp_path / "run", baselines="centre", heatmaps=8
    )
    expected = PROMISED | {"heatmaps": 8}
    settings = {name: run.config[name] for name in ("targets", "shard_size", "batch_size")}
    assert settings == {name: expected[name] for name in settings}
    assert run.config["heatmaps"] == 8
    assert [method["key"] for method in run.config["methods"]] == ["saliency", "centre"]
    model = cam.load_model("efficientnet_lite0")
    run = cam.evaluate(
        model, data, "saliency", "sparseness", tmp_path / "named", heatmaps=8, layers="blocks.4"
    )
    stored = run.notes["call"]["options"]
    assert stored == json.loads(json.dumps(expected | {"layers": ["blocks.4"]}))
    assert run.call.options == RunOptions(layers=("blocks.4",), heatmaps=8)
