"""Write the tested versions with their hashes, and whose licences they have.

``make lock`` asks pip what it would install for requirements.txt, and installs nothing. It writes
``requirements.lock`` (``pip install --require-hashes -r requirements.lock``) and
``docs/dependencies.md``. Hashes are those of the files for this machine's Python and system.
"""

import json
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK, TABLE = ROOT / "requirements.lock", ROOT / "docs" / "dependencies.md"
LONGEST_NAME = 60


def ask_pip(requirements: Path) -> list[dict[str, Any]]:
    """Return what pip would install, without installing it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        words = [sys.executable, "-m", "pip", "install", *options, "-r", str(requirements)]
        subprocess.run(words, cwd=ROOT, check=True)
        packages: list[dict[str, Any]] = json.loads(report.read_text())["install"]
    return sorted(packages, key=lambda package: normalise(package["metadata"]["name"]))


def normalise(name: str) -> str:
    """Write a package's name as indices do (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_licence(name: str) -> str:
    """Return the licence that an installed package names."""
    facts = metadata(name)
    if facts.get("License-Expression"):
        return str(facts["License-Expression"])
    classifiers = [
        text.rsplit(" :: ", 1)[1]
        for text in facts.get_all("Classifier") or []
        if text.startswith("License ::") and text.count("::") > 1
    ]
    if classifiers:
        return ", ".join(classifiers)
    # Some put the whole text there.
    named = str(facts.get("License") or "").strip().splitlines()
    if named and named[0] != "UNKNOWN" and len(named[0]) <= LONGEST_NAME:
        return named[0]
    return "not named in its metadata"


def write_lock(packages: list[dict[str, Any]]) -> str:
    """Write each version with the hash of its file."""
    python = ".".join(platform.python_version_tuple()[:2])
    lines = [
        f"# Made by `make lock` for Python {python} on {platform.system()} {platform.machine()}:",
        "# pip install --require-hashes -r requirements.lock",
    ]
    for package in packages:
        name, version = normalise(package["metadata"]["name"]), package["metadata"]["version"]
        digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
        lines += [f"{name}=={version} \\", f"    --hash=sha256:{digest}"]
    return "\n".join(lines) + "\n"


def write_table(packages: list[dict[str, Any]]) -> str:
    """Write whose licence each package has."""
    rows = [
        f"| {normalise(package['metadata']['name'])} | {package['metadata']['version']} "
        f"| {read_licence(package['metadata']['name'])} |"
        for package in packages
    ]
    head = [
        "# Dependencies and their licences",
        "",
        "What `requirements.txt` installs, in the versions that were tested; made by `make lock`, "
        "from what each package says of itself. NVIDIA's libraries come with torch, which works "
        "without them on a CPU.",
        "",
        "| package | version | licence |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*head, *rows]) + "\n"


def main() -> None:
    """Write both files."""
    packages = ask_pip(ROOT / "requirements.txt")
    LOCK.write_text(write_lock(packages))
    TABLE.write_text(write_table(packages))


if __name__ == "__main__":
    main()
