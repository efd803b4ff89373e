"""The lock pins what the requirements ask for, with hashes."""

import re
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from tests.support.checkout import ROOT

PIN = re.compile(r"^([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:([0-9a-f]{64})$", re.MULTILINE)
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = {name: version for name, version, _ in PIN.findall(LOCK)}


def read_requirements(path: Path) -> list[Requirement]:
    """The requirements of a file, and of those that it names."""
    requirements: list[Requirement] = []
    for line in path.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            requirements += read_requirements(path.parent / text.removeprefix("-r "))
        elif text:
            requirements.append(Requirement(text))
    return requirements


REQUIREMENTS = read_requirements(ROOT / "requirements.txt")


def test_every_line_is_a_pin_with_its_hash():
    lines = LOCK.splitlines()
    assert sum(not line.startswith("#") for line in lines) == 2 * len(PINNED) > 100


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_a_requirement_is_pinned_within_its_bounds(requirement):
    environment = default_environment() | {"platform_system": "Linux"}
    if requirement.marker is not None and not requirement.marker.evaluate(environment):
        pytest.skip("it is not for Linux")
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    assert requirement.specifier.contains(PINNED[name], prereleases=True)


def test_every_pin_has_its_licence_listed():
    table = (ROOT / "docs" / "dependencies.md").read_text()
    listed = dict(re.findall(r"^\| ([a-z0-9-]+) \| (\d\S*) \|", table, re.MULTILINE))
    assert listed == PINNED
