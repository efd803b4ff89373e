"""The files of Docker fit what they copy and start."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from cam.pages.ui.server.launch import _find_port
from tests.pages.ui.server.test_launch import wait_until_healthy
from tests.pages.ui.server.test_origins import ask_for_socket
from tests.support.checkout import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
# Lines that go on are one.
LINES = DOCKERFILE.replace("\\\n", " ").splitlines()


def read_arguments(word: str) -> list[str]:
    """The arguments of each line that begins with a word."""
    return [line.removeprefix(word).strip() for line in LINES if line.startswith(f"{word} ")]


def test_what_is_copied_is_part_of_the_checkout_and_sent_to_docker():
    sources = [name for line in read_arguments("COPY") for name in line.split()[:-1]]
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(sources) >= 8
    for name in sources:
        assert f"!{name}" in sent, name
        assert any(path == name or path.startswith(f"{name}/") for path in tracked), name


def test_the_requirements_are_those_of_the_extras_and_of_the_core():
    installed = set(re.findall(r"requirements/\w+\.txt", DOCKERFILE))
    assert all((ROOT / name).is_file() for name in installed)
    assert {"requirements/core.txt", "requirements/dashboard.txt"} < installed


def test_it_runs_as_nobody_special_and_starts_the_server_in_place_of_a_shell():
    (user,) = read_arguments("USER")
    assert user not in ("root", "0")
    (command,) = read_arguments("CMD")
    assert json.loads(command)[:4] == ["python", "-m", "cam", "dashboard"]


def test_the_services_use_what_the_image_has():
    dashboard, proxy = COMPOSE["services"]["dashboard"], COMPOSE["services"]["proxy"]
    targets = [volume.split(":")[1] for volume in dashboard["volumes"]]
    assert targets == ["/runs", "/data"]
    (environment,) = read_arguments("ENV")[1:]
    assert "CAM_RUNS=/runs" in environment and "CAM_DATA_ROOTS=/data" in environment
    (port,) = read_arguments("EXPOSE")
    assert shlex.split(proxy["command"])[-1] == f"dashboard:{port}"
    named = {volume.split(":")[0] for each in (dashboard, proxy) for volume in each["volumes"]}
    assert {name for name in named if not name.startswith(".")} == set(COMPOSE["volumes"])


@pytest.fixture(scope="module")
def port():
    """A server that is started as the image does, for another host."""
    number = _find_port("localhost", 0)
    (command,) = read_arguments("CMD")
    words = [sys.executable, *json.loads(command)[1:-1], str(number)]
    hosts = COMPOSE["services"]["dashboard"]["environment"]["STREAMLIT_SERVER_ALLOWED_HOSTS"]
    hosts = hosts.replace("${CAM_HOST:-localhost}", "cam.example.com")
    variables = {"STREAMLIT_SERVER_ALLOWED_HOSTS": hosts, "STREAMLIT_SERVER_ADDRESS": "0.0.0.0"}
    with subprocess.Popen(words, cwd=ROOT, env=os.environ | variables) as process:
        try:
            wait_until_healthy(f"http://localhost:{number}")
            yield number
        finally:
            process.terminate()


def test_the_address_of_the_health_check_answers(port):
    (check,) = read_arguments("HEALTHCHECK")
    words = json.loads(check[check.index("[") :])
    program = words[2].replace(":8501/", f":{port}/")
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    # Nor does it say so of a server that is not there.
    silent = program.replace(f":{port}/", f":{_find_port('localhost', 0)}/")
    assert subprocess.run([sys.executable, "-c", silent], check=False).returncode != 0


@pytest.mark.parametrize(
    ("host", "status"),
    [("cam.example.com", 101), ("localhost", 101), ("evil.example", 403)],
)
def test_only_the_hosts_of_compose_get_a_socket(port, host, status):
    assert ask_for_socket(port, host, f"https://{host}") == status
