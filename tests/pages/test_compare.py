"""Test the page Compare without a browser: choices in, measurements out."""

import re
from html import unescape

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import cam
from cam.pages.ui.compare import case_results
from cam.pages.ui.compare.cases import match_class
from cam.pages.ui.state.choices import RANDOM, ModelChoice, Weights
from cam.pages.ui.subject.subject_form import Subject
from tests.support.dashboard_page import (
    finish,
    list_values,
    open_page,
    read_html,
    read_viewers,
    read_words,
)

STEPS = 6
PAIR = ["gradcam", "saliency"]


@pytest.fixture(autouse=True)
def without_the_interpreter(monkeypatch):
    """The pages run as users run them: Triton's interpreter takes minutes for what is measured."""
    monkeypatch.setenv("CAM_KERNELS", "reference")
    # As a test of the page, a coarser curve is as good.
    monkeypatch.setattr(case_results, "STEPS", STEPS)


def page(**query: str | list[str]) -> AppTest:
    """Open the page with all that it waits for."""
    return finish(open_page("compare", **query))


def titles(app: AppTest) -> list[str]:
    """What the maps are called."""
    return [heatmap["title"] for viewer in read_viewers(app) for heatmap in viewer["maps"]]


def cells(app: AppTest) -> list[list[str]]:
    """The rows of the table on the page, without their names."""
    rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", read_html(app))
    return [[unescape(cell) for cell in re.findall(r"<td[^>]*>([^<]*)</td>", row)] for row in rows]


def test_methods_side_by_side():
    app = page(image="chelsea")
    assert titles(app) == ["Grad-CAM", "LayerCAM", "Saliency map", "Input × gradient"]
    assert not app.error and not app.warning
    assert app.header[0].value == "Agreement"


def test_the_matrix_is_the_librarys(bundled):
    app = page(image="coffee", methods=PAIR)
    maps = cam.attribute(bundled, bundled.prepare(cam.sample("coffee")), ["gradcam", "saliency"])
    heatmaps = [attribution.heatmap[0] for attribution in maps.values()]
    for measure, label in (("spearman", "Spearman (order)"), ("top", "Top 5 % in common")):
        app = finish(app.segmented_control(key="likeness").set_value(measure).run())
        expected = cam.agreement(heatmaps, measure)
        measured = np.array([[float(cell.replace("−", "-")) for cell in row] for row in cells(app)])
        assert np.abs(measured - expected.numpy()).max() <= 0.0051
        assert label in read_html(app)


def test_layers_go_sample_depth():
    app = page(image="chelsea", compare="Layers")
    names = ["blocks.0 (112", "blocks.1 (56", "blocks.2 (28", "blocks.4 (14", "bn2 (7"]
    assert [title.rsplit(" ×", 1)[0] for title in titles(app)] == names
    app = finish(app.multiselect(key="layers").set_value(["blocks.6", "blocks.3"]).run())
    assert titles(app) == ["blocks.3 (14 × 14)", "blocks.6 (7 × 7)"], "in the order they run in"
    app = page(image="chelsea", compare="Layers", layers=["blocks.3", "bn2"])
    assert titles(app) == ["blocks.3 (14 × 14)", "bn2 (7 × 7)"] and not app.warning


def test_layers_of_a_network_with_one_resolution():
    from cam.pages.ui.compare.cases import sample_depth
    from cam.pages.ui.server import resources

    model = resources.load_model(ModelChoice("timm/deit_tiny_patch16_224.fb_in1k", RANDOM))
    names = sample_depth(model)
    order = [layer.name for layer in model.feature_layers]
    indices = [order.index(name) for name in names]
    assert len(names) == 5 and indices == sorted(indices)
    assert indices[0] == 0 and indices[-1] == len(order) - 1


def test_classes_are_the_most_probable_ones_and_any():
    app = page(image="chelsea", compare="Classes", one_range="true")
    assert [title.split(" (")[0] for title in titles(app)] == [
        "Egyptian cat", "tiger cat", "tabby", "lynx",
    ]  # fmt: skip
    assert "the raw maps of one method are in one unit" in read_words(app)
    app = finish(app.multiselect(key="classes").set_value(["lynx", "espresso"]).run())
    assert [title.split(" (")[0] for title in titles(app)] == ["lynx", "espresso"]
    # Another picture is asked about its own classes.
    app = finish(app.button_group(key="sample").set_value("coffee").run())
    assert titles(app)[0].startswith("espresso")


