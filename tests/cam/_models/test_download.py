"""Downloads of weights over a real connection: counted, cancelled, broken."""

import hashlib
import io
import itertools
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save

import cam
from cam._models import download
from cam._models.load import published
from tests.support.weights_server import as_hub, random_state, serving, without_weights

TORCHVISION, TIMM = "torchvision/squeezenet1_1", "timm/test_resnet.r160_in1k"
SOURCES = ["torchvision", "timm by the hub", "timm by an address"]


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch, tmp_path):
    """Nothing is here yet, and nobody is patient."""
    without_weights(monkeypatch, tmp_path)
    # The hub's client pauses before it tries again.
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setitem(download._WATCHABLE, "DOWNLOAD_CHUNK_SIZE", 1 << 16)


@pytest.fixture(params=SOURCES)
def source(request, monkeypatch):
    """A model's name, the server of its weights, and the weights."""
    if request.param == "torchvision":
        weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.value
        state = random_state(torchvision.models.squeezenet1_1())
        content = pickled(state)
        file = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        with serving(content, file) as server:
            monkeypatch.setattr(weights, "url", f"{server.address}/models/{file}")
            yield SimpleNamespace(name=TORCHVISION, server=server, state=state)
        return
    state = random_state(timm.create_model("test_resnet"))
    by_hub = request.param == "timm by the hub"
    config = timm.get_pretrained_cfg("test_resnet.r160_in1k")
    content, file = (save(state), "model.safetensors") if by_hub else (pickled(state), "own.pth")
    with serving(content, file) as server:
        if by_hub:
            as_hub(server, monkeypatch)
        else:
            config.url, config.hf_hub_id = f"{server.address}/{file}", None
            for module in ("timm", "timm.models._builder"):
                monkeypatch.setattr(f"{module}.get_pretrained_cfg", lambda *_, **__: config)
        yield SimpleNamespace(name=TIMM, server=server, state=state)


def pickled(state) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def left(folder: Path) -> list[Path]:
    """Files of weights, whole or by half, that a download left."""
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 10_000]


def one_sentence(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message and not message.endswith(".")
    return message


def test_every_byte_is_counted_and_the_weights_are_those_of_the_server(source, capfd):
    steps = []
    assert not published(source.name).here
    model = cam.load_model(source.name, progress=steps.append)
    whole = len(source.server.content)
    assert steps[0].done == 0 and (steps[-1].done, steps[-1].total) == (whole, whole)
    assert len(steps) > 10 and all(a.done <= b.done for a, b in itertools.pairwise(steps))
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, source.state[key]), key
    assert published(source.name).here
    assert capfd.readouterr() == ("", "")


def test_what_is_here_is_not_downloaded_again(source):
    cam.load_model(source.name)
    before = sum(request.startswith("GET") for request in source.server.requests)

    def never(progress):
        raise AssertionError(f"nothing was to be downloaded, but {progress} was")

    cam.load_model(source.name, progress=never)
    cam.load_model(source.name, None, progress=never)
    assert sum(request.startswith("GET") for request in source.server.requests) == before == 1


def test_cancelled_midway_nothing_is_left_and_a_later_try_succeeds(source, tmp_path):
    def until_half(progress):
        return progress.done < progress.total / 2

    with pytest.raises(cam.Cancelled):
        cam.load_model(source.name, progress=until_half)
    assert left(tmp_path) == [] and not published(source.name).here
    cam.load_model(source.name)


@pytest.mark.parametrize(
    ("trouble", "pattern"),
    [
        ("breaks off", "broke off"),
        ("falls silent", "timed out|fell silent"),
        ("is not there", "Not Found|holds none of"),
    ],
)
def test_a_failure_is_one_sentence_and_nothing_is_left(
    source, trouble, pattern, tmp_path, monkeypatch
):
    source.server.trouble = trouble
    with monkeypatch.context() as patch, pytest.raises(cam.ModelError) as caught:
        if trouble == "falls silent":
            patch.setattr(download, "_SILENCE_SECONDS", 0.3)
            patch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
        cam.load_model(source.name)
    message = one_sentence(caught)
    assert message.startswith(f"the weights of {source.name} could not be downloaded (")
    assert "or use random ones" in message and re.search(pattern, message)
    assert left(tmp_path) == []
    source.server.trouble = ""
    cam.load_model(source.name)


@pytest.mark.parametrize("source", ["torchvision"], indirect=True)
def test_a_file_that_is_not_the_published_one_is_refused(source, tmp_path):
    source.server.content = source.server.content[:-1] + b"?"
    with pytest.raises(cam.ModelError, match="SHA-256"):
        cam.load_model(source.name)
    assert left(tmp_path) == []


@pytest.mark.parametrize("source", ["timm by the hub"], indirect=True)
def test_the_hubs_other_protocol_is_off_while_a_download_must_be_stoppable(source, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    inside, go, settings = threading.Event(), threading.Event(), []

    def watch(progress):
        settings.append(constants.HF_HUB_DISABLE_XET)
        inside.set()
        go.wait(10)

    thread = threading.Thread(
        target=cam.load_model, args=(source.name,), kwargs={"progress": watch}
    )
    thread.start()
    assert inside.wait(10)
    with download._watchable():
        pass
    assert constants.HF_HUB_DISABLE_XET  # the other one still needs it
    go.set()
    thread.join()
    assert all(settings) and not constants.HF_HUB_DISABLE_XET
    assert constants.DOWNLOAD_CHUNK_SIZE == 10 << 20  # what it was


def test_a_model_that_nobody_published_weights_for_and_the_bundled_one():
    assert published("efficientnet_lite0") is None
    with pytest.raises(cam.ModelError, match="has no published weights"):
        published("timm/cspresnet50d")
    with pytest.raises(cam.ModelError, match="there is no model"):
        published("timm/no_such_network")
