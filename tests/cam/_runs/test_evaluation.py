"""Evaluate: stopped runs end with the same table; failures stay alone."""

import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._runs.engines import run_progress as progress_module
from cam._runs.engines.shard_reader import crop_mask
from cam._runs.storage import store as store_module
from cam._runs.storage.store import Store
from tests.support.checkout import ROOT
from tests.support.stand_in import Broken, Drop, Inside, network

METHODS = ("gradcam", "saliency")


def evaluate(out: Path, data: object = None, model: object = None, **options: object) -> cam.Run:
    options = {"methods": METHODS, "metrics": [Inside(), Drop()], "shard_size": 4} | options
    if data is None:
        data = cam.dataset("photo-grid", size=10)
    return cam.evaluate(model or network(), data, out=out, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> cam.Run:
    return evaluate(tmp_path_factory.mktemp("runs") / "finished")


def test_scores_are_what_the_metrics_say_of_the_maps(finished):
    """The library's own functions, image by image and without a run."""
    model, data = network(), cam.dataset("photo-grid", size=10)
    scores = finished.scores()
    assert len(scores) == 10 * 2 * 2
    assert list(scores.columns) == ["item", "id", "method", "metric", "value", "status", "reason"]
    keys = [(i, m, k) for i in range(10) for m in METHODS for k in ("inside", "drop")]
    assert list(zip(scores["item"], scores["method"], scores["metric"], strict=True)) == keys
    values = scores["value"].to_numpy()
    assert values.dtype == np.float32
    truth = []
    for item in data:
        batch = model.prepare([item.image])
        masks = torch.from_numpy(item.mask[16:240, 16:240].copy())[None]
        maps = cam.attribute(model, batch, METHODS, targets=[item.target])
        for attribution in maps.values():
            for metric in (Inside(), Drop()):
                truth.append(
                    metric.measure(model, batch, attribution, attribution.targets, masks).values
                )
    assert np.allclose(values, torch.cat(truth).numpy(), rtol=1e-4, atol=1e-6)
    assert scores["id"].tolist()[:5] == ["grid-00000"] * 4 + ["grid-00001"]
    assert (scores["status"] == "ok").all()


def test_an_image_is_told_with_its_maps(finished):
    model, data = network(), cam.dataset("photo-grid", size=10)
    image = finished.image(3)
    assert image.facts["id"] == "grid-00003"
    assert image.facts["target"] == data[3].target
    batch = model.prepare([data[3].image])
    chances = model.predict(batch)[0]
    assert image.facts["predicted"] == int(chances.argmax())
    assert image.facts["confidence"] == pytest.approx(float(chances.max()), rel=1e-4)
    assert image.facts["correct"] == (int(chances.argmax()) == data[3].target)
    heatmap = cam.attribute(model, batch, "gradcam", targets=[data[3].target])["gradcam"].heatmap
    blocks = heatmap[0].reshape(56, 4, 56, 4).mean((1, 3)).numpy()
    assert np.abs(image.heatmaps["gradcam"] - blocks).max() <= 0.5 / 255 + 1e-4
    assert list(image.heatmaps) == list(METHODS)
    expected_picture = np.asarray(model.crop(data[3].image).resize((160, 160))).astype(float)
    assert np.abs(np.asarray(image.picture).astype(float) - expected_picture).mean() < 8
    with pytest.raises(cam.RunError, match="the run has no image 10"):
        finished.image(10)


def test_a_run_says_what_determined_it(finished):
    config = json.loads((finished.path / "run.json").read_text())["config"]
    weights = network().module.state_dict()
    truth = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name]
        truth.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        truth.update(value.numpy().tobytes())
    assert config["model"]["weights"] == truth.hexdigest()
    assert config["model"]["name"] == "tiny"
    data = cam.dataset("photo-grid", size=10)
    assert config["data"] == {"items": 10, "fingerprint": data.fingerprint}
    assert [method["name"] for method in config["methods"]] == list(METHODS)
    assert config["metrics"][1]["parameters"] == {"steps": 4}
    assert config["versions"]["torch"] == version("torch")
    assert config["layers"] == ["3"]
    assert config["device"] == "cpu"