def test_two_models_and_the_class_that_they_share():
    # A second real one is bundled.
    app = page(image="chelsea", compare="Two models", methods="gradcam")
    assert titles(app) == ["Grad-CAM, efficientnet_lite0", "Grad-CAM, efficientnet_lite2"]
    app = page(
        image="chelsea",
        compare="Two models",
        second="torchvision/resnet18",
        second_untrained="true",
    )
    assert titles(app) == [
        f"{method}, {model}"
        for method in ("Grad-CAM", "Saliency map")
        for model in ("efficientnet_lite0", "torchvision/resnet18 (random weights)")
    ]
    assert not app.error and not app.warning
    assert len(cells(app)) == 4


def test_a_model_is_not_compared_with_itself_and_its_weights_are_told_apart():
    app = page(image="chelsea", compare="Two models", second="efficientnet_lite0")
    assert "Both are the same model" in app.info[0].value and not titles(app)
    upload = ModelChoice("resnet18", Weights(path="/tmp/1/mine.pth", upload="mine.pth"))
    assert upload.title == "resnet18 (mine.pth)"
    file = ModelChoice("resnet18", Weights(path="/models/five.pth"))
    assert file.title == "resnet18 (five.pth)"


def test_a_class_that_the_second_model_lacks(bundled):
    batch = bundled.prepare(cam.sample("chelsea"))
    chances = bundled.predict(batch)[0].numpy()
    fewer = cam.Model(bundled.module, bundled.transform, [f"name {k}" for k in range(1000)])
    other = Subject(None, None, ModelChoice("other"), fewer, chances, list(range(1000)))
    with pytest.raises(cam.TargetError, match="no class 'Egyptian cat'"):
        match_class(bundled, other, 285)
    named = Subject(None, None, ModelChoice("other"), bundled, chances, list(range(1000)))
    assert match_class(bundled, named, 285) == 285
    nameless = cam.Model(bundled.module, bundled.transform)
    small = Subject(None, None, ModelChoice("small"), nameless, chances[:10], list(range(10)))
    assert match_class(bundled, small, 7) == 7
    with pytest.raises(cam.TargetError, match="10 classes and no labels"):
        match_class(bundled, small, 285)


def test_curves_with_the_areas_of_the_metrics(bundled):
    app = page(image="rocket", methods="gradcam", measure="Deletion and insertion")
    batch = bundled.prepare(cam.sample("rocket"))
    attribution = cam.attribute(bundled, batch, "gradcam")["gradcam"]
    for name in ("deletion", "insertion"):
        [area] = re.findall(rf"> {name}, area ([\d.]+)<", read_html(app))
        expected = float(cam.metric(name, steps=STEPS)(bundled, batch, attribution.heatmap))
        assert float(area) == pytest.approx(expected, abs=2e-3)
    from cam._metrics.localisation.object_masks import centre_heatmap

    [centre] = re.findall(r"centre, deletion ([\d.]+)", read_html(app))
    expected = float(cam.metric("deletion", steps=STEPS)(bundled, batch, centre_heatmap(batch)))
    assert float(centre) == pytest.approx(expected, abs=2e-3)


def test_the_four_questions_and_a_method_that_does_not_run(bundled):
    app = page(image="chelsea", methods=["gradcam", "attention_rollout"], measure="Properties")
    first, second = cells(app)
    batch = bundled.prepare(cam.sample("chelsea"))
    expected = cam.examine(bundled, batch, "gradcam")
    assert first[:2] == ["a layer's activations and their gradients", "1 + 1"]
    numbers = [float(cell) for cell in first[2:-1]]
    assert first[-1] == "yes"
    assert numbers[0] == pytest.approx(float(expected.resolution), abs=0.06)
    assert numbers[1] == pytest.approx(float(expected.variation), abs=1e-4)
    for figure, value in zip(numbers[2:], expected.stability.values(), strict=True):
        assert figure == pytest.approx(float(value), abs=0.01)
    [sentence] = second
    assert sentence.startswith("Does not run here: EfficientNet has no self-attention")
    # Beside the map that there is, its place says the same.
    assert "no self-attention" in app.error[0].value


@pytest.mark.slow
def test_the_random_network_at_a_depth(bundled):
    app = page(
        image="chelsea",
        methods="saliency",
        measure="Sanity check: parameter randomisation",
        depth="3",
    )
    cascade = cam.cascade(bundled, bundled.prepare(cam.sample("chelsea")), "saliency", stages=8)
    [likeness] = re.findall(r"\*\*Saliency map\*\*: (−?[\d.]+)", read_words(app))
    assert float(likeness.replace("−", "-")) == pytest.approx(float(cascade.likeness[3]), abs=0.02)
    assert f"down to `{cascade.depths[3]}`" in read_words(app)
    app = finish(app.slider(key="depth").set_value(0).run())
    assert "**Saliency map**: 1.00" in read_words(app) and "nothing is random yet" in read_words(
        app
    )


