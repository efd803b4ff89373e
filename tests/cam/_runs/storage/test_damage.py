"""What breaks in a run's folder is noticed, and computed again."""

import errno
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import cam
from cam._runs.results.run_states import read_state
from cam._runs.storage import store
from cam._runs.storage.checksums import NAME

# Costs are seconds, which differ from run to run.
SAME = ("scores", "remarks", "items", "maps", "pictures")
FILES = (*(f"{name}.parquet" for name in store.TABLES), NAME)


def make_model() -> cam.Model:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    return cam.Model(network.eval(), transform=lambda image: image)


def make_data() -> list[tuple[torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(3, 12, 12, generator=generator), number % 3) for number in range(6)]


def evaluate(path: Path) -> cam.Run:
    metric = cam.metric("deletion", steps=3)
    return cam.evaluate(
        make_model(), make_data(), "saliency", metric, path, shard_size=2, heatmaps=8
    )


def read_tables(path: Path) -> dict[str, bytes]:
    """The files of the only block of a finished run."""
    [block] = (path / "shards").iterdir()
    return {name: (block / f"{name}.parquet").read_bytes() for name in SAME}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    evaluate(path)
    return path


@pytest.fixture
def path(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def lose(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [cut, flip, lose])
@pytest.mark.parametrize("name", FILES)
def test_damage_to_any_file_is_named_and_heals(path, whole, name, damage):
    [block] = (path / "shards").iterdir()
    damage(block / name)
    with pytest.raises(cam.RunError, match=r"of the shard 00000000-00000006 .*resume the run"):
        cam.Run.open(path)
    assert read_state(path).state == "damaged"
    with pytest.warns(cam.CamWarning, match="its images are computed again"):
        evaluate(path)
    assert read_tables(path) == read_tables(whole)
    assert [entry.name for entry in (path / "damaged").iterdir()] == [block.name]
    assert "it lies in damaged/00000000-00000006" in (path / "log.txt").read_text()
    assert cam.Run.open(path).done == 6
    # A second time the first is kept beside it.
    lose(block / "maps.parquet")
    with pytest.warns(cam.CamWarning, match="damaged/00000000-00000006-2"):
        evaluate(path)
    assert read_tables(path) == read_tables(whole)


def test_a_shard_of_an_unfinished_run_heals_alone(whole, tmp_path):
    path = tmp_path / "run"

    def stop(progress) -> bool:
        return progress.done < 4

    metric = cam.metric("deletion", steps=3)
    with pytest.raises(cam.Cancelled):
        cam.evaluate(
            make_model(), make_data(), "saliency", metric, path,
            shard_size=2, heatmaps=8, progress=stop,
        )  # fmt: skip
    shards = sorted((path / "shards").iterdir())
    assert len(shards) >= 2
    before = (shards[1] / "scores.parquet").stat().st_mtime_ns
    flip(shards[0] / "pictures.parquet")
    with pytest.warns(cam.CamWarning, match=f"of the shard {shards[0].name} pictures.parquet"):
        evaluate(path)
    assert before and read_tables(path) == read_tables(whole)
    assert [entry.name for entry in (path / "damaged").iterdir()] == [shards[0].name]


def test_a_whole_run_is_not_written_to(path):
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    evaluate(path)
    assert {f: f.stat().st_mtime_ns for f in path.rglob("*") if f.is_file()} == before


class Killed(BaseException):
    """The end of a process, which nothing catches."""


class Faults:
    """Let the n-th step of writing fail, before or after it is done."""

    STEPS = (
        (store, "_write"), (store, "_sync_folder"), (Path, "rename"), (Path, "replace"),
        (store.tempfile, "mkdtemp"), (store.shutil, "rmtree"),
    )  # fmt: skip

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.at, self.error, self.late = 0, -1, Killed(), False
        for owner, name in self.STEPS:
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, function):
        def step(*arguments, **options):
            self.count += 1
            due = self.count == self.at
            if due and not self.late:
                raise self.error
            result = function(*arguments, **options)
            if due:
                raise self.error
            return result

        return step

    def run(self, path: Path, at: int) -> bool:
        """Run with a fault; returns whether there was one."""
        self.count, self.at = 0, at
        try:
            evaluate(path)
        except (cam.RunError, Killed):
            pass
        finally:
            self.at = -1
        return self.count >= at


@pytest.mark.parametrize(
    ("error", "late"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), False),
        (OSError(errno.EIO, os.strerror(errno.EIO)), False),
        (Killed(), False),
        (Killed(), True),
    ],
    ids=["full disk", "broken disk", "killed before", "killed after"],
)
def test_a_fault_at_any_step_loses_nothing(whole, tmp_path, monkeypatch, error, late):
    expected = read_tables(whole)
    faults = Faults(monkeypatch)
    faults.error, faults.late = error, late
    at = 0
    while True:
        at += 1
        path = tmp_path / str(at)
        if not faults.run(path, at):
            break
        evaluate(path)
        assert read_tables(path) == expected, at
        assert cam.Run.open(path).done == 6
        assert {entry.name for entry in path.iterdir()} <= {"run.json", "lock", "log.txt", "shards"}
    assert at > 30


def test_a_clock_that_is_set_back_changes_nothing(whole, tmp_path, monkeypatch):
    path = tmp_path / "run"
    now = time.time()
    ticks = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(ticks))
    evaluate(path)
    flip(next((path / "shards").iterdir()) / "maps.parquet")
    with pytest.warns(cam.CamWarning):
        evaluate(path)
    assert read_tables(path) == read_tables(whole)


def test_a_change_of_the_same_size_and_moment_is_seen_by_another_process(path):
    """One that looked before trusts the time of the last change; a new one reads every byte."""
    [block] = (path / "shards").iterdir()
    file = block / "costs.parquet"
    status = file.stat()
    flip(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(cam.RunError, match=r"costs\.parquet is not what was written"):
        cam.Run.open(path)
