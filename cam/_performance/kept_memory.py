"""Keep a process's freed memory for its next batch (glibc)."""

import ctypes
import sys
from functools import cache

from cam.errors import InputError

# glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
# `mallopt` takes a C int.
_LARGEST = 2**31 - 1
_PAD = 64 * 2**20


@cache
def keep_memory(limit: int = _LARGEST) -> bool:
    """Keep this process's freed memory instead of returning it.

    Activations are large, so glibc gives each one back to the system when it is freed, and the next
    forward pass takes it again page by page: 600,000 page faults for one batch of 32 images. This
    keeps freed memory in the process, in one arena that all threads share. The command line, the
    dashboard and the workers of runs do it themselves; a program that calls this library decides
    for itself, and best at its start. It holds until the process ends.

    Args:
        limit: Bytes, at most 2 GiB: more free memory than this at the end of the heap is returned,
            which bounds what a large batch leaves behind.

    Returns:
        Whether the C library does so; False, and nothing changed, where it is not glibc.

    Raises:
        InputError: The limit is not between 0 and 2 GiB.
    """
    if not 0 <= limit <= _LARGEST:
        raise InputError(f"limit is {limit} bytes, but must be between 0 and {_LARGEST}")
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    options = {
        # No separate block for a large tensor: it would be returned when freed.
        _MMAP_MAX: 0,
        _TRIM_THRESHOLD: limit,
        # What the heap grows by beyond the request, and what trimming leaves.
        _TOP_PAD: min(_PAD, limit),
        # What another thread's arena keeps, none else could use.
        _ARENA_MAX: 1,
    }
    accepted = [library.mallopt(option, value) for option, value in options.items()]
    return all(accepted)
