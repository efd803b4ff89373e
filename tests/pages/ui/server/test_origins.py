"""Other sites' pages reach neither the socket nor uploads."""

import base64
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests

from benchmarks.visitors.session import Session
from cam.pages.ui.server.launch import _find_port
from tests.pages.ui.server.test_launch import wait_until_healthy
from tests.support.checkout import ROOT


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    number = _find_port("localhost", 0)
    words = [sys.executable, "-m", "cam", "dashboard", "--port", str(number)]
    with subprocess.Popen(words, cwd=ROOT, env=dict(os.environ)) as process:
        try:
            wait_until_healthy(f"http://localhost:{number}")
            yield number
        finally:
            process.terminate()


def ask_for_socket(port: int, host: str, origin: str | None) -> int:
    """Return the status of a WebSocket's handshake; 101 is a socket."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("GET", "/_stcore/stream", skip_host=True)
    headers = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "streamlit",
    }
    for name, value in (headers | ({"Origin": origin} if origin else {})).items():
        connection.putheader(name, value)
    connection.endheaders()
    status = connection.sock.recv(64).split()[1]
    connection.close()
    return int(status)


def test_its_own_page_gets_a_socket(port):
    here = f"localhost:{port}"
    assert ask_for_socket(port, here, f"http://{here}") == 101
    assert ask_for_socket(port, here, None) == 101


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example:{port}",
        "null",
        "file://",
        "http://localhost@evil.example",
    ],
)
def test_another_sites_page_gets_no_socket(port, origin):
    assert ask_for_socket(port, f"localhost:{port}", origin.format(port=port)) == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost.evil.example"])
def test_a_name_that_was_bent_to_this_server_gets_no_socket(port, host):
    """A page of evil.example, whose name is made to lead here (DNS rebinding)."""
    name = host.format(port=port)
    assert ask_for_socket(port, name, f"http://{name}") == 403


def upload(port: int, **request) -> int:
    """Return the status of an upload to a visitor's open field."""
    with Session(f"http://localhost:{port}") as session:
        session.visit("image=coffee")
        address = session.ask_for_upload("cat.png")
        url = f"http://localhost:{port}{address.upload_url}"
        files = {"file": ("cat.png", b"\x89PNG")}
        return requests.put(url, files=files, timeout=60, **request).status_code


def test_an_upload_needs_what_only_its_own_page_knows(port):
    token = requests.get(f"http://localhost:{port}/_stcore/health", timeout=60).cookies
    proof = {"X-Xsrftoken": token["_streamlit_xsrf"]}
    assert upload(port, cookies=token, headers=proof) in (200, 204)
    assert upload(port) == 403
    assert upload(port, cookies=token) == 403, "a cookie alone is what a browser sends for anybody"
    assert upload(port, headers=proof) == 403
    assert upload(port, cookies=token, headers={"X-Xsrftoken": "2|00000000|00|1"}) == 403


def test_what_was_uploaded_cannot_be_read_back(port):
    """Nor with the address and the token of the visitor who gave it."""
    secret = b"what only this visitor has"
    with Session(f"http://localhost:{port}") as session:
        session.visit("image=coffee")
        url = f"http://localhost:{port}{session.ask_for_upload('cat.png').upload_url}"
        cookies = requests.get(f"http://localhost:{port}/_stcore/health", timeout=60).cookies
        proof = {"X-Xsrftoken": cookies["_streamlit_xsrf"]}
        more = {"cookies": cookies, "headers": proof, "timeout": 60}
        assert requests.put(url, files={"file": ("cat.png", secret)}, **more).ok
        assert secret not in requests.get(url, **more).content
