"""CLIP and SigLIP as classifiers over prompts, beside transformers' own logits."""

import pickle

import pytest
import torch
import transformers

import cam
from tests.support.hub_checkpoints import save_checkpoint
from tests.support.image_text_checkpoints import (
    NETWORKS,
    PROMPTS,
    make_tokenizer,
    save_image_text,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("image-text")
    return {kind: (root / kind, save_image_text(root / kind, kind)) for kind in NETWORKS}


@pytest.fixture(params=NETWORKS)
def kind(request):
    return request.param


@pytest.fixture
def model(saved, kind):
    return cam.load_model(f"hf/{saved[kind][0]}", prompts=PROMPTS)


@pytest.fixture
def batch(model):
    return model.prepare([cam.sample("chelsea"), cam.sample("rocket")])


def refuse(match: str, folder, **options) -> None:
    with pytest.raises(cam.ModelError, match=match) as caught:
        cam.load_model(f"hf/{folder}", **options)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")


def test_the_scores_are_the_networks_own_logits(saved, kind, model, batch):
    full = {"padding": "max_length", "max_length": 12}
    tokens = make_tokenizer()(
        list(PROMPTS), return_tensors="pt", **(full if kind == "siglip" else {"padding": True})
    )
    with torch.no_grad():
        expected = saved[kind][1](**tokens, pixel_values=batch).logits_per_image
    # Three prompts and two images that differ.
    assert expected.std() > 0.1
    assert torch.allclose(model.score(batch), expected, atol=1e-5)


def test_the_classes_are_the_prompts(saved, kind, model, batch):
    assert model.labels == PROMPTS
    maps = cam.attribute(model, batch, "gradcam", targets=PROMPTS[1])
    assert maps["gradcam"].targets.tolist() == [1, 1]
    # Alone, a prompt scores what it scores beside others.
    alone = cam.load_model(f"hf/{saved[kind][0]}", prompts=PROMPTS[2:])
    assert torch.allclose(alone.score(batch)[:, 0], model.score(batch)[:, 2], atol=1e-5)


def test_nothing_of_the_text_is_left_to_be_explained(model):
    names = [name for name, _ in model.module.named_modules()]
    assert not [name for name in names if "text" in name]
    assert model.layers[0].startswith("image.network.vision_model.")
    assert all(layer.name.startswith("image.network.vision") for layer in model.feature_layers)


@pytest.mark.parametrize(
    "method",
    ["attention_rollout", "generic_attention", "legrad", "transformer_attribution", "rise"],
)
def test_attention_and_black_box_methods_run(model, batch, method):
    options = {"masks": 8} if method == "rise" else {}
    maps = cam.attribute(model, batch, cam.method(method, **options), targets=0)
    heatmap = maps[method].heatmap
    assert heatmap.shape == (2, 96, 96) and heatmap.isfinite().all() and heatmap.std() > 0


def test_relevance_adds_up_to_the_score(model, batch):
    """A length only scales: through it a gradient alone would share out nothing at all."""
    maps = cam.attribute(model, batch, ["attn_lrp", "input_x_gradient"], targets=2)
    attribution = maps["attn_lrp"]
    assert torch.allclose(attribution.raw.sum((1, 2)), attribution.scores, rtol=1e-2)
    assert not attribution.notes()


def test_a_run_is_measured_and_resumed_with_its_prompts(saved, tmp_path):
    for label in PROMPTS[:2]:
        (tmp_path / "data" / label).mkdir(parents=True)
        cam.sample("chelsea").resize((120, 90)).save(tmp_path / "data" / label / "a.png")
    model = cam.load_model(f"hf/{saved['clip'][0]}", prompts=PROMPTS)
    data = cam.dataset(str(tmp_path / "data"))
    run = cam.evaluate(model, data, "gradcam", "deletion", tmp_path / "run")
    assert sorted(run.items()["target"]) == [0, 1]
    call = cam.Run.open(tmp_path / "run").call
    assert call.load_model().labels == PROMPTS
    assert "--prompt 'a photo of a cat' --prompt 'a photo of a dog'" in call.command("run")
    program = call.python("run").split("data =")[0]
    scope = {}
    exec(program, scope)
    assert scope["model"].labels == PROMPTS


def test_it_can_be_sent_to_another_process(model, batch):
    other = pickle.loads(pickle.dumps(model))
    assert torch.allclose(other.score(batch), model.score(batch), atol=1e-6)
    assert other.origin.prompts == PROMPTS


def test_the_processors_file_of_a_pair_is_read(saved, tmp_path):
    """Together, processor and tokenizer are saved in another file."""
    folder, network = saved["clip"]
    network.save_pretrained(tmp_path)
    processor = transformers.CLIPProcessor(NETWORKS["clip"][3], make_tokenizer())
    processor.save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    photo = cam.sample("chelsea")
    batch = cam.load_model(f"hf/{tmp_path}", prompts=PROMPTS).prepare(photo)
    assert torch.equal(batch, cam.load_model(f"hf/{folder}", prompts=PROMPTS).prepare(photo))


@pytest.mark.parametrize(
    ("prompts", "match"),
    [
        (None, "compares an image with texts, which are its classes; give some"),
        ([], "give some, such as prompts="),
        ("a cat", "prompts is a list of texts"),
        (["a cat", 7], "prompts is a list of texts"),
        (["a cat", "  "], "prompt 2 is empty"),
        (["a cat", "a dog", "a cat"], "the prompt 'a cat' is there twice"),
        (["a cat " * 7], r"the prompt 'a cat .*' has 15 tokens, and .* reads 12 at most"),
    ],
    ids=["missing", "none", "one text", "number", "empty", "twice", "too long"],
)
def test_prompts_that_mean_nothing_are_refused(saved, kind, prompts, match):
    refuse(match, saved[kind][0], prompts=prompts)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "torchvision/resnet18"])
def test_prompts_for_a_network_without_a_text_tower_are_refused(name, tmp_path):
    with pytest.raises(cam.ModelError, match="has no text tower, so prompts mean nothing to it"):
        cam.load_model(name, weights=None, prompts=PROMPTS)
    save_checkpoint(tmp_path, "vit")
    refuse("has no text tower", tmp_path, prompts=PROMPTS)


def test_a_checkpoint_without_its_tokenizer_is_told(tmp_path):
    save_image_text(tmp_path, "clip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    refuse("has no tokenizer, so", tmp_path, prompts=PROMPTS)


def test_a_network_that_compares_otherwise_is_refused(tmp_path, monkeypatch):
    save_image_text(tmp_path, "clip")
    forward = transformers.CLIPModel.forward

    def other(*arguments, **options):
        output = forward(*arguments, **options)
        output.logits_per_image = output.logits_per_image + 1
        return output

    monkeypatch.setattr(transformers.CLIPModel, "forward", other)
    refuse("in a way that is not known here", tmp_path, prompts=PROMPTS)
