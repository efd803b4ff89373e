"""Imports go one way: kernels ← cam ← pages/ui ← pages ← dashboard.py, and inside cam by rank."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

# A part of cam may import parts of a lower rank, and its own.
RANKS = {
    "version": 0,
    "errors": 0,
    "timing": 1,
    "types": 1,
    "images": 2,
    "video": 3,
    "explicit_attention": 1,
    "attention": 3,
    "data": 3,
    "models": 3,
    "targets": 3,
    "capture": 4,
    "passes": 5,
    "methods": 6,
    "fidelity": 5,
    "heatmaps": 5,
    "attribute": 7,
    "anatomy": 8,
    "render": 7,
    "compat": 8,
    "files": 7,
    "metrics": 8,
    "comparison": 9,
    "peers": 8,
    "recorded": 1,
    "speed": 9,
    "clip": 9,
    "evaluate": 9,
    "__init__": 10,
    "cli_common": 11,
    "cli_clip": 12,
    "cli_runs": 12,
    "cli_evaluate": 13,
    "cli": 14,
    "__main__": 15,
}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever in the file that stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where an arrow goes"
            yield node.module or ""
            # `from cam.models import load` names a module in its second half.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, folder
    return found


def top(module: str) -> str:
    return module.split(".", 1)[0]


def test_kernels_know_only_torch_and_triton():
    allowed = {"torch", "triton", "kernels", *sys.stdlib_module_names}
    for path in files("kernels"):
        for module in imported(path):
            assert top(module) in allowed, f"{path.name} imports {module}"


def test_cam_knows_no_pages():
    for path in files("cam"):
        for module in imported(path):
            assert top(module) not in {"pages", "streamlit", "plotly", "dashboard"}, (
                f"{path.name} imports {module}"
            )


@pytest.mark.parametrize("path", files("cam"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_parts_of_cam_stand_in_order(path):
    part = path.relative_to(ROOT / "cam").parts[0].removesuffix(".py")
    for module in imported(path):
        if module == "cam":
            other = "__init__"
        elif module.startswith("cam."):
            other = module.split(".")[1]
            if other not in RANKS:  # a name from the package itself, as in `from cam import Model`
                continue
        else:
            continue
        allowed = other == part or RANKS[other] < RANKS[part]
        assert allowed, f"{part} imports {module}, which stands above it"


def test_pages_stand_on_their_shared_parts_and_not_on_each_other():
    for path in files("pages"):
        inside_ui = "ui" in path.relative_to(ROOT).parts
        for module in imported(path):
            if top(module) == "pages" and module not in {"pages", "pages.ui"}:
                assert module.startswith("pages.ui."), f"{path.name} imports {module}"
            if inside_ui:
                assert top(module) != "dashboard"


def test_the_dashboard_starts_the_router_and_nothing_else():
    assert set(imported(ROOT / "dashboard.py")) == {"pages.ui", "cam.pages.ui.server.router"}


def test_the_package_named_kernels_is_ours():
    """A package on the registry has the same name; nothing that imports it may be installed."""
    from cam import kernels

    assert Path(kernels.__file__).parent == ROOT / "kernels"
