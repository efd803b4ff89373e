"""Test that what a listening socket accepts has no Nagle's algorithm."""

import socket
from pathlib import Path

from cam.pages.ui.server.nagle import disable_nagle


def has_nagle(opened: socket.socket) -> bool:
    return not opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_only_sockets_that_listen_change():
    with socket.socket() as listening, socket.socket() as client, socket.socket() as idle:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert has_nagle(listening)
        assert disable_nagle() >= 1
        client.connect(listening.getsockname())
        accepted, _ = listening.accept()
        with accepted:
            assert not has_nagle(accepted)
        assert has_nagle(client)
        assert has_nagle(idle)


def test_no_file_stays_open(tmp_path):
    with (tmp_path / "log").open("w"), socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        before = len(list(Path("/dev/fd").iterdir()))
        for _ in range(5):
            disable_nagle()
        assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_process_without_a_server_is_left_alone():
    opened, other = socket.socketpair()
    with opened, other:
        before = disable_nagle()
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            assert disable_nagle() == before + 1
        opened.sendall(b"open still")
        assert other.recv(16) == b"open still"
