"""Explore's first screen: the claim, the predictions, all methods, details."""

import re

import pytest

import cam
from cam.pages.ui.widgets import method_picker
from tests.support.dashboard_page import (
    check,
    find,
    list_labels,
    list_values,
    open_page,
    read_address,
    read_maps,
    read_words,
)


def test_the_claim_counts_what_was_computed():
    words = read_words(open_page(image="coffee", methods=["gradcam", "saliency", "layercam"]))
    claim = next(line for line in words.split("\n") if "one forward and one backward" in line)
    assert re.fullmatch(
        r"\*\*3 methods\*\* · one forward and one backward pass · \*\*\d+\.\d\d s\*\* on \w+", claim
    )


def test_one_click_shows_all_methods_of_the_pass():
    app = open_page(image="coffee")
    [button] = [button for button in app.button if button.label.startswith("Show all")]
    app = check(button.click().run())
    quick = list(method_picker.list_quick())
    assert button.label == f"Show all {len(quick)} methods of this pass"
    assert read_address(app)["methods"] == quick
    titles = [cam.methods()[name].title for name in quick]
    assert read_maps(app) == [f"{title} heatmap for espresso" for title in titles]
    assert not [label for label in list_labels(app.button) if label.startswith("Show all")]
    # And it is true: none of them has further passes.
    assert not any(cam.methods()[name].passes for name in quick)


def test_a_click_on_a_prediction_explains_it():
    app = open_page(image="coffee", methods="gradcam", against="cup", channel="3")
    pills = app.button_group(key="prediction")
    model = cam.load_model("efficientnet_lite0")
    chances = model.predict(model.prepare(cam.sample("coffee")))[0]
    top = chances.topk(5).indices.tolist()
    labels = [f"{model.labels[index]} **{chances[index]:.1%}**" for index in top]
    assert list(pills.options) == labels
    app = check(pills.set_value(top[2]).run())
    assert read_address(app)["target"] == [model.labels[top[2]]]
    # What belongs to the class before goes with it.
    assert not {"against", "channel"} & read_address(app).keys()
    assert read_maps(app) == [f"Grad-CAM heatmap for {model.labels[top[2]]}"]
    app = check(app.button_group(key="prediction").set_value(top[0]).run())
    assert "target" not in read_address(app)


def test_a_class_that_is_not_probable_is_offered_beside_the_others():
    app = open_page(image="coffee", methods="gradcam", target="lynx")
    options = list(app.button_group(key="prediction").options)
    assert len(options) == 6 and options[-1].startswith("lynx")


@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_details_say_score_layer_and_trust(method):
    app = open_page(image="coffee", methods=method, details="true")
    words = "\n".join(list_values(app.markdown))
    model = cam.load_model("efficientnet_lite0")
    score = model.score(model.prepare(cam.sample("coffee")))[0, 967]
    assert f"Score explained: {score:.3f} (raw logit)" in words
    assert ("7 × 7 feature grid" in words) == (method == "gradcam")
    assert f"**{cam.methods()[method].title}**: {cam.methods()[method].description}" in words


def test_the_second_bundled_model_is_there_without_a_click():
    """Two models opens with two real ones."""
    app = open_page("compare", image="coffee", compare="Two models")
    assert not app.error
    assert find(app.selectbox, "Second model").value == "efficientnet_lite2"
    assert find(app.selectbox, "Model").value == "efficientnet_lite0"
