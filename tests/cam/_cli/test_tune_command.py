"""The command that tunes prints what the library returns."""

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from cam._cli.commands import main


@pytest.fixture
def folder(tmp_path):
    """Four pictures that differ."""
    for number in range(4):
        Image.new("RGB", (64, 64), (60 * number, 90, 200 - 40 * number)).save(
            tmp_path / f"{number}.png"
        )
    return tmp_path


def test_tunes_and_prints_json(folder):
    arguments = ["tune", str(folder), "--method", "gradcam", "--metric", "deletion(steps=2)"]
    result = CliRunner().invoke(main, [*arguments, "--budget", "6", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["method"]["name"] == "gradcam" and facts["passes"] >= 6
    assert [row["verdict"] for row in facts["report"]] == ["too few (2 groups)"]
    assert "trying gradcam" in result.stderr


def test_refuses_what_cannot_be_halved(folder):
    for name in ("2.png", "3.png"):
        (folder / name).unlink()
    result = CliRunner().invoke(main, ["tune", str(folder)])
    assert result.exit_code == 1 and "at least 4 independent groups" in result.stderr
