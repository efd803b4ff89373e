"""Check renaming, noting and deleting of runs."""

import os
import shutil

import pytest

import cam
from cam._runs.results.example import FOLDER
from cam._runs.results.run_states import runs
from cam._runs.storage.run_edits import delete, find_renamed, read_note, rename, write_note
from cam._runs.storage.store import locked


@pytest.fixture
def path(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "runs" / "first")


def test_a_note(path):
    assert read_note(path) == ""
    write_note(path, " better <b> \n")
    assert read_note(path) == "better <b>"
    with pytest.raises(cam.RunError, match="at most 2,000"):
        write_note(path, "x" * 2001)
    write_note(path, "")
    assert read_note(path) == "" and cam.Run.open(path).done == 64


def test_another_name_keeps_the_scores(path):
    before = cam.Run.open(path).scores()
    rename(path, path.with_name("second"))
    assert cam.Run.open(path.with_name("second")).scores().equals(before)
    assert not path.exists()


def test_it_is_found_by_each_name_that_it_had(path):
    second, third = path.with_name("second"), path.with_name("third")
    rename(path, second)
    rename(second, third)
    assert find_renamed(path) == find_renamed(second) == find_renamed(third) == third
    assert find_renamed(path.with_name("fourth")) is None
    # A run that has the name now goes before one that had it.
    shutil.copytree(FOLDER, path)
    assert find_renamed(path) == path
    # Of two that had it, the one that had it last.
    rename(path, path.with_name("fifth"))
    os.utime(third / "former_names.txt", (1, 1))
    assert find_renamed(path) == path.with_name("fifth")


def test_no_other_run_is_overwritten(path):
    other = shutil.copytree(path, path.with_name("second"))
    with pytest.raises(cam.RunError, match="there is a run 'second' already"):
        rename(path, other)
    assert path.exists()


def test_it_is_gone(path):
    delete(path)
    assert list(path.parent.iterdir()) == [] and runs(path.parent) == []


@pytest.mark.parametrize("edit", [delete, lambda path: rename(path, path.with_name("second"))])
def test_never_one_that_is_being_written(path, edit):
    with locked(path), pytest.raises(cam.RunError, match="is being written by"):
        edit(path)
    assert cam.Run.open(path).done == 64


def test_nothing_but_runs(path):
    outside = path.parent.parent / "outside"
    outside.mkdir()
    link = path.with_name("link")
    link.symlink_to(path)
    for wrong in (outside, link):
        with pytest.raises(cam.RunError, match="there is no run"):
            delete(wrong)
    assert path.exists() and outside.exists()
