"""The installed package: a lean core, extras, and the checkout's own maps."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

EXTRAS = (
    *("streamlit", "plotly", "duckdb", "pyarrow", "pandas", "statsmodels", "scikit_posthocs"),
    *("matplotlib", "ray", "av", "anywidget", "onnxruntime", "onnxscript"),
    *("transformers", "open_clip"),
)
# Written at the head of a program: the packages of the extras are not to be had in it.
WITHOUT_EXTRAS = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())

import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in {EXTRAS!r} else find_spec(name, package)
)
"""
MAPS = """
import hashlib
import cam

model = cam.load_model("efficientnet_lite0")
photo = cam.sample("chelsea")
maps = cam.attribute(model, model.prepare(photo), methods=["gradcam", "saliency"])
cam.overlay(model.crop(photo), maps["gradcam"].heatmap[0]).save("why-a-cat.png")
for attribution in maps.values():
    print(hashlib.sha256(attribution.heatmap.numpy().tobytes()).hexdigest())

from cam.compat.pytorch_grad_cam import GradCAM

with GradCAM(model.module, [dict(model.module.named_modules())[model.layers[0]]]) as explain:
    print(hashlib.sha256(explain(model.prepare(photo)).tobytes()).hexdigest())
"""


def run(
    *arguments: str, python: str = sys.executable, folder: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess:
    """Run Python in one thread, so that two processes sum in the same order."""
    return subprocess.run(
        [python, *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_core_explains_without_any_extra(tmp_path):
    explain = (
        "from cam._cli.commands import main\n"
        f"main(['explain', 'sample:chelsea', '--method', 'gradcam', '--out', {str(tmp_path)!r}])"
    )
    done = run("-c", WITHOUT_EXTRAS + explain)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.png")) and list(tmp_path.glob("*.npz"))


@pytest.mark.parametrize(
    ("extra", "call"),
    [
        ("evaluate", "cam.evaluate(None, 'photo-grid', methods='gradcam', metrics='deletion')"),
        ("evaluate", "cam.Run.open('nowhere')"),
        (
            "video",
            "from cam._media.video import read_video\n"
            "    read_video(b'', 'video/mp4', 'walk.mp4', 1, lambda frame: frame, print)",
        ),
        ("hf", "cam.load_model('hf/google/vit-base-patch16-224')"),
        ("open-clip", "cam.load_model('open_clip/ViT-B-32/openai', prompts=['a cat'])"),
        ("notebook", "cam.widget({})"),
        ("onnx", "from cam._models.black_box import OnnxNetwork\n    OnnxNetwork('a.onnx')"),
        ("fast", "cam.accelerate(cam.load_model('known/patch'), 'onnxruntime')"),
    ],
    ids=["evaluate", "run", "video", "hf", "open-clip", "notebook", "onnx", "fast"],
)
def test_a_missing_extra_is_one_sentence_with_its_command(extra, call):
    program = f"import cam\ntry:\n    {call}\nexcept cam.CamError as error:\n    print(error)"
    done = run("-c", f"{WITHOUT_EXTRAS}{program}")
    assert re.fullmatch(
        rf".+ needs the extra '{extra}': pip install .*\[{extra}\]'\n", done.stdout
    ), done.stdout + done.stderr


def test_the_command_line_names_a_missing_extra():
    call = "from cam._cli.commands import main\nmain(['dashboard'])"
    done = run("-c", WITHOUT_EXTRAS + call)
    assert done.returncode == 1
    assert "needs the extra 'dashboard'" in done.stderr


def test_every_extra_has_a_list_of_requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    names = "all dashboard evaluate fast hf notebook onnx open-clip ray video"
    assert sorted(extras) == names.split()
    for lists in extras.values():
        for name in lists["file"]:
            assert (ROOT / name).is_file()
    together = {name for lists in extras.values() for name in lists["file"]}
    assert set(extras["all"]["file"]) == together


def test_in_the_checkout_kernels_is_ours():
    program = "import kernels, cam.kernels; print(kernels is cam.kernels, kernels.__file__)"
    done = run("-c", program)
    assert done.stdout == f"True {ROOT / 'kernels' / '__init__.py'}\n", done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of what lies in the checkout."""
    # In the checkout itself, setuptools would leave build/, and put into the next wheel what lies
    # there of modules that exist no more.
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    left_out = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", "__pycache__", "build", "*.egg-info", "runs", "explanations"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=left_out)
    built = run("-m", "pip", "wheel", str(source), "--no-deps", "--wheel-dir", str(folder), "-q")
    assert built.returncode == 0, built.stderr
    [path] = folder.glob("cam-*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = {name for name in names if name.endswith(".py")}
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cam").rglob("*.py")}
    for folder in ("kernels", "pages"):
        expected |= {
            f"cam/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob("*.py")
        }
    assert modules == expected
    assert {
        "cam/py.typed",
        "cam/__init__.pyi",
        "cam/_engine/fidelity.json",
        "cam/_methods/trust.json",
    } <= set(names)
    browser = (ROOT / "cam" / "_output" / "viewer" / "browser").iterdir()
    assert {path.relative_to(ROOT).as_posix() for path in browser} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"cam", modules_info(names)}


def modules_info(names: list[str]) -> str:
    [folder] = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    return folder


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> tuple[str, Path]:
    """A Python outside the checkout that has the wheel: the interpreter, and an empty folder.

    Dependencies come from the environment of the tests by a path file, since torch alone is 5 GB:
    what is proven is that nothing of the checkout is needed, not that the bounds resolve.
    """
    folder = tmp_path_factory.mktemp("installed")
    made = run("-m", "venv", str(folder / "venv"))
    assert made.returncode == 0, made.stderr
    python = str(folder / "venv" / "bin" / "python")
    done = run("-m", "pip", "install", "-q", "--no-deps", str(wheel), python=python, folder=folder)
    assert done.returncode == 0, done.stderr
    [library] = (folder / "venv").glob("lib/python*/site-packages")
    import torch

    (library / "dependencies.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    return python, folder


@pytest.mark.slow
def test_installed_it_gives_the_checkouts_bits(installed):
    python, folder = installed
    there = run("-c", MAPS, python=python, folder=folder)
    assert there.returncode == 0, there.stderr
    here = run("-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{MAPS}", folder=folder)
    assert there.stdout.split() == here.stdout.split() and len(there.stdout.split()) == 3


@pytest.mark.slow
def test_installed_the_command_explains(installed):
    python, folder = installed
    command = Path(python).with_name("cam")
    done = subprocess.run(
        [command, "explain", "sample:chelsea", "--out", "maps"], cwd=folder, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert list((folder / "maps").glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_hugging_faces_kernels_live_beside_ours(wheel, tmp_path, first):
    """Whichever is installed first, `kernels` is theirs, and transformers finds it."""
    folder = tmp_path
    assert run("-m", "venv", str(folder / "venv")).returncode == 0
    python = str(folder / "venv" / "bin" / "python")
    [library] = (folder / "venv").glob("lib/python*/site-packages")
    import torch

    (library / "dependencies.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    # The extra chooses releases of the two that fit each other.
    installs = [["transformers[kernels]"], ["--no-deps", str(wheel)]]
    for words in installs if first == "theirs" else reversed(installs):
        done = run("-m", "pip", "install", "-q", *words, python=python, folder=folder)
        assert done.returncode == 0, done.stderr
    program = (
        "import kernels, cam.kernels\n"
        "assert hasattr(kernels, 'get_kernel') and kernels is not cam.kernels\n"
        "assert hasattr(cam.kernels, 'fused_cam')\n"
        "from transformers.integrations.hub_kernels import is_kernels_available\n"
        "from transformers.integrations.hub_kernels import _kernels_use_kernelized_func as theirs\n"
        "print(is_kernels_available(), theirs.__module__.partition('.')[0])"
    )
    done = run("-c", program, python=python, folder=folder)
    assert done.stdout == "True kernels\n", done.stderr
