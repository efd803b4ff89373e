"""A server that is stopped at work ends well."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cam
from benchmarks.visitors.run import start_run
from cam.pages.ui.server.launch import _find_port
from tests.pages.ui.server.test_launch import wait_until_healthy
from tests.support.checkout import ROOT

PATIENCE = 240


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_during_a_run_ends_well(tmp_path, number):
    port = _find_port("localhost", 0)
    log = tmp_path / "log.txt"
    words = [sys.executable, "-m", "cam.pages.ui.server.serve", "dashboard.py"]
    environment = os.environ | {"CAM_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "2"}
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*words, "--server.port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_until_healthy(f"http://localhost:{port}")
            start_run(f"http://localhost:{port}")
            path = wait_for_run(tmp_path / "runs")
            process.send_signal(number)
            assert process.wait(PATIENCE) == 0, log.read_text()
        finally:
            process.kill()
    assert "terminate called" not in log.read_text()
    # Nothing is half done: what is stored is whole.
    assert cam.Run.open(path).done < cam.Run.open(path).total


def wait_for_run(folder: Path) -> Path:
    """Wait until a run is at work."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for file in folder.glob("*/log.txt"):
            if "started with" in file.read_text():
                return file.parent
        time.sleep(0.1)
    raise AssertionError("no run has started")
