"""Stream the compile report from another process, entry by entry.

Closing the stream ends it. A server has threads, its own main module and perhaps Triton's
interpreter switched on; none of that may reach the compiler.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

from .entries import Entry
from .report import TARGETS, work


def stream(
    targets: Sequence[str] = TARGETS, kernels: Sequence[str] | None = None
) -> Generator[Entry, None, None]:
    """Compile as :func:`compile_report` does; closing the iterator ends it.

    Args:
        targets: Architectures out of `devices.DEVICES`, such as "sm_90".
        kernels: Names of kernels; None: all.

    Yields:
        One entry for each target and example, as they are done.

    Raises:
        RuntimeError: It could not be compiled here; the message is the compiler's last line.
        ValueError: A target or a kernel is not known.
    """
    work(targets, kernels)
    words = [word for target in targets for word in ("--target", target)]
    words += [word for kernel in kernels or () for word in ("--kernel", kernel)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "cam.kernels.inspection", "--json", *words],
            env={name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"},
            # The checkout, or the folder that the package is installed in.
            cwd=Path(sys.modules["cam"].__path__[0]).parent,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # A separate group, so that its workers end with it.
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield Entry(**json.loads(line))
            if process.wait():
                errors.seek(0)
                lines = errors.read().strip().splitlines() or ["no reason was given"]
                raise RuntimeError(lines[-1])
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdout.close()
