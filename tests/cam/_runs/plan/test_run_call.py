"""Start runs again from their folder; list runs; take parts of them."""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import cam
from cam._cli.commands import main
from cam._data.dataset import require_inside
from cam._runs.plan.run_call import Call
from cam._runs.results.run_states import read_state, runs
from tests.support.checkout import ROOT
from tests.support.stand_in import Drop, Inside, network

ARGUMENTS = {"methods": ["gradcam", "saliency"], "metrics": ["grid_pointing_game", "sparseness"]}


def scores(run: cam.Run) -> bytes:
    table = run.scores()
    text = table[["item", "id", "method", "metric", "status", "reason"]].astype(str).to_csv()
    return table["value"].to_numpy().tobytes() + text.encode()


def stop_after(images: int):
    return lambda progress: progress.done < images


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> cam.Run:
    out = tmp_path_factory.mktemp("runs") / "whole"
    model = cam.load_model("efficientnet_lite0")
    data = cam.dataset("photo-grid", size=8, seed=3)
    return cam.evaluate(
        model, data, out=out, shard_size=2, baselines="centre", limit=6, **ARGUMENTS
    )


@pytest.fixture
def stopped(tmp_path) -> Path:
    out = tmp_path / "stopped run"
    with pytest.raises(cam.Cancelled):
        cam.evaluate(
            cam.load_model("efficientnet_lite0"),
            cam.dataset("photo-grid", size=8, seed=3),
            out=out,
            shard_size=2,
            baselines="centre",
            limit=6,
            progress=stop_after(2),
            **ARGUMENTS,
        )
    return out


def test_a_stopped_run_is_resumed_from_its_folder_alone(stopped, whole):
    assert (read_state(stopped).state, read_state(stopped).done) == ("stopped", 2)
    assert scores(cam.resume(stopped)) == scores(whole)
    assert read_state(stopped).state == "finished"


def test_its_command_goes_on_with_it(stopped, whole):
    words = shlex.split(cam.Run.open(stopped).call.command(str(stopped)))
    assert words[:4] == ["python", "-m", "cam", "evaluate"]
    result = CliRunner().invoke(main, words[3:])
    assert result.exit_code == 0, result.output
    assert scores(cam.Run.open(stopped)) == scores(whole)


def test_its_python_goes_on_with_it(stopped, whole):
    exec(cam.Run.open(stopped).call.python(str(stopped)), {})
    assert scores(cam.Run.open(stopped)) == scores(whole)


def test_parameters_and_files_come_back(tmp_path):
    """Whatever was given is in the command and in the code, and makes the same call again."""
    cam.sample("coffee").save(tmp_path / "a cup.png")
    model = cam.load_model("efficientnet_lite0")
    run = cam.evaluate(
        model,
        str(tmp_path),
        [cam.method("smoothgrad", samples=2), "gradcam"],
        [cam.metric("deletion", steps=2)],
        tmp_path / "run",
        layers="blocks.4",
        targets="predicted",
        heatmaps=0,
    )
    call = run.call
    assert Call.of_facts(call.facts()) == call
    assert "'smoothgrad(samples=2)'" in call.command("x") and "--layer blocks.4" in call.command(
        "x"
    )
    assert "cam.metric('deletion', steps=2)" in call.python("x")
    assert call.data.source == str(tmp_path)
    again = CliRunner().invoke(main, shlex.split(call.command(str(run.path)))[3:])
    assert again.exit_code == 0, again.output


def test_what_was_in_memory_is_asked_for_again(tmp_path):
    choices = {"methods": ["gradcam"], "metrics": [Inside(), Drop()]}
    run = cam.evaluate(
        network(), cam.dataset("photo-grid", size=2), out=tmp_path / "run", **choices
    )
    with pytest.raises(cam.RunError, match="does not say how it was started"):
        cam.resume(run.path)


def test_random_weights_go_on_only_with_the_model_itself(tmp_path):
    model = cam.load_model("torchvision/squeezenet1_1", weights=None)
    data = cam.dataset("photo-grid", size=4)
    options = {"methods": ["saliency"], "metrics": ["sparseness"], "shard_size": 2}
    with pytest.raises(cam.Cancelled):
        cam.evaluate(model, data, out=tmp_path / "run", progress=stop_after(2), **options)
    with pytest.raises(cam.RunError, match=r"model\.weights"):
        cam.resume(tmp_path / "run")
    assert cam.resume(tmp_path / "run", model=model).done == 4


