"""Maps that know of no model, measured beside the methods."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import cam
from cam._cli.commands import main
from cam._metrics.localisation.object_masks import centre_heatmap
from tests.support.maps import attribution_of
from tests.support.stand_in import Broken, Drop, Inside, network


def evaluate(out, **options) -> cam.Run:
    settings = {"methods": "gradcam", "metrics": [Inside(), Drop()], "baselines": "centre"}
    data = options.pop("data", None) or cam.dataset("photo-grid", size=6)
    return cam.evaluate(network(), data, out=out, shard_size=4, **settings | options)


def test_the_centre_is_measured_as_a_methods_map_is(tmp_path):
    """The metrics' own functions on the bump, image by image and without a run."""
    run = evaluate(tmp_path / "r")
    assert run.methods == ["gradcam", "centre"]
    model, data = network(), cam.dataset("photo-grid", size=6)
    for metric in (Inside(), Drop()):
        truth = []
        for item in data:
            batch = model.prepare([item.image])
            masks = torch.from_numpy(item.mask[16:240, 16:240].copy())[None]
            bump = attribution_of(centre_heatmap(batch))
            targets = torch.tensor([item.target])
            truth.append(metric.measure(model, batch, bump, targets, masks).values)
        values = run.values(metric.name)["centre"].to_numpy()
        assert np.allclose(values, torch.cat(truth).numpy(), rtol=1e-4, atol=1e-6)
    costs = run.costs().query("method == 'centre' and metric.isna()")
    assert costs[["images", "forwards", "backwards"]].values.tolist() == [[6, 0, 0]]
    stored = run.image(5).heatmaps["centre"]
    assert stored[28, 28] == stored.max()
    assert set(run.comparisons("inside").loc[0, ["better", "worse"]]) == {"gradcam", "centre"}


def test_a_baseline_changes_no_methods_score(tmp_path):
    with_it = evaluate(tmp_path / "with")
    without = evaluate(tmp_path / "without", baselines=())
    assert "baseline" not in str(without.config["methods"])
    for metric in ("inside", "drop"):
        assert with_it.values(metric)["gradcam"].equals(without.values(metric)["gradcam"])
    with pytest.raises(cam.RunError, match="methods: gradcam → gradcam, centre"):
        evaluate(tmp_path / "without")


def test_metrics_that_explain_again_say_why_there_is_no_value(tmp_path):
    metric = cam.metric("max_sensitivity", samples=1)
    run = evaluate(tmp_path / "r", metrics=[metric])
    board = run.leaderboard().set_index("method")
    assert board["n"].to_dict() == {"gradcam": 6, "centre": 0}
    assert board["nan"].to_dict() == {"gradcam": 0, "centre": 6}
    assert set(run.failures()["reason"]) == {
        "max_sensitivity explains again, and centre is no method"
    }


def test_where_the_baseline_fails_and_where_there_is_none(tmp_path):
    target = cam.dataset("photo-grid", size=6)[1].target
    run = evaluate(tmp_path / "r", metrics=[Broken(target)])
    values = run.values("broken")
    assert (values["gradcam"].isna() == values["centre"].isna()).all()
    assert 0 < values["centre"].isna().sum() < 6
    with pytest.raises(cam.CamError, match="there is no baseline 'center'; did you mean 'centre'"):
        evaluate(tmp_path / "q", baselines=["center"])
    assert "centre" not in cam.methods()


def test_the_command_takes_a_baseline(tmp_path, monkeypatch):
    monkeypatch.setattr(cam, "load_model", lambda *_, **__: network())
    result = CliRunner().invoke(
        main,
        ["evaluate", "photo-grid", "--data-option", "size=4", "--method", "gradcam", "--metric",
         "grid_pointing_game", "--baseline", "centre", "--out", str(tmp_path / "r")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "centre" in result.stdout
    assert cam.Run.open(tmp_path / "r").methods == ["gradcam", "centre"]


def test_the_leaderboard_tells_gradcam_from_chance_and_from_the_centre(tmp_path, bundled):
    """On the bundled model, by the means; over four photos there is no test."""
    run = cam.evaluate(
        bundled,
        cam.dataset("photo-grid", size=24, seed=0),
        ["gradcam", "randomcam"],
        "grid_pointing_game",
        tmp_path / "r",
        baselines="centre",
        heatmaps=0,
    )
    means = run.leaderboard().set_index("method")["mean"]
    assert means["gradcam"] > means[["randomcam", "centre"]].max()
    # The bump is even over the four cells.
    assert means["centre"] == pytest.approx(0.25, abs=0.01)
    pairs = run.comparisons("grid_pointing_game")
    of_gradcam = pairs[pairs["better"] == "gradcam"]
    assert set(of_gradcam["worse"]) == {"randomcam", "centre"}
    assert set(pairs["verdict"]) == {"too few (1 group)"} and pairs["holm"].isna().all()
