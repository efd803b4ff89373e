"""Test that missing weights are downloaded in the background, on every page."""

import threading

import pytest
import timm
from safetensors.torch import save
from streamlit.testing.v1 import AppTest

from cam._models import download
from cam.pages.ui.server import resources, weight_downloads
from cam.pages.ui.state.choices import RANDOM, ModelChoice, Weights
from tests.support.dashboard_page import check, find, list_labels, open_page, read_maps
from tests.support.weights_server import as_hub, random_state, serving, without_weights

NAME = "timm/test_resnet.r160_in1k"
PAGES = ["explore", "anatomy", "compare", "performance"]


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The hub; it sends the second half only once it may."""
    without_weights(monkeypatch, tmp_path)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setitem(download._WATCHABLE, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    weight_downloads.get_download_jobs.clear()
    resources._load_shared.clear()
    content = save(random_state(timm.create_model("test_resnet")))
    with serving(content, "model.safetensors") as server:
        as_hub(server, monkeypatch)
        server.go, pieces = threading.Event(), []

        def wait():
            pieces.append(1)
            if len(pieces) == 16:
                server.go.wait(30)

        server.wait = wait
        yield server
        server.go.set()


def read_progress(app: AppTest) -> list[str]:
    return [element.proto.text for element in app.get("progress")]


def button(app: AppTest, label: str):
    widget = find(app.button, label)
    return widget


def job(key=("weights", NAME)):
    return weight_downloads.get_download_jobs().find(key)


@pytest.mark.parametrize("name", PAGES)
def test_each_page_shows_how_far_it_is_and_then_the_model(name, server):
    app = open_page(name, model=NAME)
    [line] = read_progress(app)
    assert line.startswith(f"Downloading the weights of {NAME}: ")
    box = find(app.selectbox, "Model")
    assert box.value == NAME and not app.error
    server.go.set()
    assert job().done.wait(20) and job().error is None
    check(app.run())
    # A clip is read there as soon as it can be.
    rest = [line for line in read_progress(app) if not line.startswith("Reading the clip")]
    assert rest == [] and not app.error
    assert "Class to explain" in list_labels(app.selectbox) or name == "performance"


def test_bytes_are_told_and_cancel_leaves_the_page_alive(server, tmp_path):
    app = open_page("explore", model=NAME)
    while not job().share:
        job().done.wait(0.05)
    [line] = read_progress(check(app.run()))
    assert "of 1.9 MB" in line
    check(button(app, "Cancel").click().run())
    server.go.set()
    assert job().done.wait(20) and job().cancelled
    assert not list(tmp_path.rglob("*.incomplete")) and weight_downloads.find_missing(
        ModelChoice(NAME)
    )
    check(app.run())
    assert any(markdown.value.endswith(": cancelled.") for markdown in app.markdown)
    # Another model, while this one is not here.
    box = find(app.selectbox, "Model")
    check(box.select("efficientnet_lite0").run())
    assert read_maps(app)[0] == "Grad-CAM heatmap for Egyptian cat"
    check(find(app.selectbox, "Model").select(NAME).run())
    check(button(app, "Start again").click().run())
    assert job() is None or job().done.wait(20)  # what is quick is done within the run
    assert read_progress(check(app.run())) == [] and not app.error


def test_a_failure_is_one_sentence(server):
    server.trouble = "is not there"
    app = open_page("explore", model=NAME)
    if read_progress(app):
        assert job() is None or job().done.wait(20)
        check(app.run())
    [error] = app.error
    assert error.value.startswith(f"The weights of {NAME} could not be downloaded (")
    server.trouble = ""
    server.go.set()
    check(app.run())
    if read_progress(app):
        assert job().done.wait(20)
        check(app.run())
    assert not app.error and read_progress(app) == []


def test_what_is_here_or_bundled_or_random_asks_for_no_job(server, monkeypatch):
    server.go.set()
    weight_downloads.find_missing(ModelChoice(NAME)).fetch()

    def never(*_args, **_options):
        raise AssertionError("there is nothing to download")

    monkeypatch.setattr(weight_downloads.jobs, "wait_for", never)
    for choice in (
        ModelChoice(NAME),
        ModelChoice("efficientnet_lite0"),
        ModelChoice("timm/resnet18", RANDOM),
        ModelChoice("timm/resnet18", Weights(path="own.pth")),
    ):
        assert weight_downloads.ensure_weights(choice)
    app = open_page("explore", model=NAME)
    assert not app.error and read_progress(app) == []


def test_the_second_model_of_a_comparison_too(server):
    app = open_page("compare", compare="Two models", second=NAME)
    assert any(NAME in line for line in read_progress(app))
    server.go.set()
    assert job().done.wait(20)
    check(app.run())
    # A clip is read there as soon as it can be.
    rest = [line for line in read_progress(app) if not line.startswith("Reading the clip")]
    assert rest == [] and not app.error
