"""README.md says what is so: its code runs, its commands exist."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import cam
from cam._cli.commands import main
from cam._media.video import write_video
from tests.support.checkout import ROOT
from tests.support.markdown import code_blocks

README = (ROOT / "README.md").read_text()


def block(language: str, number: int = 0) -> str:
    return code_blocks(README, language)[number]


def test_the_python_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(block("python"), {})
    with Image.open("why-a-cat.png") as picture:
        assert min(picture.size) > 200


COMMANDS = [
    shlex.split(line.split("#")[0].removeprefix("python -m cam "))
    for line in block("sh", 1).splitlines()
    if line.startswith("python -m cam") and "torchvision/resnet50 --target" not in line
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One for all: a command may read what one above it wrote."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_the_commands_run(words, folder, monkeypatch, photos):
    monkeypatch.chdir(folder)
    photos[0].save("cat.jpg")
    Path("walk.mp4").write_bytes(write_video([photos[0].resize((320, 240))] * 2, [40, 40]))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output


def test_every_method_is_named_and_counted():
    named = set(
        re.findall(r"`(\w+)`", README[README.index("| family") : README.index("A method takes")])
    )
    assert named == set(cam.methods())
    counts = {int(number) for number in re.findall(r"(\d+) (?:attribution )?methods\b", README)}
    assert counts == {len(cam.methods())}


def test_every_family_of_metrics_is_named():
    [(least, families)] = re.findall(r"more than (\d+) metrics of ([^.]*?),\s+NaN", README)
    assert len(cam.metrics()) > int(least)
    assert set(re.findall(r"\w+", families)) - {"and"} == {
        info.family for info in cam.metrics().values()
    }


def test_the_two_commands_are_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for line in block("sh").splitlines():
        target = line.split("#")[0].split()[1]
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