def test_costs_are_counted(finished):
    costs = finished.costs()
    maps = costs[costs["metric"].isna()].set_index("method")
    # Three shards, each one forward and one backward that both methods share.
    assert maps["forwards"].to_dict() == {"gradcam": 3, "saliency": 3}
    assert maps["backwards"].to_dict() == {"gradcam": 3, "saliency": 3}
    assert (costs["images"] == 10).all()
    assert (costs["images_per_second"] > 0).all()
    assert len(costs) == 2 + 2 * 2


def test_a_finished_run_is_read_and_not_done_again(finished):
    before = sorted((path, path.stat().st_mtime_ns) for path in finished.path.rglob("*"))
    again = evaluate(finished.path)
    assert sorted((path, path.stat().st_mtime_ns) for path in finished.path.rglob("*")) == before
    assert again.scores().equals(finished.scores())


# Stopped and started again


def stopped_after(shards: int):
    """A progress callback that answers False once a number of shards is done."""
    calls = []

    def report(progress):
        if not progress.measuring:
            calls.append(progress)
        return len(calls) <= shards

    return report


def test_it_is_stopped_within_a_shard_too(tmp_path, monkeypatch, finished):
    """At its first, which is not stored: nothing of it is left, and the run begins again."""
    monkeypatch.setattr(progress_module, "BEAT_SECONDS", 0)
    notes = []

    def stop(progress):
        notes.append(progress.measuring)
        return len(notes) < 4

    with pytest.raises(cam.Cancelled):
        evaluate(tmp_path / "run", progress=stop)
    assert notes[:2] == ["", "counting passes"] and len(notes) == 4
    assert cam.Run.open(tmp_path / "run").done == 0
    assert scores_bytes(evaluate(tmp_path / "run")) == scores_bytes(finished)


def scores_bytes(run: cam.Run) -> bytes:
    scores = run.scores()
    names = scores[["item", "method", "metric", "status", "reason"]].astype(str).to_csv()
    return scores["value"].to_numpy().tobytes() + names.encode()


@pytest.mark.parametrize("shards", [0, 1, 2])
def test_a_stopped_run_goes_on(tmp_path, finished, shards):
    with pytest.raises(cam.Cancelled, match=f"after {shards * 4} of 10 images"):
        evaluate(tmp_path / "run", progress=stopped_after(shards))
    partial = cam.Run.open(tmp_path / "run")
    assert (partial.done, partial.total) == (shards * 4, 10)
    if shards:
        assert len(partial.scores()) == shards * 4 * 4
    progress = []
    run = evaluate(tmp_path / "run", progress=progress.append)
    stored = [report.done for report in progress if not report.measuring]
    assert stored == [*range(shards * 4, 10, 4), 10]
    assert progress[0].seconds_left is None
    assert progress[-1].seconds_left == 0
    assert progress[-1].images_per_second > 0
    assert scores_bytes(run) == scores_bytes(finished)
    log = (run.path / "log.txt").read_text()
    assert f"stopped with {shards * 4} of 10 images done" in log
    assert "finished in" in log


def test_ctrl_c_ends_tidily(tmp_path, finished):
    def interrupt(progress):
        if progress.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "run", progress=interrupt)
    assert cam.Run.open(tmp_path / "run").done == 8
    assert not list((tmp_path / "run").rglob(".writing-*"))
    assert scores_bytes(evaluate(tmp_path / "run")) == scores_bytes(finished)


KILLED = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
import cam
from pathlib import Path
from cam._runs.storage import store
from cam._runs.storage.store import locked
from tests.support.stand_in import Drop, Inside, network

kills, out, seed = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
random.seed(seed)

# The lock is reported while another process holds it, and is free as soon as that one is killed.
read, write = os.pipe()
holder = os.fork()
if holder == 0:
    with locked(Path(out)):
        os.write(write, b"x")
        time.sleep(60)
os.read(read, 1)
try:
    cam.evaluate(network(), cam.dataset("photo-grid", size=2), "gradcam", [Drop()], out)
    raise AssertionError("two processes wrote at once")
except cam.RunError as error:
    assert f"is being written by process {holder} on" in str(error), error
os.kill(holder, signal.SIGKILL)
os.waitpid(holder, 0)

