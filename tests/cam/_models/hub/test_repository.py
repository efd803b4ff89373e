"""Repositories of the hub over a real connection."""

import socket
from pathlib import Path

import pytest
import torch

import cam
from cam._models import download
from cam._models.load import published
from tests.support.hub_checkpoints import save_checkpoint
from tests.support.weights_server import as_hub, serving, without_weights

NAME = "hf/somebody/small"
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch, tmp_path):
    without_weights(monkeypatch, tmp_path / "caches")
    monkeypatch.setitem(download._WATCHABLE, "DOWNLOAD_CHUNK_SIZE", 1 << 16)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one repository, and the network that it holds."""
    network = save_checkpoint(tmp_path / "small", "vit")
    files = {path.name: path.read_bytes() for path in (tmp_path / "small").iterdir()}
    with serving(files.pop(WEIGHTS), WEIGHTS) as server:
        server.others = {f"somebody/small/resolve/main/{name}": files[name] for name in files}
        as_hub(server, monkeypatch)
        server.network = network
        yield server


def downloads(server) -> list[str]:
    return [Path(request).name for request in server.requests if request.startswith("GET /")]


def refused(name: str, **options) -> str:
    with pytest.raises(cam.ModelError) as caught:
        cam.load_model(name, **options)
    message = str(caught.value)
    assert "\n" not in message and not message.endswith(".")
    return message


def test_a_repository_is_downloaded_once_and_counted(hub):
    steps = []
    assert not published(NAME).here
    model = cam.load_model(NAME, progress=steps.append)
    assert (steps[-1].done, steps[-1].total) == (len(hub.content),) * 2
    state = hub.network.state_dict()
    assert all(torch.equal(model.module.state_dict()[key], state[key]) for key in state)
    assert published(NAME).here
    before = list(hub.requests)
    cam.load_model(NAME)
    cam.load_model(NAME, weights=None)
    assert hub.requests == before


def test_random_weights_need_no_download_of_weights(hub):
    model = cam.load_model(NAME, weights=None)
    assert len(model.labels) == 5
    assert WEIGHTS not in downloads(hub)
    # Which are still fetched when they are wanted.
    assert not published(NAME).here
    cam.load_model(NAME)
    assert WEIGHTS in downloads(hub)


def test_cancelled_nothing_counts_as_here(hub):
    with pytest.raises(cam.Cancelled):
        cam.load_model(NAME, progress=lambda progress: progress.done < progress.total / 2)
    assert not published(NAME).here
    cam.load_model(NAME)


def test_weights_in_shards_are_all_fetched(hub, tmp_path):
    (tmp_path / "small" / WEIGHTS).unlink()
    hub.network.save_pretrained(tmp_path / "small", max_shard_size="20KB")
    hub.names = ("nothing",)
    for path in (tmp_path / "small").iterdir():
        hub.others[f"somebody/small/resolve/main/{path.name}"] = path.read_bytes()
    model = cam.load_model(NAME)
    assert len([name for name in downloads(hub) if name.startswith("model-")]) > 2
    state = hub.network.state_dict()
    assert all(torch.equal(model.module.state_dict()[key], state[key]) for key in state)


def test_a_repository_without_a_configuration_or_weights_is_told(hub):
    assert "has no config.json" in refused("hf/somebody/other")
    hub.names = ("nothing",)
    assert "has no weights that are tensors only" in refused(NAME)


def test_a_repository_that_does_not_exist_is_told(hub, monkeypatch):
    monkeypatch.setattr(hub, "find_content", lambda path: b"" if path == "/" else None)
    monkeypatch.setattr("tests.support.weights_server.MISSING", "RepoNotFound")
    assert "there is no model 'somebody/small' at huggingface.co" in refused(NAME)
    monkeypatch.setattr("tests.support.weights_server.MISSING", "GatedRepo")
    assert "only for those whom its owner lets in" in refused(NAME)


def test_without_a_network_one_sentence_says_what_to_do(monkeypatch):
    def nobody(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    for weights in ("DEFAULT", None):
        message = refused(NAME, weights=weights)
        assert message == (
            f"{NAME} could not be downloaded (Name or service not known); connect to the network, "
            "or give a folder on disk"
        )
