"""Test the page Anatomy without a browser: choices in, numbers out."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import cam
from tests.support.dashboard_page import check, find, list_values, open_page, read_html, read_words

STEPS = ["Scores", "Target", "Gradients", "Weights", "Maps", "Sum", "Overlay"]


page = partial(open_page, "anatomy")


def heading(app: AppTest) -> str:
    return app.header[0].value


def test_every_step_of_the_slider():
    app = page(image="chelsea")
    for number, step in enumerate(STEPS, start=1):
        app = check(app.select_slider(key="step").set_value(step).run())
        assert heading(app).startswith(f"{number} of 7 · ")
        assert not app.error and not app.warning
        # Saliency's path starts where the gradients do.
        assert ("Saliency map</div>" in read_html(app)) == (number > 2)


@pytest.mark.parametrize("step", STEPS)
def test_a_link_to_a_step(step):
    app = page(image="coffee", target="cup", layer="blocks.4", step=step)
    assert heading(app).startswith(f"{STEPS.index(step) + 1} of 7 · ")
    assert not app.error and not app.warning


def test_the_buttons_beside_the_slider():
    app = page(image="chelsea")
    back, following = (button for button in app.button if button.label in ("Back", "Next"))
    assert back.disabled and not following.disabled
    app = check(following.click().run())
    assert heading(app) == "2 of 7 · The target"
    app = check(find(app.button, "Back").click().run())
    assert heading(app) == "1 of 7 · The scores"


def test_the_numbers_are_the_librarys(bundled):
    anatomy = cam.anatomy(bundled, bundled.prepare(cam.sample("coffee")), layer="blocks.4")
    app = page(image="coffee", layer="blocks.4", step="Sum")
    values = anatomy.summed[0]
    assert f"The ReLU clears {int((values < 0).sum())} of {values.numel()} positions" in read_words(
        app
    )
    assert (
        f"All positions together give {float(values.sum()):.3f}, and the score is "
        in read_words(app)
    )
    assert f"{float(anatomy.scores[0]):.3f}" in read_words(app)
    app = check(app.select_slider(key="step").set_value("Weights").run())
    weights = anatomy.weights[0]
    assert f"{int((weights > 0).sum())} weights are positive" in read_words(app)
    top, bottom = int(weights.argmax()), int(weights.argmin())
    bars = re.findall(r"channel ([\d,]+)</span>", read_html(app))
    assert bars[0] == f"{top:,}" and bars[-1] == f"{bottom:,}" and len(bars) == 12


def test_the_bias_is_told_where_the_sum_lacks_nothing_else(bundled):
    app = page(image="chelsea", layer="bn2", step="Sum")
    bias = float(bundled.module.classifier.bias[bundled.class_index("Egyptian cat")].detach())
    [rest] = re.findall(r"The rest, ([\d.]+), is the bias", read_words(app))
    assert abs(float(rest) - bias) < 1e-4
    app = page(image="chelsea", step="Sum", layer="blocks.4")
    assert "the bias" not in read_words(app)


def test_a_class_that_everything_speaks_against(bundled):
    """A map of zeros is reported, and every step is drawn all the same."""
    batch = bundled.prepare(cam.sample("chelsea"))
    sums = {name: cam.anatomy(bundled, batch, name).summed.max() for name in ("bolete", "paddle")}
    name = min(sums, key=sums.__getitem__)
    app = page(image="chelsea", target=name, step="Sum")
    warned = any("all evidence speaks against" in warning.value for warning in app.warning)
    assert warned == bool(sums[name] < 0)
    for step in STEPS:
        check(app.select_slider(key="step").set_value(step).run())


def test_another_class_changes_the_steps():
    app = page(image="chelsea", step="Target")
    assert "**Egyptian cat**" in read_words(app) and "Rank 1 of 1,000" in read_words(app)
    app = check(app.selectbox(key="target").set_value("lynx").run())
    assert "**lynx**" in read_words(app) and "Rank 4 of 1,000" in read_words(app)


def test_the_steadiness_is_measured(bundled):
    from cam.pages.ui.server import resources
    from cam.pages.ui.state.choices import ModelChoice

    picture = resources.open_sample("chelsea")
    maps = resources.shake(ModelChoice("efficientnet_lite0"), 285, "bn2", picture)
    for attribution in maps.values():
        assert len(attribution.heatmap) == 1 + resources.SHAKES
        assert set(attribution.targets.tolist()) == {285}
    likeness = {
        name: torch.corrcoef(attribution.heatmap.flatten(1))[0, 1:].mean()
        for name, attribution in maps.items()
    }
    # What the page says of the two, on its own first picture.
    assert likeness["gradcam"] > 0.8 and likeness["saliency"] < 0.4


def test_the_code_is_the_call(bundled, tmp_path, monkeypatch):
    """Open the box, run what it shows, and get the map that the page draws."""
    app = page(image="rocket", target="projectile", layer="blocks.4", code="true")
    [code] = list_values(app.code)
    assert "cam.anatomy(model, model.prepare(photo), targets=744, layer='blocks.4')" in code
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    exec(code, namespace)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gradcam.png", "saliency.png"]
    maps = cam.attribute(bundled, bundled.prepare(cam.sample("rocket")), "gradcam", 744, "blocks.4")
    assert np.array_equal(namespace["anatomy"].heatmap, maps["gradcam"].heatmap)


def test_links_that_ask_for_what_is_not_here():
    app = page(step="Gradient")
    [sentence] = list_values(app.warning)
    assert "the step `Gradient`, which is not here; did you mean 'Gradients'" in sentence
    assert heading(app) == "1 of 7 · The scores"


def test_a_layer_that_cannot_be_explained_gets_one_sentence(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise cam.LayerError("the target's score does not depend on layer 'blocks.2'")

    monkeypatch.setattr(cam, "anatomy", refuse)
    app = page(image="chelsea", layer="blocks.2")
    assert list_values(app.error) == ["The target's score does not depend on layer 'blocks.2'."]
    assert not app.header
    assert [box.label for box in app.selectbox][-1] == "Layer for Grad-CAM"


def test_a_network_whose_gradients_are_all_zero():
    """An untrained transformer of torchvision, whose head is zero: told, and no NaN on the page."""
    app = page(model="torchvision/vit_b_32", untrained="true")
    for step in STEPS:
        app = check(app.select_slider(key="step").set_value(step).run())
        assert not app.error
        assert "all gradients are zero" in app.warning[0].value
        without_pictures = re.sub(r'src="[^"]*"', "", read_words(app) + read_html(app))
        assert not re.search(r"\bnan\b", without_pictures, re.IGNORECASE)


def test_layers_of_tokens_have_the_same_seven_steps():
    app = page(model="timm/deit_tiny_patch16_224.fb_in1k", untrained="true")
    for step in STEPS:
        app = check(app.select_slider(key="step").set_value(step).run())
        assert not app.error and not app.warning


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9.2655, "9.27"),
        (-0.0037, "−0.00370"),
        (123.4, "123"),
        (54321, "54,321"),
        (-5.91e-5, "−5.91 × 10⁻⁵"),
    ],
)
def test_numbers(value, text):
    from cam.pages.ui.charts.numbers import format_value

    assert format_value(value) == text


def test_a_label_is_text_and_never_markup():
    from cam.pages.ui.charts import bars, tiles

    label = '<img src=x onerror="alert(1)">'
    values = np.array([[1.0, -1.0], [0.5, 0.0]])
    for drawing in (
        bars.draw_scores([(label, 1, 0.5, True)]),
        bars.draw_signed_bars([(label, 1.0)]),
        tiles.draw_value_grid(values, 1, label),
        tiles.draw_tile(values, 1, label),
        bars.draw_histogram(values, 1.0, label, label),
    ):
        assert "<img src=x" not in drawing and "&lt;img src=x onerror=&quot;alert" in drawing


def test_colours_of_a_signed_map():
    from cam.pages.ui.charts import colours

    values = np.array([[2.0, 0.0, -2.0]])
    red, white, blue = colours.colour_values(values, 2, signed=True)[0].astype(int)
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50 and white.min() > 240
    black = colours.colour_values(np.array([[0.0, np.nan]]), 1, signed=False)[0]
    assert black.max() < 20
