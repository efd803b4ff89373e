"""Checkpoints of Hugging Face on the command line: explained, measured, resumed."""

import json

import pytest
from click.testing import CliRunner

import cam
from cam._cli.commands import main
from tests.support.hub_checkpoints import NAMES, save_checkpoint
from tests.support.image_text_checkpoints import PROMPTS, save_image_text


@pytest.fixture(scope="module")
def name(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("checkpoints") / "small"
    save_checkpoint(folder, "vit")
    return f"hf/{folder}"


def call(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_explain_takes_a_folder_and_its_labels(name, tmp_path):
    words = ("--model", name, "--method", "gradcam", "--target", "owl", "--out", str(tmp_path))
    [record] = json.loads(call("explain", "sample:chelsea", *words, "--json"))
    assert record["target"]["label"] == "owl" and list(tmp_path.glob("*.png"))
    listed = json.loads(call("layers", "--model", name, "--json"))
    assert [layer["name"] for layer in listed if layer["preset"]] == record["layers"]


def test_a_run_is_written_and_its_call_loads_the_same_model(name, tmp_path):
    for label in ("cat", "owl"):
        (tmp_path / "data" / label).mkdir(parents=True)
        cam.sample("chelsea").resize((120, 90)).save(tmp_path / "data" / label / "a.png")
    out = str(tmp_path / "run")
    words = ("--model", name, "--method", "gradcam", "--metric", "sparseness", "--out", out)
    call("evaluate", str(tmp_path / "data"), *words)
    run = cam.Run.open(out)
    # The classes of the folders, found by the labels of the checkpoint.
    assert sorted(run.items()["target"]) == [0, 2]
    assert run.call.load_model().labels == tuple(NAMES.values())
    # As it stands there, again: nothing is left to do.
    call(*run.call.command(out).replace("python -m cam ", "", 1).split())


def test_prompts_are_the_classes(tmp_path):
    save_image_text(tmp_path / "clip", "clip")
    words = ("--model", f"hf/{tmp_path / 'clip'}", "--method", "gradcam", "--out", str(tmp_path))
    prompts = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    output = call("explain", "sample:chelsea", *words, *prompts, "--target", PROMPTS[1], "--json")
    [record] = json.loads(output)
    assert record["target"]["label"] == PROMPTS[1]
    done = CliRunner().invoke(main, ["explain", "sample:chelsea", *words])
    assert done.exit_code == 1 and "--prompt on the command line" in done.stderr


@pytest.mark.parametrize("missing", ["hf/no such folder", "hf/"])
def test_an_impossible_name_is_one_sentence(missing):
    done = CliRunner().invoke(main, ["explain", "sample:chelsea", "--model", missing])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: there is no folder") and done.stderr.count("\n") == 1
