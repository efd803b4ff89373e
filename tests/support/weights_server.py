"""Serve weights on this machine: whole, broken off, silent, or missing."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

# Or "RepoNotFound", "GatedRepo".
MISSING = "EntryNotFound"


class WeightsServer(ThreadingHTTPServer):
    """Serves one content under each address that ends in one of the names.

    Attributes:
        trouble: "" or "breaks off", "falls silent", "is not there".
        others: Further files, by the ends of their addresses.
        wait: Called after each piece of what is sent.
        requests: Every request, as "GET /address".
    """

    daemon_threads = True

    def __init__(self, content: bytes, names: tuple[str, ...]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.content, self.names = content, names
        self.others: dict[str, bytes] = {}
        self.trouble, self.requests = "", []
        self.wait = lambda: None
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def find_content(self, path: str) -> bytes | None:
        if path == "/":
            return b""
        for end, content in self.others.items():
            if path.endswith(end):
                return content
        there = self.trouble != "is not there" and path.endswith(self.names)
        return self.content if there else None

    def handle_error(self, *_):
        """A client that hangs up is what some of the tests do."""


class _Answer(BaseHTTPRequestHandler):
    server: WeightsServer

    def do_HEAD(self):
        self._answer(with_content=False)

    def do_GET(self):
        self._answer(with_content=True)

    def _answer(self, with_content: bool) -> None:
        server = self.server
        server.requests.append(f"{self.command} {self.path}")
        content = server.find_content(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            # As the hub says that there is no such file.
            self.send_header("X-Error-Code", MISSING)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if not with_content:
            return
        end = len(content) // 2 if server.trouble else len(content)
        for start in range(0, end, 1 << 16):
            self.wfile.write(content[start : min(start + (1 << 16), end)])
            server.wait()
        if server.trouble == "falls silent":
            server.closing.wait(20)
        self.close_connection = True

    def log_message(self, *_):
        """Tests are quiet."""


@contextmanager
def serving(content: bytes, *names: str) -> Iterator[WeightsServer]:
    server = WeightsServer(content, names)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def random_state(module: torch.nn.Module, seed: int = 5) -> dict[str, torch.Tensor]:
    """Weights that nobody published, of the module's shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator).abs().mul_(0.1)
        if value.is_floating_point()
        else value.clone()
        for key, value in module.state_dict().items()
    }


def as_hub(server: WeightsServer, monkeypatch) -> None:
    """Let the hub's client of this process ask this server."""
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)


def without_weights(monkeypatch, folder: Path) -> None:
    """No weights that an earlier download left on this machine, and no proxy."""
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