data = cam.dataset("photo-grid", size=4 * kills + 8)
told = Path(out + ".told")
told.touch()


def reported():
    whole = told.read_text().rpartition("\\n")[0]
    return int(whole.rpartition("\\n")[2] or 0)


class Writing:
    # Kills this process after a number of steps of storing a shard: five files, and the folder.
    left = None

    def __call__(self, real):
        def step(*arguments):
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*arguments)
            self.left = self.left and self.left - 1
        return step


writing = Writing()
store._write, store._sync_folder = writing(store._write), writing(store._sync_folder)


def live(before, last, steps):
    # Two shards and no third, so that whoever kills it, whenever, never comes too late.
    def report(progress):
        with told.open("a") as file:
            file.write(f"{progress.done}\\n")
        if progress.done > before:
            writing.left = steps
        while not last and progress.done >= before + 4:
            time.sleep(1)
    cam.evaluate(network(), data, ("gradcam", "saliency"), [Inside(), Drop()], out,
                 shard_size=2, progress=report)


# Each is a file of a shard, and the rename comes after them.
tables = len(store.TABLES)
before = killed = 0
while True:
    last = killed == kills
    # Every other one falls in the midst of storing its second shard; the others, at any moment
    # from the first shard's end, for as long as that one took with all that comes before it.
    steps = random.randrange(tables + 1) if killed % 2 and not last else None
    child = os.fork()
    if child == 0:
        live(before, last, steps)
        os._exit(0)
    if not last and steps is None:
        begun = time.monotonic()
        while reported() <= before:
            assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
            time.sleep(0.001)
        time.sleep(random.uniform(0, time.monotonic() - begun))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    stored = cam.Run.open(out).done
    assert stored >= reported() > before, (stored, reported(), before)
    if last:
        assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, status
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    if steps is not None:
        # All files and the rename done, but not told: it counts. Anything less does not.
        assert stored == reported() + 2 * (steps == tables), (stored, reported(), steps)
        assert any(Path(out).rglob(".writing-*")) == (steps < tables), steps
    before = stored
    killed += 1
