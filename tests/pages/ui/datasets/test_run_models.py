"""Test the model of a run: failing methods, downloads, uploaded weights."""

import hashlib
import shlex
import shutil
import threading
from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import save, save_file

import cam
from cam._cli.commands import main
from cam.pages.ui.datasets import method_trials
from cam.pages.ui.server import resources
from cam.pages.ui.subject import own_weights, run_pictures
from tests.pages.test_datasets import click, ended, page, scores, text
from tests.pages.ui.datasets import test_start_form
from tests.pages.ui.datasets.test_start_form import FILES, QUICK, started
from tests.pages.ui.server import test_weight_downloads
from tests.pages.ui.server.test_weight_downloads import NAME, read_progress
from tests.support.dashboard_page import check, find, finish, list_labels, list_values, read_maps

server = test_weight_downloads.server  # fixtures
folder, root = test_start_form.folder, test_start_form.root


def test_methods_that_do_not_run_on_the_model_are_told_and_left_out(folder):
    query = {**QUICK, "start": "true", "size": "2", "model": "timm/test_resnet"}
    methods = ["legrad", "saliency", "transformer_attribution"]
    query |= {"untrained": "true", "run_methods": methods}
    app = finish(page(**query, code="true"))
    [warning] = list_values(app.warning)
    assert warning.startswith("**LeGrad, Transformer attribution** do not run on timm/test_resnet")
    # Why is the library's own sentence.
    model = cam.load_model("timm/test_resnet", weights=None)
    with pytest.raises(cam.CamError) as error:
        cam.attribute(model, model.prepare(cam.sample("coffee")), "legrad")
    assert str(error.value) in warning
    python, command = list_values(app.code)
    assert "legrad" not in python and "--method saliency" in command and "legrad" not in command
    click(app, "Start the run")
    ended(folder / "run-1")
    assert cam.Run.open(folder / "run-1").methods == ["saliency"]
    app = finish(page(**query | {"run_methods": "legrad"}))
    assert "None of the chosen methods runs" in text(app)
    assert "Start the run" not in list_labels(app.button)


