"""The pages open the checkpoints that the operator allows, no other."""

import socket

import pytest
from streamlit.testing.v1 import AppTest

import cam
from cam.pages.ui.server import hub_models, resources, weight_downloads
from cam.pages.ui.state.choices import PROMPTS, ModelChoice
from tests.support.checkout import DASHBOARD
from tests.support.dashboard_page import check, find
from tests.support.hub_checkpoints import NAMES, save_checkpoint
from tests.support.image_text_checkpoints import save_image_text


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No folder is remembered, and no address of the network is asked for."""
    hub_models._list_folders.clear()

    def nobody(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)


@pytest.fixture
def allowed(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "allowed" / "small", "vit")
    monkeypatch.setenv("CAM_CHECKPOINT_ROOTS", str(tmp_path / "allowed"))
    return f"hf/{tmp_path / 'allowed' / 'small'}"


def opened(name: str) -> AppTest:
    app = AppTest.from_file(DASHBOARD, default_timeout=120)
    app.query_params["model"] = name
    app.query_params["code"] = "true"
    return check(app.run())


def test_an_allowed_folder_is_a_model_of_the_list_and_of_a_link(allowed):
    app = opened(allowed)
    assert find(app.selectbox, "Model").value == allowed and not app.error
    assert sorted(find(app.selectbox, "Class to explain").options) == sorted(NAMES.values())
    assert f'cam.load_model("{allowed}")' in app.code[0].value


@pytest.mark.parametrize("kind", ["a folder", "a repository", "a way out"])
def test_a_link_opens_no_other(allowed, tmp_path, kind):
    save_checkpoint(tmp_path / "other", "vit")
    names = {
        "a folder": f"hf/{tmp_path / 'other'}",
        "a repository": "hf/somebody/large",
        "a way out": f"{allowed}/../../other",
    }
    app = opened(names[kind])
    assert find(app.selectbox, "Model").value == "efficientnet_lite0"
    assert "which is not here" in app.warning[0].value
    # Nor does what lies behind the list.
    choice = ModelChoice(names[kind])
    for ask in (weight_downloads.find_missing, resources.load_model):
        with pytest.raises(cam.ModelError, match="operator does not allow"):
            ask(choice)


def test_prompts_are_typed_are_the_classes_and_stand_in_the_address(tmp_path, monkeypatch):
    save_image_text(tmp_path / "clip", "clip")
    monkeypatch.setenv("CAM_CHECKPOINT_ROOTS", str(tmp_path))
    name = f"hf/{tmp_path / 'clip'}"
    app = opened(name)
    assert not app.error
    box = find(app.text_area, "Prompts")
    assert box.value == "\n".join(PROMPTS)
    assert sorted(find(app.selectbox, "Class to explain").options) == sorted(PROMPTS)
    check(box.set_value("a cat\n\n  rain on a street \na cat\n").run())
    assert app.query_params["prompt"] == ["a cat", "rain on a street"]
    assert sorted(find(app.selectbox, "Class to explain").options) == ["a cat", "rain on a street"]
    assert f"cam.load_model(\"{name}\", prompts=['a cat', 'rain on a street'])" in app.code[0].value
    # Who opens the link sees the same.
    linked = AppTest.from_file(DASHBOARD, default_timeout=120)
    linked.query_params["model"], linked.query_params["prompt"] = name, ["a cat", "a dog"]
    assert find(check(linked.run()).text_area, "Prompts").value == "a cat\na dog"
    linked = AppTest.from_file(DASHBOARD, default_timeout=120)
    linked.query_params["model"] = name
    linked.query_params["prompt"] = [f"a cat {'on a street ' * (n % 2)}{n}" for n in range(70)]
    check(linked.run())
    warnings = [warning.value for warning in linked.warning]
    assert "70 prompts are too many; here are the first 64." in warnings
    assert len(find(linked.selectbox, "Class to explain").options) == 64
    # What is too long is refused in a sentence.
    box = find(app.text_area, "Prompts")
    check(box.set_value("a cat " * 9).run())
    assert "shorten it" in app.error[0].value
    # A model without a text tower asks for none.
    assert not [area for area in opened("efficientnet_lite0").text_area if area.label == "Prompts"]


def test_repositories_are_those_that_the_operator_names(monkeypatch):
    monkeypatch.setenv("CAM_HUB_MODELS", "somebody/small, hf/somebody/else\nplain open_clip/A/b")
    names = ("hf/somebody/small", "hf/somebody/else", "hf/plain", "open_clip/A/b")
    assert hub_models.list_names() == names
    assert set(hub_models.list_names()) < set(resources.list_models())
    missing = weight_downloads.find_missing(ModelChoice("hf/somebody/small"))
    assert missing.repository == "somebody/small"


def test_a_folder_whose_files_lie_outside_is_not_offered(allowed, tmp_path):
    save_checkpoint(tmp_path / "other", "vit")
    folder = tmp_path / "allowed" / "linked"
    folder.mkdir()
    for path in (tmp_path / "other").iterdir():
        (folder / path.name).symlink_to(path)
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "other")
    assert hub_models.list_names() == (allowed,)