print(killed)
"""


def killed_run(kills: int, out: Path, seed: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(kills), str(out), str(seed)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(
    "kills", [3, pytest.param(20, marks=pytest.mark.slow)], ids=lambda kills: f"{kills}-kills"
)
def test_killed_at_random_moments_nothing_is_lost_and_nothing_differs(tmp_path, kills):
    images = 4 * kills + 8
    whole = evaluate(tmp_path / "whole", cam.dataset("photo-grid", size=images), shard_size=2)
    assert killed_run(kills, tmp_path / "killed", seed=kills) == kills
    run = cam.Run.open(tmp_path / "killed")
    assert run.done == images
    assert scores_bytes(run) == scores_bytes(whole)
    # The very files are the same, and nothing half written is left.
    name = f"00000000-{images:08d}"
    for folder in (run.path, whole.path):
        assert [path.name for path in (folder / "shards").iterdir()] == [name]
    stored = f"shards/{name}/scores.parquet"
    assert (run.path / stored).read_bytes() == (whole.path / stored).read_bytes()


def test_merging_may_be_killed_too(tmp_path, monkeypatch):
    """Merged, but the parts not yet removed: they count once."""
    with monkeypatch.context() as patch:
        patch.setattr(Store, "clear", lambda self: None)
        run = evaluate(tmp_path / "run")
    names = sorted(path.name for path in (run.path / "shards").iterdir())
    assert names == [
        "00000000-00000004",
        "00000000-00000010",
        "00000004-00000008",
        "00000008-00000010",
    ]
    assert (run.done, len(run.scores())) == (10, 40)
    assert not run.store.merged
    # The same call once more has nothing to do but to tidy up.
    evaluate(tmp_path / "run")
    assert run.store.merged
    assert [path.name for path in (run.path / "shards").iterdir()] == ["00000000-00000010"]


def test_killed_before_merging_it_is_merged_by_the_next_call(tmp_path, monkeypatch, finished):
    with monkeypatch.context() as patch:
        patch.setattr(Store, "merge", lambda self: None)
        run = evaluate(tmp_path / "run")
    assert len(run.store.ranges()) == 3
    with monkeypatch.context() as patch:
        patch.setattr(
            store_module.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(30, ""))
        )
        assert scores_bytes(evaluate(tmp_path / "run")) == scores_bytes(finished)
    evaluate(tmp_path / "run")
    assert run.store.ranges() == [(0, 10)]
    assert scores_bytes(run) == scores_bytes(finished)


def test_a_run_is_read_while_its_shards_are_merged(tmp_path, monkeypatch, finished):
    """The files that were listed are gone when they are opened; the next list has them whole."""
    with monkeypatch.context() as patch:
        patch.setattr(Store, "merge", lambda self: None)
        run = evaluate(tmp_path / "run")
    assert len(run.store.ranges()) == 3
    listed, real = [], Store.files

    def merged_after_the_list(self, table):
        files = real(self, table)
        if not listed:
            self.merge()
        listed.append(table)
        return files

    monkeypatch.setattr(Store, "files", merged_after_the_list)
    assert run.leaderboard().equals(finished.leaderboard())
    assert len(run.store.ranges()) == 1


def test_blocks_begin_at_fixed_items(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "BLOCK_SHARDS", 2)
    run = evaluate(tmp_path / "run", cam.dataset("photo-grid", size=10), shard_size=2)
    names = sorted(path.name for path in (run.path / "shards").iterdir())
    assert names == ["00000000-00000004", "00000004-00000008", "00000008-00000010"]
    assert len(run.scores()) == 40


# Refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("gradcam",)}, "methods: gradcam, saliency → gradcam"),
        ({"metrics": [Inside(), Drop(steps=9)]}, "metrics.drop.parameters.steps: 4 → 9"),
        ({"model": network(1)}, "model.weights: "),
        ({"data": cam.dataset("photo-grid", size=10, seed=1)}, "data.fingerprint: "),
        ({"data": cam.dataset("photo-grid", size=9)}, "data.items: 10 → 9"),
        ({"targets": "predicted"}, "targets: data → predicted"),
        ({"shard_size": 5}, "shard_size: 4 → 5"),
        ({"layers": "1"}, r'layers: \["3"\] → \["1"\]'),
        ({"precision": "bf16"}, "precision: fp32 → bf16"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_configuration_is_refused_and_named(finished, change, message):
    before = (finished.path / "run.json").read_bytes()
    with pytest.raises(cam.RunError, match=message):
        evaluate(finished.path, **change)
    assert (finished.path / "run.json").read_bytes() == before


def test_another_version_is_named(tmp_path, monkeypatch, finished):
    from cam._runs.plan import run_plan

    other = {**run_plan.versions(), "torch": "1.0"}
    monkeypatch.setattr(run_plan, "versions", lambda: other)
    with pytest.raises(cam.RunError, match=rf"versions.torch: {version('torch')} → 1.0"):
        evaluate(finished.path)


def test_a_second_writer_is_told(tmp_path):
    messages = []

    def start_another(progress):
        if progress.done == 4:
            with pytest.raises(cam.RunError) as error:
                evaluate(tmp_path / "run")
            messages.append(str(error.value))

    evaluate(tmp_path / "run", progress=start_another)
    assert f"is being written by process {os.getpid()} on" in messages[0]


@pytest.mark.parametrize("where", ["full", "read-only"])
def test_what_the_disk_refuses_is_one_sentence(tmp_path, monkeypatch, finished, where):
    number, reason = {"full": (28, "No space left on device"), "read-only": (30, "Read-only")}[
        where
    ]
    real = store_module._write
    calls = []

    def refuse(path, content):
        calls.append(path)
        if len(calls) > 8:
            raise OSError(number, f"{reason} …")
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_write", refuse)
        with pytest.raises(cam.RunError, match=f"cannot write into .*: {reason}") as error:
            evaluate(tmp_path / "run")
    assert "what was done before is kept" in str(error.value)
    assert not list((tmp_path / "run").rglob(".writing-*"))
    assert cam.Run.open(tmp_path / "run").done == 4
    assert scores_bytes(evaluate(tmp_path / "run")) == scores_bytes(finished)


def test_a_folder_with_other_things_is_no_run(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(cam.RunError, match="a folder with other things in it"):
        evaluate(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(cam.RunError, match="cannot write into"):
        evaluate(tmp_path / "mine.txt" / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": []}, "at least one"),
        ({"methods": "gradcan"}, "no method 'gradcan'"),
        ({"engine": "cloud"}, "no engine 'cloud'"),
        ({"shard_size": 0}, "shard_size must be"),
        ({"heatmaps": -1}, "heatmaps must be"),
        ({"targets": "best"}, "targets must be one of data, predicted, but is 'best'"),
        ({"layers": "nowhere"}, "nowhere"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_calls_write_nothing(tmp_path, options, message):
    with pytest.raises(cam.CamError, match=message):
        evaluate(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_no_run_is_told(tmp_path):
    with pytest.raises(cam.RunError, match=r"it has no run\.json"):
        cam.Run.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(cam.RunError, match="is damaged"):
        cam.Run.open(tmp_path)


def test_the_photo_grid_tells_a_method_from_chance(tmp_path, bundled):
    """Grad-CAM against the same feature maps with random weights, on the same mosaics."""
    run = evaluate(
        tmp_path / "run",
        cam.dataset("photo-grid", size=16),
        bundled,
        methods=("randomcam", "gradcam"),
        metrics=[Inside()],
        shard_size=16,
    )
    (row,) = run.comparisons("inside").to_dict("records")
    assert (row["better"], row["worse"]) == ("gradcam", "randomcam")
    assert row["wins"] == 1 and row["verdict"] == "too few (1 group)"


def test_the_librarys_own_metrics_by_name(tmp_path):
    """As a run and as direct calls: with masks, with passes, and with explaining again."""
    model, data = network(), cam.dataset("photo-grid", size=2)
    metrics = ["grid_pointing_game", cam.metric("deletion", steps=4), "stability_flip"]
    run = evaluate(tmp_path / "run", data, model, methods="gradcam", metrics=metrics)
    batch = model.prepare([item.image for item in data])
    targets = [item.target for item in data]
    masks = torch.tensor(np.stack([item.mask[16:240, 16:240] for item in data]))
    result = cam.attribute(model, batch, "gradcam", targets=targets)["gradcam"]
    for measure in metrics:
        metric = cam.metric(measure) if isinstance(measure, str) else measure
        truth = metric(model, batch, result, targets, masks, method="gradcam")
        values = run.values(metric.name)["gradcam"].to_numpy()
        assert np.allclose(values, truth.numpy(), rtol=1e-5, equal_nan=True)
    assert run.directions == {"grid_pointing_game": 1, "deletion": -1, "stability_flip": 1}
    assert run.config["metrics"][1]["parameters"]["steps"] == 4


# Groups


def test_groups_are_stored_and_outlive_a_stop(tmp_path):
    """Two mosaics a patient, in shards of four; one picture cannot be read."""

    def name_patient(item: str) -> str:
        return f"patient {int(item[5:]) // 2}"

    items = [(item.image, item.target, item.mask) for item in cam.dataset("photo-grid", size=18)]
    items[5] = ("nothing.png", 3, None)
    data = cam.dataset(items, groups=name_patient)
    with pytest.raises(cam.Cancelled):
        evaluate(tmp_path / "run", data, progress=lambda progress: progress.done < 8)
    run = evaluate(tmp_path / "run", data)
    truth = [None if number == 5 else f"patient {number // 2}" for number in range(18)]
    groups = run.items()["group"].tolist()
    assert [group if isinstance(group, str) else None for group in groups] == truth
    assert run.groups()[3] == "patient 1"
    # By hand: the mean of nine patients' means, of which the third has one image.
    values = run.values("inside")["gradcam"].to_numpy(np.float64)
    means = [np.nanmean(values[2 * number : 2 * number + 2]) for number in range(9)]
    row = run.leaderboard().set_index(["metric", "method"]).loc[("inside", "gradcam")]
    assert row["mean"] == pytest.approx(np.mean(means)) and (row["n"], row["groups"]) == (17, 9)
    assert run.ranks("inside")["groups"] == 9
    assert run.notes["caution"] == ""
    with pytest.raises(cam.RunError, match=r"data\.fingerprint: "):
        evaluate(tmp_path / "run", cam.dataset(items))


def test_the_photo_grid_says_what_it_is(finished):
    assert finished.groups().nunique() == 1
    assert "the same four photos" in finished.notes["caution"]
    board = finished.leaderboard()
    assert (board["interval"] == "too few (1 group)").all() and board["low"].isna().all()


# What fails stays alone


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six pictures of two classes; one is broken."""
    for number, name in enumerate(("cat/0", "cat/1", "cat/2", "dog/0", "dog/1", "dog/2")):
        path = tmp_path / "data" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colours = np.random.default_rng(number).integers(0, 256, (230, 300, 3), np.uint8)
        Image.fromarray(colours).save(path)
    (tmp_path / "data" / "cat" / "1.png").write_bytes(b"no pixels")
    return tmp_path / "data"


