"""Networks of open_clip by name, beside open_clip's own logits and transform."""

import json
import logging

import open_clip
import pytest
import torch
from open_clip import factory
from open_clip.pretrained import _PRETRAINED
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import save

import cam
from cam._models.load import published
from tests.support.weights_server import as_hub, random_state, serving, without_weights

PROMPTS = ("a photo of a cat", "a photo of a dog", "rain on a street")
# Their names decide the tokenizer of some architectures; these have open_clip's own.
SMALL, BIASED = "small-pair", "small-biased"
_CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module", autouse=True)
def small_architectures(tmp_path_factory):
    """Two architectures that no list has: with one class token, and as SigLIP is."""
    folder = tmp_path_factory.mktemp("architectures")
    timm = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "map", "timm_proj": "none"}
    biased = _CONFIG | {
        "embed_dim": 192,
        "init_logit_bias": -2.0,
        "custom_text": True,
        "vision_cfg": {"image_size": 224, **timm},
    }
    (folder / f"{SMALL}.json").write_text(json.dumps(_CONFIG))
    (folder / f"{BIASED}.json").write_text(json.dumps(biased))
    before = list(factory._MODEL_CONFIG_PATHS)
    open_clip.add_model_config(folder)
    yield
    factory._MODEL_CONFIG_PATHS[:] = before
    factory._rescan_model_configs()


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_architectures):
    """A network of each architecture, and the file of its weights."""
    pairs = {}
    for name in (SMALL, BIASED):
        with torch.random.fork_rng():
            torch.manual_seed(4)
            network = open_clip.create_model(name, pretrained_text=False).eval()
        path = tmp_path_factory.mktemp("weights") / f"{name}.pth"
        torch.save(network.state_dict(), path)
        pairs[name] = (network, path)
    return pairs


@pytest.fixture(params=[SMALL, BIASED])
def name(request):
    return request.param


@pytest.fixture
def model(name, files):
    return cam.load_model(f"open_clip/{name}", files[name][1], prompts=PROMPTS)


def refuse(match: str, name: str, **options) -> None:
    with pytest.raises(cam.ModelError, match=match) as caught:
        cam.load_model(name, **options)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")


def test_scores_and_input_are_open_clips_own(name, files, model):
    network = files[name][0]
    photos = [cam.sample("chelsea"), cam.sample("rocket")]
    prepare = image_transform_v2(PreprocessCfg(**network.visual.preprocess_cfg), is_train=False)
    batch = model.prepare(photos)
    assert torch.equal(batch, torch.stack([prepare(photo) for photo in photos]))
    with torch.no_grad():
        expected, _ = network.get_logits(batch, open_clip.get_tokenizer(name)(list(PROMPTS)))
    assert torch.allclose(model.score(batch), expected, atol=1e-5)
    assert model.labels == PROMPTS
    # All of the short side: the middle 300 × 300 pixels.
    assert model.crop(photos[0]).size == (300, 300)


def test_nothing_is_printed_and_the_callers_log_is_as_before(capfd):
    handlers, level = list(logging.getLogger().handlers), logging.root.manager.disable
    cam.load_model(f"open_clip/{SMALL}", weights=None, prompts=PROMPTS)
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger().handlers, logging.root.manager.disable) == (handlers, level)


def test_only_the_image_tower_is_left(model):
    children = [name for name, _ in model.module.image.network.named_children()]
    assert children == ["visual"] and model.layers[0].startswith("image.network.visual.")


@pytest.mark.parametrize("method", ["gradcam", "legrad", "attention_rollout", "attn_lrp"])
def test_methods_of_every_kind_run(model, method):
    batch = model.prepare(cam.sample("chelsea"))
    attribution = cam.attribute(model, batch, method, targets=PROMPTS[1])[method]
    assert attribution.heatmap.shape[1:] == batch.shape[2:] and attribution.heatmap.std() > 0
    if method == "attn_lrp":
        assert torch.allclose(attribution.raw.sum((1, 2)), attribution.scores, rtol=2e-2)


def test_published_weights_are_downloaded_once(monkeypatch, tmp_path, files):
    without_weights(monkeypatch, tmp_path)
    network, _ = files[SMALL]
    state = random_state(network)
    config = {"hf_hub": "somebody/pair/", "mean": (0.5,) * 3, "std": (0.25,) * 3}
    monkeypatch.setitem(_PRETRAINED, SMALL, {"mine": config})
    full_name = f"open_clip/{SMALL}/mine"
    with serving(save(state), "open_clip_model.safetensors") as server:
        as_hub(server, monkeypatch)
        assert not published(full_name).here
        model = cam.load_model(full_name, prompts=PROMPTS)
        before = list(server.requests)
        cam.load_model(full_name, prompts=PROMPTS[:1])
        assert server.requests == before and published(full_name).here
    weights = model.module.image.network.visual.conv1.weight
    assert torch.equal(weights, state["visual.conv1.weight"])
    assert (model.transform.transforms[-1].mean, model.transform.transforms[-1].std) == (
        (0.5,) * 3,
        (0.25,) * 3,
    )


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("open_clip/ViT-B-33", {}, "has no architecture 'ViT-B-33'; did you mean"),
        ("open_clip/ViT-B-32", {}, r"does not say which weights; write .*/TAG: known: openai"),
        ("open_clip/ViT-B-32/opnai", {}, "did you mean 'openai'"),
        (f"open_clip/{SMALL}", {"weights": None, "prompts": None}, "--prompt on the command line"),
        (
            f"open_clip/{SMALL}",
            {"weights": None, "prompts": ["a cat " * 20]},
            "has 42 tokens, and open_clip/small-pair reads 20 at most",
        ),
    ],
    ids=["architecture", "no tag", "tag", "no prompt", "long prompt"],
)
def test_what_cannot_be_loaded_is_refused(name, options, match):
    refuse(match, name, **({"prompts": PROMPTS} | options))


def test_weights_of_another_network_are_refused(files, tmp_path):
    refuse("does not fit", f"open_clip/{SMALL}", weights=files[BIASED][1], prompts=PROMPTS)
    torch.save({"weights": print}, tmp_path / "bad.pth")
    refuse("is refused", f"open_clip/{SMALL}", weights=tmp_path / "bad.pth", prompts=PROMPTS)
