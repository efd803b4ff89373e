"""Run mypy over the packages as they are installed.

In the checkout ``kernels/`` and ``pages/`` lie beside ``cam/``, installed they lie inside it. mypy
reads folders and knows nothing of this, so it is given a folder of links with the installed tree.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREE = ROOT / ".mypy_cache" / "installed"


def main() -> int:
    """Link the tree, then check it; arguments are mypy's."""
    package = TREE / "cam"
    package.mkdir(parents=True, exist_ok=True)
    for link in (*package.iterdir(), TREE / "benchmarks"):
        link.unlink(missing_ok=True)
    for source in (ROOT / "cam").iterdir():
        if source.name != "__pycache__":
            (package / source.name).symlink_to(source)
    for name in ("kernels", "pages"):
        (package / name).symlink_to(ROOT / name)
    (TREE / "benchmarks").symlink_to(ROOT / "benchmarks")
    mypy = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    packages = ["-p", "cam", "-p", "benchmarks"]
    environment = os.environ | {"MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")}
    return subprocess.run([*mypy, *packages, *sys.argv[1:]], cwd=TREE, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