def labelled(*labels: str) -> cam.Model:
    model = network()
    return cam.Model(
        model.module, labels=[*labels, *map(str, range(1000 - len(labels)))], layers="3"
    )


def test_what_cannot_be_read_is_counted_and_named(tmp_path, folder):
    run = evaluate(tmp_path / "run", folder, labelled("dog", "cat"), metrics=[Drop()])
    scores = run.scores()
    assert len(scores) == 6 * 2
    skipped = scores[scores["status"] == "skipped"]
    assert set(skipped["id"]) == {"cat/1.png"}
    assert skipped["value"].isna().all()
    assert "is not an image" in skipped["reason"].iloc[0]
    board = run.leaderboard()
    assert board["skipped"].tolist() == [1, 1]
    assert board["n"].tolist() == [5, 5]
    failures = run.failures()
    assert failures["id"].tolist() == ["cat/1.png"]
    assert "cat/1.png was skipped" in (run.path / "log.txt").read_text()
    # A label is the model's class of that name: dog is 0, cat 1.
    assert run.items()["target"].dropna().tolist() == [1, 1, 0, 0, 0]
    assert run.items()["label"].dropna().tolist() == ["cat", "cat", "dog", "dog", "dog"]


def test_a_class_that_the_model_does_not_know(tmp_path, folder):
    run = evaluate(tmp_path / "run", folder, labelled("dog"), metrics=[Drop()])
    failures = run.failures().set_index("id")["reason"]
    assert failures["cat/0.png"] == "the model has no class 'cat'"
    assert run.leaderboard()["n"].tolist() == [3, 3]
    with pytest.raises(cam.InputError, match="knows none of the data's 2 classes"):
        evaluate(tmp_path / "other", folder, labelled("horse"), metrics=[Drop()])
    run = evaluate(tmp_path / "third", folder, labelled("x"), metrics=[Drop()], targets="predicted")
    assert run.leaderboard()["n"].tolist() == [5, 5]
    assert run.items()["correct"].isna().all()