def test_after_cancel_the_methods_are_taken_as_they_are(folder, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(method_trials, "explain_refusal", lambda *_: go.wait(20) and None)
    method_trials.get_trials.clear()
    app = page(**QUICK, start="true", model="timm/test_resnet", untrained="true")
    start = find(app.button, "Start the run")
    assert start.disabled
    cancel = find(app.button, "Cancel")
    app = check(cancel.click().run())
    go.set()
    start = find(app.button, "Start the run")
    assert not start.disabled
    method_trials.get_trials.clear()


def test_weights_that_are_not_here_are_downloaded_first(folder, server):
    app = page(**QUICK, start="true", size="2", model=NAME)
    assert any(line.startswith(f"Downloading the weights of {NAME}") for line in read_progress(app))
    start = find(app.button, "Start the run")
    assert start.disabled
    server.go.set()
    app = click(app, "Start the run")
    ended(folder / "run-1")
    run = cam.Run.open(folder / "run-1")
    assert (run.scores()["status"] == "ok").all()
    truth = cam.evaluate(
        cam.load_model(NAME), cam.dataset("photo-grid", size=2), ["gradcam", "saliency"],
        "sparseness", folder / "own",
    )  # fmt: skip
    assert scores(truth.path) == scores(run.path)


def test_a_run_goes_on_with_weights_that_are_not_here_any_more(folder, server, monkeypatch):
    server.go.set()
    cam.load_model(NAME)
    with pytest.raises(cam.Cancelled):
        half(folder / "half", cam.load_model(NAME))
    monkeypatch.setenv("HF_HUB_CACHE", str(folder.parent / "another"))
    resources._load_shared.clear()
    click(page(), "Resume")
    ended(folder / "half")
    assert cam.Run.open(folder / "half").done == 4


def half(path: Path, model: cam.Model) -> None:
    """A run that is stopped after two of its four images."""
    cam.evaluate(
        model,
        cam.dataset("photo-grid", size=4),
        ["saliency"],
        ["sparseness"],
        path,
        targets="predicted",
        shard_size=2,
        progress=lambda progress: progress.done < 2,
    )


@pytest.fixture(scope="module")
def three():
    """Weights for three classes."""
    torch.manual_seed(0)
    module = timm.create_model("test_resnet", num_classes=3)
    return {key: value.contiguous() for key, value in module.state_dict().items()}


def test_own_weights(folder, root, tmp_path, monkeypatch, three):
    weights = tmp_path / "weights" / "own.safetensors"
    weights.parent.mkdir()
    save_file(three, weights)
    monkeypatch.setenv("CAM_CHECKPOINT_ROOTS", str(weights.parent))
    run = started(
        folder,
        **FILES,
        **QUICK,
        source=str(root / "classes"),
        model="timm/test_resnet",
        checkpoint="own.safetensors",
    )
    assert run.call.model.weights == str(weights)
    # As many folders as classes: they are the model's, in their order.
    assert sorted(run.items()["target"]) == [0, 1, 2]
    assert (run.scores()["status"] != "failed").all()


def test_uploaded_weights_outlive_the_server(folder, root, tmp_path, three):
    """Kept beside the runs under their hash: resumed after a restart, copied, and explored."""
    own_weights.get_store.clear()
    query = {"source": str(root / "classes"), "model": "timm/test_resnet", "untrained": "true"}
    app = page(**FILES, **QUICK, **query, code="true")
    content, names = save(three), b"espresso\nEgyptian cat\nmissile"
    app.session_state["weights_box"] = True
    check(app.run())
    check(find(app.file_uploader, "Weights").upload("mine.safetensors", content).run())
    check(find(app.file_uploader, "Names of its classes").upload("names.txt", names).run())
    python, command = list_values(finish(app).code)
    app = click(app, "Start the run")
    ended(folder / "run-1")
    run = cam.Run.open(folder / "run-1")
    path = Path(run.call.model.weights)
    assert (
        path == folder / ".checkpoints" / hashlib.sha256(content).hexdigest() / "mine.safetensors"
    )
    assert path.read_bytes() == content and Path(run.call.model.labels).read_bytes() == names
    # The names are the model's, in their order.
    assert run.items().set_index("label")["target"].to_dict() == {
        "espresso": 0, "Egyptian cat": 1, "missile": 2
    }  # fmt: skip
    # Another server, where nothing was uploaded.
    own_weights.get_store.clear()
    resources._load_upload.clear()
    before = scores(run.path)
    shutil.rmtree(next((run.path / "shards").iterdir()))
    click(page(), "Resume")
    ended(run.path)
    assert scores(run.path) == before
    names: dict = {}
    exec(python.replace("run-1", "run-2"), names)
    words = shlex.split(command)[3:]
    assert CliRunner().invoke(main, [*words[:-1], str(folder / "run-3")]).exit_code == 0
    assert scores(folder / "run-2") == scores(folder / "run-3") == before
    # Its picture is explained with its weights.
    item = int(run.items().set_index("label").loc["missile", "item"])
    app = page("explore", **run_pictures.make_link(run, "run-1", item, run.image(item).facts))
    assert "Weights: those of the run **run-1**" in text(app) and not list_values(app.error)
    assert read_maps(app)[0] == "Grad-CAM heatmap for missile"


def test_a_run_whose_weights_lie_elsewhere_is_not_explored(folder, tmp_path, three):
    save_file(three, tmp_path / "secret.safetensors")
    model = cam.load_model("timm/test_resnet", tmp_path / "secret.safetensors")
    with pytest.raises(cam.Cancelled):
        half(folder / "half", model)
    app = page(run="half", view="Gallery", item="0")
    assert "It cannot be opened in Explore" in text(app) and "outside of the folders" in text(app)
    app = page("explore", image="run:half:0", model="timm/test_resnet", untrained="true")
    assert "those of the run" not in text(app)
