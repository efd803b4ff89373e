"""Test uploaded weights: loaded as tensors, on every page, bounded."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save
from streamlit.testing.v1 import AppTest

import cam
from cam.pages.ui.server import resources
from cam.pages.ui.state.choices import ModelChoice
from cam.pages.ui.subject import own_weights
from tests.support.checkout import DASHBOARD
from tests.support.dashboard_page import check, find

NAMES = ["ant", "bee", "cat", "dog", "elk"]


@pytest.fixture(autouse=True)
def empty_store():
    own_weights.get_store.clear()
    resources._load_upload.clear()


@pytest.fixture(scope="module")
def five():
    """Weights of the bundled architecture, for five classes."""
    torch.manual_seed(3)
    return timm.create_model("tf_efficientnet_lite0", num_classes=5).eval().state_dict()


def opened() -> AppTest:
    app = AppTest.from_file(DASHBOARD, default_timeout=120)
    # No link opens this box: what is in it, no link can carry.
    app.session_state["weights_box"] = True
    app.query_params["code"] = "true"
    return check(app.run())


def give(app: AppTest, name: str, content: bytes, label: str = "Weights") -> AppTest:
    return check(find(app.file_uploader, label).upload(name, content).run())


def classes(app: AppTest) -> list[str]:
    box = find(app.selectbox, "Class to explain")
    return sorted(box.options)


def code(app: AppTest) -> str:
    return app.code[0].value


def test_weights_then_labels_then_another_page_then_removed(five):
    app = give(opened(), "mine.safetensors", save(five))
    assert classes(app) == [f"class {index}" for index in range(5)] and not app.error
    app = give(app, "names.txt", "\n".join(NAMES).encode(), "Names of its classes")
    assert classes(app) == NAMES and not app.error
    # The call that copies names the visitor's files, and nothing of the server's folders.
    line = "cam.load_model(\"efficientnet_lite0\", weights='mine.safetensors', labels='names.txt')"
    assert line in code(app) and "/tmp" not in code(app)
    # What the page shows is what the library gives for these files.
    weights = app.session_state["_visitor"].weights
    truth = timm.create_model("tf_efficientnet_lite0", num_classes=5).eval()
    truth.load_state_dict(five)
    mine = resources.load_model(ModelChoice("efficientnet_lite0", weights)).module.state_dict()
    assert all(torch.equal(value, mine[key]) for key, value in truth.state_dict().items())
    for name in ("anatomy", "compare", "performance"):
        app.switch_page(f"pages/{name}.py")
        check(app.run())
        assert any(
            "mine" in markdown.value and "uploaded" in markdown.value for markdown in app.markdown
        ), name
        assert not app.error
        assert name == "performance" or set(NAMES) <= set(classes(app))
    find(app.button, "Remove these weights").click().run()
    assert not any("uploaded" in markdown.value for markdown in app.markdown)


def test_a_link_cannot_carry_it_is_said():
    assert any("A link cannot carry it" in markdown.value for markdown in opened().markdown)


def test_what_does_not_fit_is_told_by_name_and_shape(five):
    state = dict(five)
    state["conv_stem.weight"] = torch.zeros(8, 3, 3, 3)
    app = give(opened(), "other.safetensors", save(state))
    [error] = app.error
    assert error.value.startswith("Other.safetensors does not fit EfficientNet") or (
        "other.safetensors does not fit EfficientNet" in error.value
    )
    assert "conv_stem.weight (8, 3, 3, 3) instead of (32, 3, 3, 3)" in error.value
    # And the way back is there.
    find(app.button, "Remove these weights").click().run()
    assert not app.error


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_an_upload_is_refused_and_does_not_run(tmp_path):
    trace = tmp_path / "it-ran"
    app = give(opened(), "evil.pth", pickle.dumps({"weight": Runs(trace)}))
    [error] = app.error
    assert "is refused" in error.value and not trace.exists()


def test_a_packed_archive_that_fills_the_memory_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(4_000_000)}, buffer)
    packed = tmp_path / "bomb.pth"
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(packed, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(cam.CheckpointError, match="unpacks to"):
        cam.load_model("efficientnet_lite0", packed)


def test_few_files_are_kept_each_once_and_the_latest_used_stay():
    store = own_weights.Store(capacity=2)
    first = store.put(b"one", "../../a b.pth")
    assert store.put(b"one", "a b.pth") == first and Path(first).name == "a b.pth"
    second = store.put(b"two", "a b.pth")
    assert second != first and store.has(first)
    store.put(b"three", "c.pth")
    assert store.has(first) and not store.has(second)
    assert Path(first).read_bytes() == b"one" and not Path(second).exists()


def test_what_is_not_kept_any_more_is_told(five):
    app = give(opened(), "mine.safetensors", save(five))
    own_weights.get_store.clear()
    check(app.run())
    assert "mine.safetensors is not kept any more" in app.warning[0].value
    assert not app.error and "tabby" in classes(app)
