"""Test perturb and see: buttons in, scores out."""

import numpy as np
import pytest
import torch

import cam
from cam._media.edits import Edit, edit_image
from cam._models.preprocessing import find_input_box
from cam.pages.ui.server import resources
from tests.support.dashboard_page import (
    check,
    find,
    list_labels,
    list_values,
    open_page,
    read_address,
    read_html,
)

WAYS = ["Blur", "Erase", "Paint over", "Paste"]
LINK = {"image": "coffee", "methods": "gradcam", "perturb": "true"}
EDIT = "erase.box-200-300-600-800"


def score(edits: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the raw scores and probabilities of the edited image, without the page."""
    model = cam.load_model("efficientnet_lite0")
    photo = cam.sample("coffee")
    box = find_input_box(model.transform, photo.size)
    batch = model.prepare(edit_image(photo, box, edits))
    with torch.no_grad():
        logits = model.module(batch)[0]
    return logits, logits.softmax(0)


def read_metrics(app) -> dict[str, tuple[str, str]]:
    return {metric.label: (metric.value, metric.delta) for metric in app.metric}


def test_without_a_part_there_is_nothing_to_press():
    app = open_page(**LINK)
    disabled = {button.label: button.disabled for button in app.button}
    assert all(disabled[way] for way in WAYS)
    assert disabled["Undo"] and disabled["Restore the image"]
    assert not disabled["Erase its hottest 20%"] and not disabled["Erase a random 20%"]
    assert ":small[No part is selected.]" in list_values(app.markdown)
    assert not app.metric


def test_a_link_with_an_edit_shows_what_it_did():
    app = open_page(**LINK, edit=EDIT)
    (before, chances), (after, changed) = score([]), score([EDIT])
    metrics = read_metrics(app)
    assert list(metrics)[2] == "Prediction now"
    top = int(changed.argmax())
    explained = top  # the link names no class, so it is the edited image's top class
    label = cam.load_model("efficientnet_lite0").labels[explained]
    assert metrics[f"Probability of {label}"] == (
        f"{changed[explained]:.1%}",
        f"{changed[explained] - chances[explained]:+.1%}",
    )
    assert metrics[f"Score of {label}"] == (
        f"{after[explained]:.2f}",
        f"{after[explained] - before[explained]:+.2f}",
    )
    # 0.4 × 0.5 of what the model sees.
    assert "1. Erase a box" in read_html(app) and ">20%<" in read_html(app)


def test_a_contrast_is_measured_as_it_is_explained():
    app = open_page(**LINK, edit=EDIT, target="espresso", against="cup")
    (before, _), (after, _) = score([]), score([EDIT])
    old, new = (float(values[967] - values[968]) for values in (before, after))
    assert read_metrics(app)["Score of espresso, not cup"] == (f"{new:.2f}", f"{new - old:+.2f}")


def test_a_selected_part_is_changed_and_undone(select):
    select(0.25, 0.5, 0.75, 1)
    app = open_page(**LINK)
    app = check(find(app.button, "Blur").click().run())
    assert read_address(app)["edit"] == ["blur.box-250-500-750-1000"]
    # The class that was explained stays.
    assert read_address(app)["target"] == ["espresso"]
    app = check(find(app.button, "Paste").click().run())
    assert read_address(app)["edit"][1] == "paste-chelsea.box-250-500-750-1000"
    _, changed = score(read_address(app)["edit"])
    assert read_metrics(app)["Probability of espresso"][0] == f"{changed[967]:.1%}"
    app = check(find(app.button, "Undo").click().run())
    assert read_address(app)["edit"] == ["blur.box-250-500-750-1000"]
    app = check(find(app.button, "Restore the image").click().run())
    assert "edit" not in read_address(app) and not app.metric


def test_a_brushed_part_is_changed(select):
    select(0.25, 0.5, 0.75, 1, box=False)
    app = check(find(open_page(**LINK).button, "Paint over").click().run())
    [edit] = read_address(app)["edit"]
    assert edit.startswith("grey.grid-")
    expected = np.zeros((64, 64), bool)
    expected[32:, 16:48] = True
    assert (Edit.parse(edit).draw_mask(64, 64) == expected).all()


def test_the_hottest_part_against_a_random_one():
    app = open_page(**LINK)
    model = cam.load_model("efficientnet_lite0")
    batch = model.prepare(cam.sample("coffee"))
    heatmap = cam.attribute(model, batch, "gradcam")["gradcam"].heatmap[0].numpy()
    app = check(find(app.button, "Erase its hottest 20%").click().run())
    hottest = Edit.parse(read_address(app)["edit"][0]).draw_mask(*heatmap.shape)
    assert hottest.mean() == pytest.approx(0.2, abs=0.01)
    # As good as the best 20 % of all pixels.
    best = np.sort(heatmap.ravel())[-hottest.sum() :]
    assert heatmap[hottest].sum() > 0.97 * best.sum()
    app = check(find(app.button, "Restore the image").click().run())
    app = check(find(app.button, "Erase a random 20%").click().run())
    [edit] = read_address(app)["edit"]
    assert Edit.parse(edit).draw_mask(64, 64).mean() == pytest.approx(0.2, abs=0.01)
    assert edit == "erase.random-20-0"


def test_a_change_is_compared_with_the_mean_of_several_random_parts():
    """Of random parts as large as the box, each changed alone: by hand, image by image."""
    app = open_page(**LINK, edit=EDIT, target="espresso")
    before, chances = score([])
    draws = [score([f"erase.random-20-{seed}"]) for seed in range(8)]
    logits = np.array([float(after[967] - before[967]) for after, _ in draws])
    percents = np.array([100 * float(changed[967] - chances[967]) for _, changed in draws])
    table = read_html(app)
    assert f"{logits.mean():+.2f} ± {logits.std(ddof=1):.2f}" in table
    assert f"{percents.mean():+.1f}% ± {percents.std(ddof=1):.1f}%" in table
    assert logits.std() > 0.05  # a single draw says little
    [small] = [text for text in list_values(app.markdown) if "8 random parts" in text]
    assert "9 forward passes" in small


def test_where_no_map_can_be_made_the_scores_stand_alone(monkeypatch):
    def refuse(*_):
        raise cam.LayerError("no layer has feature maps")

    monkeypatch.setattr(resources, "explain", refuse)
    app = open_page(**LINK, edit=EDIT)
    assert "What each change does" in read_html(app) and len(app.metric) == 3
    assert "of Grad-CAM" not in read_html(app)
    # Without a map there is no hottest part.
    assert "Erase its hottest 20%" not in list_labels(app.button)


def test_an_edit_that_cannot_be_done_is_said_once_and_leaves_the_address():
    app = open_page(**LINK, edit=[EDIT, "burn.box-0-0-1-1"])
    [sentence] = list_values(app.warning)
    assert sentence.startswith("The link asks for an edit that cannot be done: ")
    assert "2. " not in read_html(app).split("What each change does")[1]
    app = check(find(app.button, "Erase a random 20%").click().run())
    assert read_address(app)["edit"] == [EDIT, "erase.random-20-1"]
    assert not app.warning


def test_no_more_edits_than_are_measured():
    edits = [f"grey.random-1-{seed}" for seed in range(12)]
    app = open_page(**LINK, edit=edits)
    assert find(app.button, "Erase a random 20%").disabled
    assert not find(app.button, "Undo").disabled
    assert "Edited image" in list_labels(app.get("download_button"))
