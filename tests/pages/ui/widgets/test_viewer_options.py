"""Test how maps are saved against what the viewer draws."""

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._output.viewer.payload import ViewerOptions
from cam.pages.ui.widgets.viewer_options import draw_overlay
from cam.polarity import DIVERGING
from tests.support.dashboard_page import list_values, open_page, read_viewers

PERCENTILES = [(name, info.percentile) for name, info in cam.methods().items()]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return cam.sample("chelsea").resize((64, 64))


def make_attribution(method: str, raw: torch.Tensor, kind: str) -> cam.Attribution:
    positive = raw.clamp(min=0)
    return cam.Attribution(
        heatmap=positive / positive.max().clamp(min=1e-12),
        raw=raw,
        targets=torch.tensor([0]),
        scores=torch.zeros(1),
        logits=torch.zeros(1, 2),
        layers=(),
        method=method,
        kind=kind,
        cost=cam.types.Cost(1, 1, 0.1),
        precision="fp32",
    )


@pytest.mark.parametrize("signs", ["auto", "for", "both", "against"])
@pytest.mark.parametrize("kind", ["contribution", "evidence"])
@pytest.mark.parametrize("below", [True, False], ids=["both signs", "for alone"])
@pytest.mark.parametrize("percentile", [True, False], ids=["percentile", "whole range"])
def test_what_is_saved_is_what_the_viewer_draws(photo, signs, kind, below, percentile):
    """The rules of cell.js and of payload.pack, written again with the library's own overlay.

    Signed layers end at the percentile of all sizes, whichever signs are drawn.
    """
    method = next(name for name, end in PERCENTILES if (end < 100) == percentile)
    raw = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    raw = raw if below else raw.abs()
    attribution = make_attribution(method, raw, kind)
    options = ViewerOptions(0.7, False, 0.1, "viridis", signs)
    drawn = np.asarray(draw_overlay(options, photo, attribution))
    end = cam.methods()[method].percentile
    contribution = kind == "contribution"
    look = {"alpha": 0.7, "percentile": end, "threshold": 0.1, "fade": False}
    if contribution if signs == "auto" else signs in ("both", "against") and below:
        scaled = raw[0] / raw.abs().max()
        expected = np.asarray(cam.overlay(photo, scaled, DIVERGING, signed=True, **look))
        if signs == "against":
            expected = np.where((scaled.numpy() < 0)[..., None], expected, np.asarray(photo))
    elif signs == "against":
        expected = np.asarray(photo)
    else:
        expected = np.asarray(cam.overlay(photo, attribution.heatmap[0], "viridis", **look))
    assert np.abs(drawn.astype(int) - expected).max() <= 1


def test_an_address_says_how_maps_are_drawn():
    app = open_page(
        image="coffee", opacity="0.3", fade="false", threshold="0.2", colormap="jet", signs="both"
    )
    [viewer] = read_viewers(app)
    assert viewer["options"] == {
        "alpha": 0.3, "fade": False, "threshold": 0.2, "colormap": "jet", "signs": "both",
    }  # fmt: skip
    assert not app.warning and not app.error


def test_what_no_viewer_can_draw_is_one_sentence_each():
    app = open_page(image="coffee", opacity="7", threshold="nan", colormap="rainbow", signs="up")
    [viewer] = read_viewers(app)
    defaults = ViewerOptions()
    assert viewer["options"]["alpha"] == defaults.alpha
    assert viewer["options"]["colormap"] == defaults.colormap
    sentences = list_values(app.warning)
    assert len(sentences) == 4 and all("The link asks for" in line for line in sentences)