def test_wordnet_numbers_are_imagenets_classes(tmp_path, folder, bundled):
    (folder / "cat").rename(folder / "n02124075")
    (folder / "dog").rename(folder / "n07920052")
    run = evaluate(tmp_path / "run", folder, bundled, metrics=[Drop()], methods="gradcam")
    # Egyptian cat and espresso.
    assert run.items()["target"].dropna().tolist() == [285, 285, 967, 967, 967]


def named(*names: object) -> list[tuple]:
    """A torch data set in a list: pictures with names that it lists nowhere."""
    return [(np.full((40, 40, 3), 20 * k, np.uint8), name) for k, name in enumerate(names)]


def test_names_of_a_torch_data_set_are_the_models(tmp_path):
    """An exact name before one in other letters; what is unknown or ambiguous is skipped."""
    model = labelled("Cardigan", "cat", "cardigan", "crane", "dog", "crane")
    data = named("cat", "cardigan", "DOG", "crane", "unicorn", 7, None, "CARDIGAN", "Cardigan")
    run = evaluate(tmp_path / "run", data, model, metrics=[Drop()], methods="gradcam")
    items = run.items()
    top = items["predicted"][6]
    reasons = [reason if isinstance(reason, str) else None for reason in items["reason"]]
    assert reasons == [
        *[None] * 3,
        "2 of the model's classes are called 'crane': [3, 5]; give the number",
        "the model has no class 'unicorn'",
        *[None] * 2,
        "2 of the model's classes are called 'CARDIGAN': [0, 2]; give the number",
        None,
    ]
    assert items["target"].dropna().tolist() == [1, 2, 4, 7, top, 0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["unicorn", "griffin"],
            r"none of the data's classes, such as griffin, unicorn; .* known: cat",
        ),
        (["crane"], r"2 of the model's classes are called 'crane': \[1, 2\]"),
    ],
    ids=["unknown", "ambiguous"],
)
def test_names_of_which_the_model_knows_none_are_refused_at_once(tmp_path, names, message):
    model = labelled("cat", "crane", "crane")
    with pytest.raises(cam.InputError, match=message):
        evaluate(tmp_path / "run", named(*names), model, metrics=[Drop()])
    assert not (tmp_path / "run").exists()


