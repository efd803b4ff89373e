"""The architecture: kernels ← cam ← pages, without circles."""

import subprocess
import sys
from collections import Counter

import pytest

import cam
from cam import kernels
from tests.support.checkout import ROOT
from tests.support.import_graph import between_children, circle, graph, imported, modules

MODULES = modules()
GRAPH = graph()
PACKAGES = sorted(name for name, path in MODULES.items() if path.name == "__init__.py")
MOST_FILES = 12
# Each folder of a kernel has these, and what runs at the end of a module's name is its folder.
PARALLEL = {"operation", "reference", "launcher"}


def test_no_module_imports_itself_by_a_detour():
    """Imports for types count too."""
    assert circle(GRAPH) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_parts_of_a_folder_stand_in_an_order(package):
    """What lies in one folder imports in one direction: the order is that of the arrows."""
    assert circle(between_children(GRAPH, package)) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    arrows = {"p.x.one": {"p.y.two"}, "p.y.three": {"p.x.four"}}
    assert circle(arrows) == []
    assert circle(between_children(arrows, "p")) == ["p.x", "p.y", "p.x"]


def test_kernels_know_only_torch_and_triton():
    allowed = {"torch", "triton", *sys.stdlib_module_names}
    for name, path in MODULES.items():
        if name.startswith("cam.kernels."):
            for module in imported(name, path):
                assert module.startswith("cam.kernels") or module.split(".")[0] in allowed, name


def test_cam_knows_no_pages():
    for name, path in MODULES.items():
        if not name.startswith("cam.pages"):
            for module in imported(name, path):
                assert not module.startswith(("cam.pages", "streamlit", "plotly")), name


def test_pages_stand_on_their_parts_and_not_on_each_other():
    pages = {name for name in MODULES if name.startswith("cam.pages.") and name.count(".") == 2}
    for name in pages - {"cam.pages.ui"}:
        assert not GRAPH[name] & pages, name


def test_the_dashboard_starts_the_router_and_nothing_else():
    assert set(imported("dashboard", ROOT / "dashboard.py")) == {
        "cam.pages.ui.server",
        "cam.pages.ui.server.router",
    }


def test_no_module_is_hidden_by_a_function_of_its_name():
    """`import cam.x.y as z` gives the module for every module that does not start a program."""
    names = [
        name
        for name, path in MODULES.items()
        if not name.endswith(("__main__", "server.start"))
        and path.parent != ROOT / "pages"  # scripts of Streamlit
    ]
    program = "\n".join(
        f"import {name} as module; assert module.__name__ == {name!r}, module" for name in names
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for package in ("cam", "cam.kernels"):
        public = set(cam.__all__ if package == "cam" else kernels.__all__)
        inside = {name.removeprefix(f"{package}.") for name in names}
        assert public & inside <= {"parameters", "sources", "targets"}  # public modules


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_is_seen_at_a_glance(package):
    inside = [
        name
        for name, path in MODULES.items()
        if name.rpartition(".")[0] == package and path.name != "__init__.py"
    ]
    assert len(inside) <= MOST_FILES


@pytest.mark.parametrize("part", ["cam", "cam.kernels", "cam.pages"])
def test_no_two_modules_of_a_part_have_the_same_name(part):
    others = {"cam.kernels", "cam.pages"} - {part}
    names = [
        name.rpartition(".")[2]
        for name, path in MODULES.items()
        if name.startswith(f"{part}.")
        and not name.startswith(tuple(f"{other}." for other in others) if part == "cam" else ("-",))
        and path.name != "__init__.py"
        # A page and the folder with its parts belong together, as do another library's names.
        and not name.startswith("cam.compat.")
    ]
    twice = {name for name, count in Counter(names).items() if count > 1}
    assert twice <= PARALLEL


def test_the_tests_lie_where_the_code_lies():
    """Each folder of tests is a folder of the tree; each folder of the tree has tests."""
    beside = {"support", "browser"}
    sources = {path.parent.relative_to(ROOT).as_posix() for path in MODULES.values()}
    sources |= {"benchmarks", "benchmarks/gpu"}
    folders = {
        path.parent.relative_to(ROOT / "tests").as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
    }
    folders = {folder for folder in folders if folder.split("/")[0] not in beside}
    assert folders - {"."} <= sources
    untested = {
        folder
        for folder in sources
        if not any(other == folder or other.startswith(f"{folder}/") for other in folders)
    }
    assert untested <= WITHOUT_TESTS_OF_THEIR_OWN


# Tested with what stands on them: the pages' parts through their pages and in a browser, the
# store through runs, what methods and metrics share through each of them.
WITHOUT_TESTS_OF_THEIR_OWN = {
    *(f"pages/ui/{name}" for name in ("anatomy", "compare", "performance", "datasets/images")),
    "pages/ui/charts",
    *("cam/_runs/storage", "cam/_metrics/base", "cam/_metrics/complexity"),
    "cam/compat/pytorch_grad_cam/utils",
}
