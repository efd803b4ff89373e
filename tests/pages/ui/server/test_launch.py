"""A script opens the dashboard on objects in memory."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cam
from benchmarks.visitors.session import Session
from cam.pages.ui.server import launch, served
from tests.support.checkout import ROOT

SCRIPT = '''
import sys
import torch
from torch import nn
from torchvision import transforms
import cam

class Halves(nn.Module):
    """Scores how bright each half of an image is."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1, bias=False)
        nn.init.constant_(self.features.weight, 1 / 3)

    def forward(self, pixels):
        left, right = torch.relu(self.features(pixels)).mean(1).chunk(2, 2)
        return 9 * torch.stack([left.mean((1, 2)), right.mean((1, 2))], 1)

steps = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
model = cam.Model(Halves().eval(), steps, ["left half", "right half"])
photos = [(cam.sample("coffee"), 0), (cam.sample("chelsea"), 1), (cam.sample("rocket"), 0)]
server = cam.serve({"halves": model}, {"three photos": photos}, port=0, block=False)
print(server.url, flush=True)
try:
    cam.serve({"halves": torch.nn.Identity()}, port=0, block=False)
except cam.InputError as error:
    print(error, flush=True)
server.wait()
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def site(folder) -> Iterator[str]:
    (folder / "start.py").write_text(SCRIPT)
    variables = os.environ | {"PYTHONPATH": str(ROOT), "CAM_RUNS": str(folder / "runs")}
    with subprocess.Popen(
        [sys.executable, "start.py"],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        url = process.stdout.readline().strip()
        # The first goes on as it was, which the other tests see.
        assert f"has served {url} already; restart it" in process.stdout.readline()
        yield url
        process.terminate()
        # A notebook's cell is not filled with each request.
        assert "HTTP/1.1" not in process.stderr.read()


def read_text(session: Session) -> str:
    return " ".join(str(element) for element in session.elements.values())


def test_its_address_opens_the_callers_model(site):
    address, _, query = site.partition("/?")
    assert query == "model=halves"
    assert urllib.request.urlopen(f"{address}/_stcore/health", timeout=60).status == 200
    with Session(address) as session:
        session.visit(f"{query}&image=coffee")
        [viewer] = session.read_viewers()
        pixels = np.asarray(cam.sample("coffee").convert("L"), float)
        left, right = np.array_split(pixels, 2, axis=1)
        brighter = "left half" if left.mean() > right.mean() else "right half"
        assert viewer["label"] == brighter
        # Nothing to choose about weights that are in memory; the code says where they come from.
        assert "Random weights" not in read_text(session)


def test_its_data_are_offered_for_a_run(site, folder):
    address = site.partition("/?")[0]
    with Session(address, "datasets") as session:
        methods = "run_methods=saliency&run_metrics=sparseness"
        session.visit(f"start=true&model=halves&{methods}")
        assert "three photos" in read_text(session) and "**3 items**" in read_text(session)
        end = time.monotonic() + 120
        while "start=" in session.query and time.monotonic() < end:
            session.click("go", lambda state: setattr(state, "trigger_value", True))
            time.sleep(0.5)
    while time.monotonic() < end:
        states = cam.runs(folder / "runs")
        if states and states[0].state == "finished":
            break
        time.sleep(0.5)
    run = cam.Run.open(folder / "runs" / "run-1")
    assert len(run.items()) == 3
    assert set(run.scores()["method"]) == {"saliency", "centre"}


def test_no_address_makes_it_import_code(site):
    address = site.partition("/?")[0]
    with Session(address) as session:
        session.visit("model=antigravity:geohash")
        assert "antigravity" in read_text(session)
        assert len(session.read_viewers()) == 1, "the default model is shown in its place"


@pytest.mark.parametrize(
    ("models", "data", "sentence"),
    [
        ({"efficientnet_lite0": nn.Identity()}, {}, "means another model already"),
        ({"a/b": nn.Identity()}, {}, "means another model already"),
        ({"os:system": nn.Identity()}, {}, "means another model already"),
        ({"": nn.Identity()}, {}, "a name is a text"),
        ({"x" * 81: nn.Identity()}, {}, "a name is a text"),
        ({"mine": torch.zeros(1)}, {}, "is a Tensor, and not a cam.Model"),
        ({"mine": "torchvision/resnet18"}, {}, "is a str, and not a cam.Model"),
        ({}, {"photos": "/nowhere/at/all"}, "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(models, data, sentence):
    with pytest.raises(cam.CamError, match=sentence):
        launch.serve(models, data, port=0, block=False)
    assert served.models.list_names() == () and served.data.list_names() == ()


def test_a_port_that_is_taken_is_one_sentence(site):
    port = int(site.partition("/?")[0].rpartition(":")[2])
    with pytest.raises(cam.InputError, match=f"cannot listen at localhost:{port}"):
        launch.serve({"mine": nn.Identity()}, port=port, block=False)
    assert served.models.list_names() == (), "nothing is left half done"


def test_a_name_that_was_not_served_is_a_sentence():
    with pytest.raises(cam.DataError, match="was not started with the data 'photos'"):
        served.open_data("served:photos")
    with pytest.raises(cam.ModelError, match="imports no code that a visitor names"):
        served.refuse_code("os:system")


def test_the_command_line_serves_a_project(tmp_path):
    wrong = tmp_path / "cam.toml"
    wrong.write_text("[models.x]\nlod = 'y'\n")
    words = [sys.executable, "-m", "cam", "dashboard", str(wrong)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "has no 'lod'" in done.stderr
    wrong.write_text("[models.second]\nload = 'efficientnet_lite2'\n")
    port = launch._find_port("localhost", 0)
    with subprocess.Popen([*words, "--port", str(port)], cwd=ROOT) as process:
        try:
            address = f"http://localhost:{port}"
            wait_until_healthy(address)
            with Session(address) as session:
                session.visit("model=second")
                assert "second" in read_text(session)
                assert session.read_viewers()[0]["grid"] == [260, 260]
        finally:
            process.terminate()


def wait_until_healthy(address: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
            return
        time.sleep(0.2)
    raise AssertionError(f"nothing answers at {address}")


def test_start_is_there():
    assert Path(launch.START).is_file()