# A folder of runs


HOLD = """
import sys, time
from pathlib import Path
from cam._runs.storage.store import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_runs_of_a_folder_and_what_they_are_doing(stopped, whole):
    folder = stopped.parent
    (folder / "other").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text('{"config": ')
    states = {state.name: state for state in runs(folder)}
    assert set(states) == {"stopped run", "broken"}
    assert states["broken"].state == "damaged" and "is damaged" in states["broken"].problem
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(stopped)], stdout=subprocess.PIPE, cwd=ROOT
    ) as holding:
        holding.stdout.readline()
        state = read_state(stopped)
        assert state.state == "running" and state.holder.startswith(f"process {holding.pid} on")
        assert state.images_per_second > 0 and state.seconds_left > 0
        with pytest.raises(cam.RunError, match=f"is being written by process {holding.pid}"):
            cam.resume(stopped)
        holding.kill()
    assert read_state(stopped).state == "stopped"
    assert runs(folder / "nowhere") == []
    assert read_state(whole.path).state == "finished"


# Parts of a run


def test_some_images_only(whole):
    """Every number is that of the rows that pandas keeps."""
    items, every = whole.items(), whole.scores()
    part = whole.only({"class": "espresso"})
    espressos = items[items["label"] == "espresso"]["item"]
    assert 0 < len(espressos) < 6
    expected = every[every["item"].isin(espressos)]
    assert part.scores()["value"].tolist() == expected["value"].tolist()
    board = part.leaderboard().set_index(["method", "metric"])
    for keys, rows in expected.groupby(["method", "metric"], observed=True):
        assert board.loc[keys, "mean"] == pytest.approx(rows["value"].mean(), rel=1e-6)
        assert board.loc[keys, "n"] == len(espressos)
    confident = items["confidence"].between(0, 0.25, inclusive="left")
    two = whole.only({"correct": "wrong"}).only({"confidence": "0.00–0.25"})
    assert two.items()["item"].tolist() == items[confident & ~items["correct"]]["item"].tolist()
    assert whole.ranks("sparseness")["n"] == 6 and part.ranks("sparseness")["n"] == len(espressos)
    with pytest.raises(cam.RunError, match="cannot be taken apart by 'size'"):
        whole.only({"size": "1"})


@pytest.mark.parametrize("worst", [False, True], ids=["best first", "worst first"])
def test_images_in_order(whole, worst):
    values = whole.values("grid_pointing_game")["saliency"].sort_values(ascending=worst)
    rows = whole.ordered("grid_pointing_game", "saliency", worst=worst, start=2, count=3)
    assert rows["item"].tolist() == values.index[2:5].tolist()
    assert rows["value"].tolist() == values.iloc[2:5].tolist()
    with pytest.raises(cam.RunError, match="no method 'salience'; did you mean 'saliency'"):
        whole.ordered("grid_pointing_game", "salience")


# Data that may be read


def test_paths_that_lead_outside_are_refused(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "in", outside):
        folder.mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to(root / "loop")
    (root / "own").symlink_to(root / "in")
    assert require_inside(root / "own", [root]) == (root / "in").resolve()
    assert require_inside(root, [outside, root]) == root.resolve()
    for wrong in (root / ".." / "outside", root / "link", outside, root / "nul\0", "/etc"):
        with pytest.raises(cam.DataError, match="outside of the folders that are allowed here"):
            require_inside(wrong, [root])
    with pytest.raises(cam.DataError):
        require_inside(tmp_path / "root-too", [root])


def test_pictures_and_masks_that_lead_outside_are_not_read(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    cam.sample("coffee").save(root / "cup.png")
    cam.sample("rocket").save(tmp_path / "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    mask = Image.fromarray(np.full((400, 600), 255, np.uint8))
    mask.save(tmp_path / "mask.png")
    rows = ["path,mask", "cup.png,", "../secret.png,", "link.png,", "cup.png,../mask.png"]
    (root / "list.csv").write_text("\n".join(rows))
    data = cam.dataset(root / "list.csv")
    assert [item.image.size for item in list(data)[:3]] == [(600, 400), *[data[1].image.size] * 2]
    data.roots = (root,)
    assert data[0].image.size == (600, 400)
    for number in (1, 2, 3):
        with pytest.raises(cam.DataError, match="outside of the folders"):
            data[number]
    with pytest.raises(cam.DataError, match="outside of the folders"):
        data.limit(2)[1]
