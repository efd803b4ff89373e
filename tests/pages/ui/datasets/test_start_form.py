"""Test the form that starts a run: data, parameters, variants, misfits."""

import os
import shlex
from pathlib import Path

import pytest
import timm
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

import cam
from cam._cli.commands import main
from cam._runs.plan.options import RunOptions
from cam._runs.plan.run_plan import make_plan
from cam.pages.ui.datasets import run_jobs
from cam.pages.ui.widgets import parameter_widgets
from tests.pages.test_datasets import click, ended, page, scores, text
from tests.support.dashboard_page import (
    check,
    find,
    finish,
    list_labels,
    list_values,
    read_address,
)
from tests.support.small_data import make_all, saved

FILES = {"data": "Folder or list", "start": "true"}
QUICK = {
    "run_methods": ["gradcam", "saliency"],
    "run_metrics": "sparseness",
    "centre": "false",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_all(folder)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch, root) -> Path:
    monkeypatch.setenv("CAM_RUNS", str(tmp_path / "runs"))
    # AppTest only sends what a box offers.
    monkeypatch.setenv("CAM_DATA_ROOTS", f"{root}{os.pathsep}{root / 'listed'}")
    run_jobs.get_runner.clear()
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def started(folder: Path, **query: str | list[str]) -> cam.Run:
    app = click(page(**query), "Start the run")
    assert not list_values(app.error), list_values(app.error)
    ended(folder / "run-1")
    return cam.Run.open(folder / "run-1")


CASES = {
    "flat folder": ("flat", {}, {}, 3, []),
    "folders of classes": ("classes", {}, {}, 3, ["Egyptian cat", "espresso", "missile"]),
    "csv": (
        "listed/list.csv",
        {"csv.delimiter": ";"},
        {"delimiter": ";"},
        3,
        ["Egyptian cat", "espresso", "missile"],
    ),
    "coco, boxes": (
        "coco/annotations/instances_val.json",
        {"coco.truth": "boxes", "coco.images": "{root}/coco/pictures"},
        {"truth": "boxes", "images": "{root}/coco/pictures"},
        3,
        ["Egyptian cat", "espresso", "missile"],
    ),
    "coco, segments": (
        "coco/annotations/instances_val.json",
        {"coco.images": "{root}/coco/pictures"},
        {"images": "{root}/coco/pictures"},
        3,
        ["Egyptian cat", "espresso", "missile"],
    ),
    "voc, without options": ("voc", {}, {}, 2, ["Egyptian cat", "espresso"]),
    "voc, train": ("voc", {"voc.split": "train"}, {"split": "train"}, 1, ["missile"]),
    "pet, without options": ("pet", {}, {}, 1, ["Egyptian cat"]),
    "pet, trainval": (
        "pet",
        {"pet.split": "trainval"},
        {"split": "trainval"},
        2,
        ["espresso", "missile"],
    ),
}
# One of a folder, of a list and of annotations; the others take as long again.
AT_ONCE = ("flat folder", "csv", "coco, boxes")


