"""Methods and metrics of other packages, and checks of their parameters."""

import json
import subprocess
import sys

import pytest
import torch

import cam
from cam._methods.base.method_registry import METHODS
from tests.support.checkout import ROOT
from tests.support.stand_in import network

# Method, parameter, values that are refused, values at the edge that are not: from the papers'
# definitions and the docstrings, by hand.
LIMITS = [
    ("rise", "masks", [-3, 0, 1.0, True, "many"], [1]),
    ("rise", "cells", [0], [1]),
    ("rise", "probability", [0, -0.1, 1.01, True, "0.5", float("nan")], [1, 1e-6]),
    ("rise", "seed", [-1, 2**63, 0.5], [0, 2**63 - 1]),
    ("smoothgrad", "samples", [0, "many"], [1]),
    ("vargrad", "samples", [1], [2]),
    ("smoothgrad", "noise", [0, -1, float("inf")], [1e-9]),
    ("integrated_gradients", "steps", [0, -1, None], [1]),
    ("integrated_gradients", "baseline", ["blur", float("inf")], [-3, 0.5]),
    ("guided_integrated_gradients", "fraction", [0, 1.5], [1]),
    ("guided_integrated_gradients", "distance", [-0.1, 1.1], [0, 1]),
    ("blur_integrated_gradients", "sigma", [0, 10_001], [10_000]),
    ("extremal_perturbation", "areas", [(), (0.0,), (1.0,), "0.1", 0.1], [(0.1, 0.05)]),
    ("kpcacam", "kernel", ["cubic"], ["rbf"]),
    ("kpcacam", "gamma", [0, -1], [None, 0.5]),
    ("finercam", "alpha", [-0.1], [0]),
    ("finercam", "references", [0], [1]),
    ("finercam", "base", ["eigencam"], ["layercam"]),
    ("lime", "samples", [1], [2]),
    ("lime", "ridge", [-1], [0]),
    ("occlusion", "baseline", ["blur", (0.1, "a")], [(0.1, 0.2, 0.3)]),
    ("expected_gradients", "references", [3], [None, torch.zeros(1, 3, 4, 4)]),
    ("legrad", "last", [0], [None, 1]),
    ("lrp", "composite", ["alpha"], ["epsilon_plus"]),
    ("gradcam", "eigen_smooth", [1, "yes"], [True, False]),
]


@pytest.mark.parametrize(("name", "parameter", "wrong", "right"), LIMITS)
def test_parameters_are_checked_when_the_method_is_made(name, parameter, wrong, right):
    for value in wrong:
        with pytest.raises(cam.MethodError, match=rf"^{name}'s? {parameter} must be .*, but is"):
            cam.method(name, **{parameter: value})
    for value in right:
        cam.method(name, **{parameter: value})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lrp", {"low": 3.0, "high": 3.0}),
        ("lrp", {"low": 4.0}),
        ("occlusion", {"window": 4}),
        ("extremal_perturbation", {"cell": 22}),
    ],
)
def test_parameters_are_checked_beside_each_other(name, parameters):
    with pytest.raises(cam.MethodError, match=r"must be (below|at most|at least) its"):
        cam.method(name, **parameters)


def test_a_run_with_such_a_method_never_starts(tmp_path):
    with pytest.raises(cam.MethodError, match="rise's masks"):
        cam.evaluate(
            network(),
            cam.dataset("photo-grid", size=2),
            [cam.method("rise", masks=-3)],
            "deletion",
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("entries", [cam.methods(), cam.metrics()], ids=["methods", "metrics"])
def test_every_parameter_has_a_rule_that_its_default_keeps(entries):
    for info in entries.values():
        assert info.rules.keys() == info.parameters.keys()
        for parameter, default in info.parameters.items():
            assert info.rules[parameter].holds(default)


PLUGIN = '''
import cam

@cam.register_method(
    "red", title="Red", family="gradient", kind="sensitivity", reads=cam.sources.Pixels,
    cost="none", rules={"power": cam.parameters.integer(1)})
def red(pixels, *, power=1):
    """The image's red.

    References:
        Made for a test.
    """
    values = pixels.inputs[:, 0].abs() ** power
    return cam.Maps(values, values / values.amax((1, 2), keepdim=True))

@cam.register_metric(
    "average", title="Average", family="complexity", definition="mean A", direction=1,
    range=(0, 1), baseline="none")
def average(subject):
    """The mean.

    References:
        Made for a test.
    """
    return subject.heatmap.mean((1, 2))
'''
POINTS = """[cam.methods]
red = red_plugin
broken = no_such_module
[cam.metrics]
average = red_plugin
"""
CALLS = """
import json, sys, warnings
from pathlib import Path

import torch

import cam
from tests.support.stand_in import network

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert "red" in cam.methods()
sentences = [str(warning.message) for warning in caught]
maps = cam.attribute(network(), torch.rand(2, 3, 224, 224), cam.method("red", power=2))
run = cam.evaluate(network(), cam.dataset("photo-grid", size=2), "red", "average", sys.argv[1])
statuses = run.scores()["status"].tolist()
json.dump([sentences, list(maps), statuses], sys.stdout)
"""


@pytest.mark.slow
def test_another_package_adds_a_method_and_a_metric(tmp_path):
    """Found by entry points: in the library, the command line and runs."""
    (tmp_path / "red_plugin.py").write_text(PLUGIN)
    information = tmp_path / "red_plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: red-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(POINTS)

    def run(*arguments):
        import os

        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        done = subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": path},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    sentences, names, statuses = run("-c", CALLS, str(tmp_path / "run"))
    assert sentences == [
        "the method 'broken' of the package 'red-plugin' cannot be loaded: "
        "No module named 'no_such_module'"
    ]
    assert names == ["red"] and set(statuses) == {"ok"}
    listed = run("-W", "ignore", "-m", "cam", "methods", "--json")
    assert "red" in str(listed)
    explained = run(
        *("-W", "ignore", "-m", "cam", "explain", "sample:coffee", "--method", "red(power=2)"),
        *("--out", str(tmp_path / "maps"), "--json"),
    )
    assert explained


def test_a_name_is_given_once_and_rules_and_references_are_complete():
    def mine(pixels, *, power=1):
        """A method.

        References:
            Made for a test.
        """

    info = cam.methods()["gradcam"]
    with pytest.raises(ValueError, match="'gradcam' is registered already"):
        METHODS.add(info)
    with pytest.raises(ValueError, match="rules of 'mine'"):
        cam.register_method(
            "mine",
            title="",
            family="gradient",
            kind="sensitivity",
            reads=cam.sources.Pixels,
            cost="",
        )(mine)
    mine.__doc__ = "A method without a source."
    with pytest.raises(ValueError, match="the docstring of mine has no section 'References:'"):
        cam.register_method(
            "mine",
            title="",
            family="gradient",
            kind="sensitivity",
            reads=cam.sources.Pixels,
            cost="",
        )(mine)
    assert "mine" not in cam.methods()