def test_a_method_with_passes_of_its_own_goes_to_the_background():
    app = page(image="chelsea", methods=["gradcam", "guided_backprop"])
    assert titles(app) == ["Grad-CAM", "Guided backpropagation"] and len(cells(app)) == 2


def test_a_flat_map_shows_a_dash_and_no_nan():
    """An untrained transformer of torchvision: its head is zero, and so is every gradient."""
    for measure in ("Agreement", "Properties"):
        app = page(model="torchvision/vit_b_32", untrained="true", methods=PAIR, measure=measure)
        text = re.sub(r'src="[^"]*"', "", read_words(app) + read_html(app))
        assert not re.search(r"\bnan\b", text, re.IGNORECASE), measure
        if measure == "Agreement":
            assert {cell for row in cells(app) for cell in row} == {"–"}


def test_links_that_ask_for_what_is_not_here():
    app = page(compare="Method", measure="Agrement")
    sentences = list_values(app.warning)
    assert "the comparison `Method`, which is not here; did you mean 'Methods'" in sentences[0]
    assert "the measurement `Agrement`" in sentences[1] and "'Agreement'" in sentences[1]
    assert app.header[0].value == "Agreement"


@pytest.mark.parametrize(
    ("compare", "measure"),
    [
        ("Methods", "Agreement"),
        *(
            pytest.param(*choice, marks=pytest.mark.slow)
            for choice in (
                ("Layers", "Sanity check: parameter randomisation"),
                ("Classes", "Deletion and insertion"),
                ("Two models", "Properties"),
            )
        ),
        ("Two models", "Agreement"),
    ],
)
def test_the_code_is_the_call(compare, measure, capsys):
    """Open the box, run what it shows, and get what the page tells."""
    # It sees more of the photo than the bundled one, so that their maps must be cut first.
    second = {"second": "torchvision/efficientnet_b1", "second_untrained": "true"}
    query = {
        # Rollout does not run here, so the call that copies is without it.
        "Methods": {"methods": [*PAIR, "attention_rollout"]},
        "Layers": {"layers": ["blocks.3", "bn2"]},
        "Classes": {"classes": ["tabby", "lynx"]},
        "Two models": second | {"methods": "gradcam"},
    }[compare]
    app = page(image="chelsea", compare=compare, measure=measure, code="true", **query)
    [code] = list_values(app.code)
    namespace: dict = {}
    exec(code, namespace)
    cases = titles(app)[:2]
    assert list(namespace["attributions"]) == cases
    printed = capsys.readouterr().out
    if measure == "Agreement":
        values = re.findall(r"[\d.]{4,}", printed)
        assert abs(float(values[1]) - float(cells(app)[0][1])) < 0.006
    else:
        assert all(title in printed for title in cases)


def test_a_label_is_text_and_never_markup():
    from cam.pages.ui.charts import plots, tables
    from cam.pages.ui.compare.cases import Case
    from cam.pages.ui.compare.sections import _draw_curves

    label = '<img src=x onerror="alert(1)">'
    curves = cam.Curves(torch.linspace(0, 1, 2), torch.ones(1, 2), torch.ones(1, 2))
    line = plots.Line(label, [0, 1], [0, 1], "#000")
    for drawing in (
        plots.plot_lines([line], (0, 1), label, label, label),
        tables.draw_matrix([label], np.ones((1, 1)), label),
        tables.draw_table(["", "a"], [[label, label]], label),
        _draw_curves(Case(label, None, "gradcam", 0, None), curves, curves),
    ):
        assert "<img src=x" not in drawing and "&lt;img src=x onerror=" in drawing


def test_a_line_goes_where_its_numbers_are():
    import base64

    from cam.pages.ui.charts import plots

    line = plots.Line("one", [0, 0.5, 1], [1, np.nan, 0.25], "#123456")
    chart = plots.plot_lines([line], (0, 1), "x", "y", "a chart")
    drawn = [
        base64.b64decode(uri).decode()
        for uri in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", chart)
    ]
    [points] = [
        re.search(r'points="([^"]*)" fill="none" stroke="#123456"', svg)[1]
        for svg in drawn
        if "0 0 100 100" in svg
    ]
    assert points == "0.00,0.00 100.00,75.00", "a gap where there is no number"