def test_names_and_a_model_without_any_are_refused_at_once(tmp_path):
    with pytest.raises(cam.InputError, match=r"such as cat; .* it has no labels"):
        evaluate(tmp_path / "run", named("cat"), network(), metrics=[Drop()])


def test_wordnet_numbers_that_are_listed_nowhere(tmp_path, bundled):
    data = named("n02124075", "n07920052", "n00000000")
    run = evaluate(tmp_path / "run", data, bundled, metrics=[Drop()], methods="gradcam")
    assert run.items()["target"].tolist()[:2] == [285, 967]
    assert run.failures()["reason"].tolist() == ["the model has no class 'n00000000'"]


def test_a_folders_name_is_the_class_with_just_that_name(tmp_path, folder):
    """ImageNet has a Cardigan, a dog, and a cardigan, to wear."""
    (folder / "cat").rename(folder / "cardigan")
    model = labelled("Cardigan", "cardigan", "dog")
    run = evaluate(tmp_path / "run", folder, model, metrics=[Drop()])
    assert run.items()["target"].dropna().tolist() == [1, 1, 2, 2, 2]


def test_a_metric_that_fails_on_one_image_measures_the_others(tmp_path):
    data = cam.dataset("photo-grid", size=8)
    targets = [item.target for item in data]
    run = evaluate(tmp_path / "run", data, metrics=[Broken(targets[1]), Inside()])
    board = run.leaderboard().set_index(["method", "metric"])
    assert board["failed"].to_dict() == {
        ("gradcam", "broken"): 2,
        ("saliency", "broken"): 2,
        ("gradcam", "inside"): 0,
        ("saliency", "inside"): 0,
    }
    failures = run.failures()
    assert set(failures["item"]) == {1, 5}
    assert set(failures["reason"]) == {"RuntimeError: it broke"}
    good = run.scores().query("metric == 'broken' and method == 'gradcam'")["value"]
    assert good.notna().sum() == 6


def test_a_method_that_fails_on_one_image_explains_the_others(tmp_path, monkeypatch):
    """The third image's target is out of the model's range."""
    items = [
        (Image.new("RGB", (230, 230), (20 * n, 9, 30)), 3 if n != 2 else 5000) for n in range(5)
    ]
    run = evaluate(tmp_path / "run", items, metrics=[Drop()])
    board = run.leaderboard()
    assert board["n"].tolist() == [4, 4]
    assert board["failed"].tolist() == [1, 1]
    assert "target 5000 is out of range" in run.failures()["reason"].iloc[0]


def test_nan_is_counted_apart_with_its_reason(tmp_path):
    sound, broken = torch.rand(3, 40, 40), torch.rand(3, 40, 40)
    broken[0, 3, 3] = torch.nan
    items = [(sound, 1, np.ones((40, 40))), (broken, 1, np.ones((40, 40))), (sound, 2)]
    run = evaluate(tmp_path / "run", items)
    table = run.scores().set_index(["item", "method", "metric"])
    assert table.loc[(1, "gradcam", "drop"), "reason"] == "its map is NaN"
    assert table.loc[(1, "gradcam", "drop"), "status"] == "nan"
    assert table.loc[(2, "gradcam", "inside"), "reason"] == "where the class is, is not known"
    assert table.loc[(2, "gradcam", "drop"), "status"] == "ok"
    board = run.leaderboard().set_index(["method", "metric"])
    assert board.loc[("gradcam", "inside"), ["n", "nan", "failed"]].tolist() == [1, 2, 0]