@pytest.mark.parametrize(
    "case",
    [case if case in AT_ONCE else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_every_kind_of_data(folder, root, case):
    source, query, options, count, labels = CASES[case]
    located = {} if source in ("flat", "classes") else {"run_metrics": "pointing_game"}
    query = {key: value.format(root=root) for key, value in query.items()}
    options = {key: value.format(root=root) for key, value in options.items()}
    run = started(folder, **FILES, **{**QUICK, **located}, **query, source=str(root / source))
    assert (run.call.data.source, run.call.data.options) == (str(root / source), options)
    assert (run.done, run.total) == (count, count)
    assert sorted(run.items()["label"].dropna().unique()) == labels or source == "flat"
    every = run.scores()
    assert (every["status"] == "ok").all(), every
    # The same that a user's own call gives.
    data = cam.dataset(root / source, **options)
    reference = cam.evaluate(
        cam.load_model("efficientnet_lite0"),
        data,
        ["gradcam", "saliency"],
        "pointing_game" if located else "sparseness",
        folder / "own",
        limit=64,
        shard_size=4,
    )
    assert scores(reference.path) == scores(run.path)


def test_boxes_and_segments_are_different_truths(folder, root):
    """A diamond has half of its box: the share of an even map that lies on it is half as large."""
    source, images = root / "coco/annotations/instances_val.json", root / "coco/pictures"
    areas = {
        truth: sum(item.mask.sum() for item in cam.dataset(source, images=images, truth=truth))
        for truth in ("boxes", "segments")
    }
    assert areas["segments"] / areas["boxes"] == pytest.approx(0.5, abs=0.01)


VARIANTS = {
    "size": "4",
    "start": "true",
    "run_methods": ["smoothgrad", "gradcam"],
    "smoothgrad.variants": "2",
    "smoothgrad.samples": "2",
    "smoothgrad.2.samples": "3",
    "smoothgrad.2.noise": "0.1",
    "run_metrics": ["deletion", "road"],
    "deletion.variants": "3",
    "deletion.steps": "4",
    "deletion.2.steps": "4",
    "deletion.2.baseline": "blur",
    # The third is the first again.
    "deletion.3.steps": "4",
    "road.variants": "2",
    "road.shares": "0.3, 0.6",
    "road.2.shares": "0.5",
}
METHODS = ["smoothgrad(samples=2)", "smoothgrad(samples=3, noise=0.1)", "gradcam"]
METRICS = [
    "deletion(steps=4)",
    "deletion(steps=4, baseline='blur')",
    "road(shares=(0.3, 0.6))",
    "road(shares=(0.5,))",
]


@pytest.mark.slow
def test_parameters_and_variants_come_into_the_run_and_into_the_code(folder, monkeypatch):
    app = page(**VARIANTS)
    assert "same as one above" in text(app)
    run = started(folder, **VARIANTS)
    assert run.methods == [*METHODS, "centre"] and run.metrics == METRICS
    app = finish(page(**VARIANTS, code="true"))
    app = check(find(app.text_input, "Name of the run").set_value("again").run())
    python, command = list_values(app.code)
    names: dict = {}
    exec(python, names)
    assert scores(names["run"].path) == scores(run.path)
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "cam", "evaluate"]
    words[-1] = str(folder / "third")
    result = CliRunner().invoke(main, words[3:])
    assert result.exit_code == 0, result.output
    assert scores(folder / "third") == scores(run.path)
    # JSON knows no tuples, and yet the run goes on where it was.
    assert cam.resume(run.path).config == run.config
    # Results name the variants.
    app = page(run="run-1", metric="road(shares=(0.5,))")
    assert "SmoothGrad (samples=3, noise=0.1)" in list(app.dataframe[0].value["method"])


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"road.shares": "many"}, "Road's shares must be one or more growing numbers"),
        ({"road.noise": "-1"}, "Road's noise must be"),
        ({"deletion.baseline": "green"}, "Deletion's baseline must be a number"),
    ],
    ids=["text", "negative", "colour"],
)
def test_parameters_that_make_no_sense_are_one_sentence(folder, query, says):
    app = page(start="true", run_metrics=["deletion", "road"], **query)
    [sentence] = list_values(app.error)
    assert sentence.startswith(says)
    assert "Start the run" not in list_labels(app.button)


def test_metrics_that_do_not_fit_are_named_with_the_reason(folder, root):
    app = page(**FILES, source=str(root / "classes"))
    metrics = find(app.multiselect, "Metrics")
    assert not {"Pointing game", "Grid pointing game"} & set(metrics.options)
    assert "these data do not say where a class is: Pointing game" in text(app)
    app = page(**FILES, source=str(root / "voc"))
    metrics = find(app.multiselect, "Metrics")
    assert "Pointing game" in metrics.options and "Grid pointing game" not in metrics.options
    assert metrics.value == ["pointing_game", "deletion", "insertion"]
    assert "no mosaics" in text(app)


def test_classes_that_the_model_does_not_know_are_told_before_the_run(
    folder, tmp_path, monkeypatch
):
    strange = tmp_path / "strange"
    monkeypatch.setenv("CAM_DATA_ROOTS", str(strange))
    for name in ("flowers", "stones"):
        saved(strange / name / "one.jpg", "coffee")
    app = click(page(**FILES, **QUICK, source=str(strange)), "Start the run")
    assert any("knows none of the data's 2 classes" in error.value for error in app.error)
    assert not (folder / "run-1").exists() and not run_jobs.get_runner().started


