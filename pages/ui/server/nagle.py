"""Let the server's answers go out at once.

Nagle's algorithm holds a small packet back until the one before it is acknowledged, and the other
side acknowledges late: 40 milliseconds for each file that a browser asks for and for each part of a
page. asyncio turns it off on sockets of IPPROTO_TCP; Streamlit binds one without a protocol.
"""

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

# Linux and macOS list a process's open files there.
_OPEN_FILES = Path("/dev/fd")


def disable_nagle() -> int:
    """Turn off Nagle's algorithm on every socket that listens.

    What such a socket accepts takes it over, connections that are open already do not.

    Returns:
        How many sockets listen.
    """
    changed = 0
    for path in list(_OPEN_FILES.iterdir()) if _OPEN_FILES.is_dir() else ():
        # The list's own file is closed by now, and others come and go in other threads.
        with suppress(OSError):
            changed += _disable_on(int(path.name))
    return changed


def _disable_on(number: int) -> bool:
    """Turn it off on an open file if that is a TCP socket which listens."""
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        return False
    opened = socket.socket(fileno=number)
    try:
        internet = opened.family in (socket.AF_INET, socket.AF_INET6)
        if not internet or not opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True
    finally:
        # The file is another's, and stays open.
        opened.detach()
