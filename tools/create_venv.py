"""Make a virtual environment, or say what the machine lacks for it.

Debian's python3 has no ``ensurepip`` until python3-venv is there, and its own message for that is
ten lines long. Root gets the package installed; anybody else reads the command.
"""

import os
import subprocess
import sys
import venv
from importlib.util import find_spec

OLDEST = (3, 11)


def main(folder: str) -> None:
    """Create ``folder`` as a virtual environment with pip."""
    if sys.version_info < OLDEST:
        version = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"Python 3.11 or newer is needed, this is {version}; try: make PYTHON=python3.12")
    if find_spec("ensurepip") is None:
        command = ["apt-get", "install", "-y", "python3-venv"]
        if os.geteuid() != 0:
            sys.exit(f"Python's venv module is not complete here; run: sudo {' '.join(command)}")
        subprocess.run(["apt-get", "update"], check=True)
        subprocess.run(command, check=True)
    # --clear: what an interrupted earlier attempt left is not trusted.
    venv.main(["--clear", folder])


if __name__ == "__main__":
    main(sys.argv[1])
