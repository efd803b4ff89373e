"""Backbones without a head: their features, and the likeness to another image."""

import json

import pytest
import timm
import torch
import transformers
from click.testing import CliRunner
from timm.data import create_transform, resolve_model_data_config
from torch.nn import functional

import cam
from cam._cli.commands import main
from tests.support.hub_checkpoints import save_checkpoint

_TOKENS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 96}
# What each gives as its features, said once more by hand.
BACKBONES = {
    "Dinov2Model": (_TOKENS | {"patch_size": 16}, lambda out: out.last_hidden_state[:, 0]),
    "DINOv3ViTModel": (
        _TOKENS | {"intermediate_size": 64, "num_register_tokens": 4},
        lambda out: out.last_hidden_state[:, 0],
    ),
    "ResNetModel": (
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 24, 32, 48], "embedding_size": 16},
        lambda out: out.last_hidden_state.mean((2, 3)),
    ),
    "SwinModel": (
        {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        lambda out: out.last_hidden_state.mean(1),
    ),
}


@pytest.fixture(scope="module", params=BACKBONES)
def pair(request, tmp_path_factory):
    """A backbone's folder, and the backbone."""
    folder = tmp_path_factory.mktemp("backbone")
    changes, _ = BACKBONES[request.param]
    network_class = getattr(transformers, request.param)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = network_class(network_class.config_class(**changes)).eval()
    network.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    return folder, network


@pytest.fixture(scope="module")
def model(pair) -> cam.Model:
    return cam.load_model(f"hf/{pair[0]}")


def test_the_features_are_those_of_the_backbone(pair, model):
    batch = model.prepare([cam.sample("chelsea"), cam.sample("rocket")])
    with torch.no_grad():
        expected = BACKBONES[type(pair[1]).__name__][1](pair[1](batch))
    assert model.score(batch).shape == expected.shape
    assert torch.allclose(model.score(batch), expected, atol=1e-5)


def test_the_likeness_to_another_image_is_explained(pair, model):
    batch = model.prepare(cam.sample("chelsea"))
    maps = cam.attribute(model, batch, ["gradcam", "saliency"], model.like(cam.sample("coffee")))
    other = model.prepare(cam.sample("coffee"))
    with torch.no_grad():
        expected = functional.cosine_similarity(model.score(batch), model.score(other))
    assert torch.allclose(maps["gradcam"].scores, expected, atol=1e-5)
    assert maps["saliency"].heatmap.std() > 0


@pytest.mark.parametrize("targets", [None, 3, "cat", [3], [[3, 4]], torch.tensor([3])], ids=str)
def test_features_are_no_classes(model, targets):
    batch = model.prepare(cam.sample("chelsea"))
    with pytest.raises(cam.ModelError, match="gives features and no classes; explain its likeness"):
        cam.attribute(model, batch, "saliency", targets)
    with pytest.raises(cam.ModelError, match="gives features and no classes"):
        model.predict(batch)


def test_a_run_has_nothing_to_measure(model, tmp_path):
    data = cam.dataset("photo-grid", size=64)
    with pytest.raises(cam.ModelError, match="gives features and no classes"):
        cam.evaluate(model, data, "saliency", "deletion", tmp_path / "run", targets="predicted")


def test_the_command_line_asks_for_the_likeness(pair, tmp_path):
    words = ["explain", "sample:chelsea", "--model", f"hf/{pair[0]}", "--method", "saliency"]
    words += ["--out", str(tmp_path)]
    done = CliRunner().invoke(main, [*words, "--like", "sample:coffee", "--json"])
    assert done.exit_code == 0, done.output
    [record] = json.loads(done.stdout)
    assert record["target"]["label"] == "likeness" and record["predictions"] == []
    assert "likeness" in CliRunner().invoke(main, [*words, "--like", "sample:coffee"]).stdout
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 1 and "--like on the command line" in refused.stderr
    both = CliRunner().invoke(main, [*words, "--like", "sample:coffee", "--target", "3"])
    assert both.exit_code == 2 and "give one" in both.stderr


def test_a_classifier_has_no_features_to_compare(bundled):
    with pytest.raises(cam.ModelError, match="gives no features to compare images by"):
        bundled.like(cam.sample("chelsea"))


def test_pooling_that_nobody_trained_is_left_out(tmp_path):
    """As in checkpoints of DINO: the class pools by a layer that they do not have."""
    save_checkpoint(tmp_path, "vit")
    config = transformers.ViTConfig.from_pretrained(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = transformers.ViTModel(config, add_pooling_layer=False).eval()
    network.save_pretrained(tmp_path)
    model = cam.load_model(f"hf/{tmp_path}")
    batch = model.prepare(cam.sample("chelsea"))
    with torch.no_grad():
        expected = network(batch).last_hidden_state[:, 0]
    assert torch.allclose(model.score(batch), expected, atol=1e-5)


def test_timms_backbones_give_features():
    """As dino's in timm: no classifier, and the transform of its weights."""
    name = "vit_small_patch16_224.dino"
    model = cam.load_model(f"timm/{name}", weights=None)
    prepare = create_transform(
        **resolve_model_data_config(timm.create_model(name)), is_training=False
    )
    batch = model.prepare(cam.sample("chelsea"))
    assert torch.equal(batch[0], prepare(cam.sample("chelsea")))
    assert model.task == "embedding" and model.score(batch).shape == (1, 384)
    maps = cam.attribute(model, batch, "legrad", model.like(cam.sample("coffee")))
    assert maps["legrad"].heatmap.std() > 0
