"""The examples of the documents run, and the paths in them exist."""

import html
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cam
from tests.support.checkout import ROOT
from tests.support.import_graph import between_children, graph
from tests.support.markdown import code_blocks
from tools import check_words

EXTENDING = (ROOT / "docs" / "extending.md").read_text()
# A part of the tree may lie in the folder of the examples.
BESIDE = """
import sys
from pathlib import Path

FOLDER = Path({folder!r})
sys.path[:0] = [str(FOLDER), {root!r}]
import cam.kernels, cam.pages
cam.kernels.__path__.append(str(FOLDER / "kernels"))
"""
PAGE = """
from cam.pages.ui.state.visitor import Visitor
from streamlit.testing.v1 import AppTest

app = AppTest.from_file(str(FOLDER / "pages" / "sparseness.py"), default_timeout=120)
app.session_state["_visitor"] = Visitor(routed=True)  # as the router leaves it
app.run()
assert not app.exception, app.exception
values = {metric.label: float(metric.value) for metric in app.metric}
assert values.keys() == {"Grad-CAM", "Saliency map"} and all(0 < v < 1 for v in values.values())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The examples as files, those of another package with its entry points."""
    folder = tmp_path_factory.mktemp("extending")
    for text in code_blocks(EXTENDING, "python"):
        if match := re.match(r"# (\S+\.py)\n", text):
            path = folder / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (folder / "conftest.py").write_text(BESIDE.format(folder=str(folder), root=str(ROOT)))
    information = folder / "somebodys-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    [project] = code_blocks(EXTENDING, "toml")
    lines = []
    for group, entries in tomllib.loads(project)["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {module}" for name, module in entries.items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PROGRAMS = [text for text in code_blocks(EXTENDING, "python") if not text.startswith("# ")]


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_method_and_a_metric_give_what_was_worked_out_by_hand(folder, program):
    assert "assert" in program
    run(folder, "-c", program)


def test_the_kernels_own_test_passes(folder):
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests")
    assert "6 passed" in run(folder, *words, "--rootdir", str(folder), "-c", os.devnull)


def test_the_page_is_drawn(folder):
    run(folder, "-c", (folder / "conftest.py").read_text() + PAGE)
    assert 'st.Page(PAGES / "' in (ROOT / "pages/ui/server/router.py").read_text()


@pytest.mark.slow
def test_another_packages_entries_are_found_by_name(folder):
    program = (
        "import sys, cam\n"
        "assert cam.methods()['positive_gradcam'].parameters['power'] == 1.0\n"
        "assert cam.metric('centre_distance', power=2).info.direction == -1\n"
        "assert {'my_methods', 'my_metrics'} <= sys.modules.keys()\n"
    )
    run(folder, "-c", program)
    words = ("explain", "sample:coffee", "--method", "positive_gradcam(power=2)", "--out", "maps")
    run(folder, "-m", "cam", *words)
    assert list((folder / "maps").glob("*positive_gradcam*.png"))


def test_phrases_are_looked_for_in_prose_and_across_lines(tmp_path):
    document = tmp_path / "page.md"
    phrase = " ".join(("so", "many"))  # apart, as tests are checked too
    code = f"`{phrase}`\n```\n{phrase}\n```\n"
    document.write_text(code + "It has so\nmany maps.\n")
    assert list(check_words.problems(document)) == [(5, "'so\\nmany': write a number")]


@pytest.mark.parametrize("name", check_words.DOCUMENTS)
def test_the_documents_use_plain_words(name):
    assert check_words.main([name]) == 0


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """What `make docs` writes."""
    folder = tmp_path_factory.mktemp("reference")
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    [recipe] = re.findall(r"^docs: .*\n\t\$\(BIN\)/python (.*)", makefile, re.MULTILINE)
    words = [str(folder) if word == "build/reference" else word for word in shlex.split(recipe)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Warn" not in done.stderr, done.stderr
    return folder


PUBLIC = [
    *(("cam", name) for name in sorted(cam.__all__) if name != "__version__"),
    *(("cam.kernels", name) for name in ("fused_cam", "gradient_map", "Moments", "backend")),
    ("cam.targets", "Contrast"),
    ("cam.parameters", "integer"),
    ("cam.compat.captum", "Saliency"),
    ("cam.compat.quantus", "explain"),
    ("cam.compat.pytorch_grad_cam", "GradCAM"),
    ("cam.compat.pytorch_grad_cam.utils.image", "show_cam_on_image"),
]


def letters(text: str) -> str:
    """Return what markup does not change: `:class:`cam.Run`` is written as a link."""
    return re.sub(r"[^a-z]", "", re.sub(r":\w+:|cam\.(?=\w)", "", text).lower())


@pytest.mark.slow
def test_the_reference_has_every_public_name_with_its_docstring(reference):
    for module, name in PUBLIC:
        entry = getattr(importlib.import_module(module), name)
        if inspect.ismodule(entry):
            continue
        page = (reference / f"{module.replace('.', '/')}.html").read_text()
        start = page.find(f'<section id="{name}">')
        assert start >= 0, (module, name)
        [docstring] = re.findall(r'<div class="docstring">(.*?)</div>', page[start:], re.DOTALL)[:1]
        text = html.unescape(re.sub(r"<[^>]+>", "", docstring))
        first = inspect.cleandoc(entry.__doc__).split("\n\n")[0]
        assert letters(text).startswith(letters(first)), (module, name, text[:200])


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def tree(text: str) -> list[str]:
    """Return the paths of an indented list of files and folders, in its order."""
    paths, above = [], []
    for line in text.splitlines():
        name = line.split()[0]
        above[(len(line) - len(line.lstrip())) // 2 :] = [name.rstrip("/")]
        paths.append("/".join(above))
        assert (ROOT / "/".join(above)).is_dir() == name.endswith("/"), line
    return paths


def named_paths(text: str) -> set[str]:
    """Return what looks like a path of the repository: in backticks, or in a diagram's box."""
    words = re.findall(r"`([\w./-]+)`", text) + re.findall(r'\["([\w./-]+)<br>', text)
    return {word for word in words if "/" in word or word.endswith((".py", ".md"))}


def test_every_path_in_the_documents_exists():
    readme = (ROOT / "README.md").read_text()
    where = readme[readme.index("## Where things are") :]
    named = named_paths(ARCHITECTURE) | named_paths(where)
    assert len(named) > 40
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_the_tree_has_every_folder():
    [text] = code_blocks(ARCHITECTURE, "text")
    paths = set(tree(text))
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for part in ("kernels", "cam", "pages", "benchmarks")
        for path in (ROOT / part).rglob("__init__.py")
    }
    folders |= {path.name for path in ROOT.iterdir() if list(path.glob("[a-z]*.[pm][yd]"))}
    assert folders - paths == set()


def test_a_part_imports_only_from_parts_above_it_in_the_tree():
    [text] = code_blocks(ARCHITECTURE, "text")
    order = [
        re.sub(r"^(kernels|pages)", r"cam.\1", path.removesuffix(".py").replace("/", "."))
        for path in tree(text)
    ]
    every = graph()
    arrows = {
        (name, other)
        for package in order
        for name, others in between_children(every, package).items()
        for other in others
        if name in order and other in order
    }
    assert len(arrows) > 60
    wrong = {(name, other) for name, other in arrows if order.index(other) > order.index(name)}
    assert wrong == set()


def test_only_the_tables_of_the_benchmarks_are_left_out(monkeypatch, tmp_path, capsys):
    for folder in ("cam/_runs/results", "benchmarks/results"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "module.py").write_text(f"{'f' + 'ound'} = 1\n")
    monkeypatch.setattr(check_words, "ROOT", tmp_path)
    monkeypatch.setattr(check_words, "RESULTS", tmp_path / "benchmarks/results")
    assert check_words.main(["cam", "benchmarks"]) == 1
    assert capsys.readouterr().out.startswith("cam/_runs/results/module.py:1: the name 'found'")