def test_an_infinite_value_is_undefined_and_does_not_spoil_the_mean(tmp_path, monkeypatch):
    real = Drop.measure

    def infinite(self, *arguments, **options):
        scores = real(self, *arguments, **options)
        scores.values[0] = torch.inf
        return scores

    monkeypatch.setattr(Drop, "measure", infinite)
    run = evaluate(tmp_path / "run", metrics=[Drop()])
    board = run.leaderboard()
    assert board[["n", "nan"]].to_numpy().tolist() == [[7, 3], [7, 3]]
    assert np.isfinite(board["mean"]).all()
    assert set(run.problems()["reason"]) == {"it is infinite"}


def test_a_transform_that_fails_on_one_picture(tmp_path):
    model = network()
    usual = model.transform

    def transform(image):
        if image.size == (50, 50):
            raise ValueError("too small")
        return usual(image)

    model.transform = transform
    items = [(Image.new("RGB", (side, side)), 1) for side in (60, 50, 70)]
    run = evaluate(tmp_path / "run", items, model, metrics=[Drop()])
    assert run.leaderboard()["skipped"].tolist() == [1, 1]
    assert run.problems()["reason"].tolist() == ["ValueError: too small"]


def test_inputs_of_several_sizes_and_without_classes(tmp_path):
    torch.manual_seed(0)
    items = [torch.rand(3, size, size) for size in (40, 60, 40, 60, 40)]
    run = evaluate(tmp_path / "run", items, metrics=[Drop()])
    model = network()
    for number, item in enumerate(items):
        assert run.image(number).facts["target"] == int(model.predict(item[None]).argmax())
    assert run.leaderboard()["n"].tolist() == [5, 5]


def test_data_without_masks_and_a_metric_that_needs_them(tmp_path, folder):
    with pytest.raises(cam.InputError, match="the metric inside needs to know where the class is"):
        evaluate(tmp_path / "run", folder, labelled("dog", "cat"))


def test_the_model_comes_back_as_it_was(tmp_path):
    model = network()
    model.module.train()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    evaluate(tmp_path / "run", cam.dataset("photo-grid", size=2), model)
    assert all(child.training for child in model.module.modules())
    assert all(
        torch.equal(value, before[name]) for name, value in model.module.state_dict().items()
    )
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_a_limit(tmp_path):
    run = evaluate(tmp_path / "run", limit=3)
    assert run.items()["id"].tolist() == ["grid-00000", "grid-00001", "grid-00002"]


def test_a_mask_as_the_model_sees_it():
    """Short side to 256, the middle 224: a mask drawn at that size and scaled up comes back."""
    from torchvision import transforms

    transform = network().transform
    truth = np.zeros((224, 224), bool)
    truth[40:100, 50:180] = True
    around = np.pad(truth, ((16, 16), (144, 144)))
    whole = Image.fromarray(around).resize((2 * around.shape[1], 512), Image.Resampling.NEAREST)
    assert np.array_equal(crop_mask(transform, np.asarray(whole), (224, 224)), truth)
    odd = transforms.Compose([transforms.RandomRotation(30), transforms.ToTensor()])
    assert crop_mask(odd, truth, (224, 224)) is None


def test_scores_are_exported(tmp_path, finished):
    import pandas

    scores = finished.scores()
    for name, read in (("a.csv", pandas.read_csv), ("it's.parquet", pandas.read_parquet)):
        table = read(finished.export(tmp_path / name))
        assert len(table) == 40
        assert table["method"].astype(str).tolist() == scores["method"].astype(str).tolist()
        assert np.allclose(table["value"], scores["value"], rtol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "it's.parquet"]
    with pytest.raises(cam.RunError, match=r"as \.csv or \.parquet"):
        finished.export(tmp_path / "a.xlsx")
    with pytest.raises(cam.RunError, match="cannot write"):
        finished.export(tmp_path / "nowhere" / "a.csv")
