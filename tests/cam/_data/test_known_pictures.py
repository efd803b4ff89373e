"""Generated pictures stay the same, and go with their network alone."""

import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import cam
from cam._cli.commands import main
from cam._runs.plan.options import RunOptions
from cam._runs.plan.run_plan import make_plan
from cam._truth.known_networks import NETWORKS


@pytest.mark.parametrize("network", NETWORKS)
def test_a_picture_depends_on_its_number_and_seed_alone(network):
    few, many = (cam.dataset("known", network=network, size=size) for size in (2, 5))
    other = cam.dataset("known", network=network, size=2, seed=1)
    for a, b, c in zip(few, many, other, strict=False):
        assert a.id == b.id and a.target == b.target
        assert np.array_equal(np.asarray(a.image), np.asarray(b.image))
        assert np.array_equal(a.mask, b.mask) and a.mask.any()
        assert not np.array_equal(np.asarray(a.image), np.asarray(c.image))
    assert len({few.fingerprint, many.fingerprint, other.fingerprint}) == 3
    assert many.limit(2).fingerprint == few.fingerprint
    assert few.fingerprint == cam.dataset("known", network=network, size=2).fingerprint
    with pytest.raises(IndexError, match="there are 2 images"):
        few[2]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_transform_maps_grey_to_nothing(network):
    levels = np.zeros((128, 128, 3), np.uint8)
    levels[:, 40:80], levels[:, 80:] = 127, 254
    batch = cam.load_model(f"known/{network}").prepare(Image.fromarray(levels))
    assert torch.equal(batch[0, 0, 0, [0, 40, 80]], torch.tensor([-1.0, 0.0, 1.0]))
    assert batch.shape == (1, 3, 128, 128)


def test_the_distractor_changes_nothing_and_is_what_is_bright():
    model = cam.load_model("known/distractor")
    for item in cam.dataset("known", network="distractor", size=4):
        batch = model.prepare(item.image)
        bright = (batch[0, :2] > 0.5).all(0)
        assert int(bright.sum()) == 48**2 and not (bright.numpy() & item.mask).any()
        hidden = batch * ~bright
        with torch.no_grad():
            assert torch.equal(model.module(batch), model.module(hidden))


def test_the_network_is_named_as_the_models_are():
    assert {f"known/{name}" for name in NETWORKS} <= set(cam.model_names())
    model = cam.load_model("known/xor", labels=["yes", "no"])
    assert model.labels == ("yes", "no") and model.origin.name == "known/xor"
    assert cam.load_model("known/xor").label(1) == "none or both"


def test_pictures_are_refused_for_another_model():
    data = cam.dataset("known", network="patch", size=2)
    for model in (cam.load_model("known/xor"), cam.Model(torch.nn.Conv2d(3, 2, 1))):
        sentence = f"for cam.load_model('known/patch') and mean nothing to {model.name}"
        with pytest.raises(cam.InputError, match=re.escape(sentence)):
            make_plan(model, data, "saliency", "sparseness")
    make_plan(
        cam.load_model("known/xor"), data, "saliency", "sparseness", RunOptions(targets="predicted")
    )


def test_the_command_line_takes_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (
        "evaluate known --data-option network=patch --data-option size=2 --model known/patch "
        "--method hirescam --metric truth_mass --metric pointing_game --out run --json"
    )
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 0, result.output
    assert '"truth_mass"' in result.stdout