def test_metrics_are_chosen_again_as_the_data_change_back(folder, root):
    """Those that were chosen automatically, and those that the visitor chose."""
    app = page(**FILES, source=str(root / "voc"))

    def metrics() -> list[str]:
        box = find(app.multiselect, "Metrics")
        return box.value

    def change(kind: str) -> None:
        check(app.segmented_control(key="data").set_value(kind).run())

    assert metrics() == ["pointing_game", "deletion", "insertion"]
    change("Photo grid")
    assert metrics() == ["grid_pointing_game", "deletion", "insertion"]
    change("Folder or list")
    assert metrics() == ["pointing_game", "deletion", "insertion"]
    change("Photo grid")
    box = find(app.multiselect, "Metrics")
    check(box.set_value(["grid_pointing_game", "sparseness"]).run())
    change("Folder or list")
    assert metrics() == ["sparseness"]
    # The other one stays in the address, for data that it fits.
    written = read_address(app)["run_metrics"]
    assert sorted(written) == ["grid_pointing_game", "sparseness"]
    # What is wrong with the data takes nothing away.
    check(app.selectbox(key="source").set_value(str(root / "flat")).run())
    assert metrics() == ["sparseness"]
    change("Photo grid")
    assert sorted(metrics()) == ["grid_pointing_game", "sparseness"]


def test_known_answers_ask_for_their_network_and_offer_what_compares_with_them(folder):
    app = page(**QUICK, data="Known answers", start="true", network="xor")
    assert "whose exact attribution is computed" in text(app)
    metrics = find(app.multiselect, "Metrics")
    assert "Correlation with the exact attribution" in metrics.options
    grid = page(**QUICK, start="true")
    assert "Correlation with the exact attribution" not in find(grid.multiselect, "Metrics").options
    assert "the exact attribution of these data is not known: Correlation" in text(grid)
    app = click(app, "Start the run")
    [sentence] = list_values(app.error)
    assert "made for cam.load_model('known/xor') and mean nothing to efficientnet_lite0" in sentence
    call = {"model": "known/xor", "data": "Known answers", "size": "2"}
    run = started(folder, **QUICK, **call, network="xor", start="true")
    assert run.call.data.source == "known" and run.call.data.options["network"] == "xor"
    assert run.call.model.name == "known/xor"


def test_the_grids_classes_are_not_those_of_another_model(folder):
    app = page(**QUICK, start="true", model="timm/resnet18.fb_swsl_ig1b_ft_in1k", untrained="true")
    assert not list_values(finish(app).error)
    module = cam.Model(timm.create_model("test_resnet", num_classes=5))
    with pytest.raises(cam.InputError, match=r"the model has 5 .*; with targets='pred"):
        make_plan(module, cam.dataset("photo-grid", size=2), ["gradcam"], ["sparseness"])
    make_plan(
        module,
        cam.dataset("photo-grid", size=2),
        ["gradcam"],
        ["sparseness"],
        RunOptions(targets="predicted"),
    )


# Widgets


def drawn_as_they_are() -> None:
    import streamlit as st

    import cam
    from cam.pages.ui.widgets.parameter_widgets import choose_variants

    for info in [*cam.methods().values(), *cam.metrics().values()]:
        st.session_state[f"found {info.name}"] = choose_variants(info)


def test_every_parameter_can_be_set_and_none_changes_by_itself():
    app = check(AppTest.from_function(drawn_as_they_are, default_timeout=60).run())
    infos = [*cam.methods().values(), *cam.metrics().values()]
    assert all(app.session_state[f"found {info.name}"] == [()] for info in infos)
    left_out = {
        f"{info.name}.{name}"
        for info in infos
        for name in set(info.parameters) - set(parameter_widgets._select_widgets(info))
    }
    # Pictures: nothing that a form could take. A layer is one of the model, which it does not know.
    names = ("expected_gradients", "gradientshap", "deepshap")
    layer = "relative_representation_stability.layer"
    assert left_out == {layer, *(f"{name}.references" for name in names)}


def test_parameters_that_may_be_none():
    app = AppTest.from_function(drawn_as_they_are, default_timeout=60).run()
    app.number_input(key="legrad.last").set_value(3)
    app.number_input(key="kpcacam.gamma").set_value(0.25)
    check(app.text_input(key="extremal_perturbation.areas").set_value("0.1, 0.3").run())
    assert app.session_state["found legrad"] == [(("last", 3),)]
    assert app.session_state["found kpcacam"] == [(("gamma", 0.25),)]
    assert app.session_state["found extremal_perturbation"] == [(("areas", (0.1, 0.3)),)]
