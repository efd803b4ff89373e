"""Checkpoints of Hugging Face by name, compared with transformers' own pipeline."""

import copy
import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import cam
from tests.support.hub_checkpoints import CHECKPOINTS, NAMES, change_config, save_checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    for kind in CHECKPOINTS:
        save_checkpoint(root / kind, kind)
    return {kind: root / kind for kind in CHECKPOINTS}


@pytest.fixture(params=CHECKPOINTS)
def folder(request, saved) -> Path:
    return saved[request.param]


@pytest.fixture
def copied(saved, tmp_path) -> Path:
    """A checkpoint that a test may spoil."""
    return Path(shutil.copytree(saved["vit"], tmp_path / "copied"))


def refuse(match: str, *arguments, **options) -> None:
    with pytest.raises(cam.CamError, match=match) as caught:
        cam.load_model(*arguments, **options)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")


# The same as transformers


@pytest.mark.parametrize("photo", ["chelsea", "rocket"])
def test_probabilities_are_those_of_transformers_own_pipeline(folder, photo):
    model = cam.load_model(f"hf/{folder}")
    truth = transformers.pipeline("image-classification", str(folder), device="cpu", top_k=None)
    expected = {answer["label"]: answer["score"] for answer in truth(cam.sample(photo))}
    chances = model.predict(model.prepare(cam.sample(photo)))[0]
    assert {model.label(i): chance.item() for i, chance in enumerate(chances)} == pytest.approx(
        expected, abs=1e-5
    )


def test_the_input_is_what_the_processor_makes(folder):
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    photos = [cam.sample("chelsea"), cam.sample("rocket")]
    batch = cam.load_model(f"hf/{folder}").prepare(photos)
    assert torch.equal(batch, processor(photos, return_tensors="pt")["pixel_values"])


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (1000, 333), (120, 121), (40, 30)])
def test_the_crop_is_what_the_processor_keeps(folder, size):
    """Whatever lies outside of the crop may change, and the processor does not see it."""
    model = cam.load_model(f"hf/{folder}", weights=None)
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    left, top, right, bottom = model.transform.find_box(size)
    before = model.transform(Image.fromarray(noise))
    # An interpolation reaches over the edge, by two pixels of the coarser picture.
    reach = 3 * max(1, round(max((right - left, bottom - top)) / min(before.shape[1:])))
    outside = np.ones(noise.shape[:2], bool)
    rows = slice(max(0, top - reach), bottom + reach)
    outside[rows, max(0, left - reach) : right + reach] = False
    noise[outside] = 255 - noise[outside]
    assert torch.equal(model.transform(Image.fromarray(noise)), before)
    # And what lies on its edge is seen.
    for edge in (noise[top : top + reach], noise[bottom - reach : bottom]):
        edge[:, left:right] = 255 - edge[:, left:right]
        changed = model.transform(Image.fromarray(noise))
        assert not torch.equal(changed, before)
        before = changed
    for edge in (noise[:, left : left + reach], noise[:, right - reach : right]):
        edge[top:bottom] = 255 - edge[top:bottom]
        changed = model.transform(Image.fromarray(noise))
        assert not torch.equal(changed, before)
        before = changed
    assert model.crop(Image.fromarray(noise)).size == (right - left, bottom - top)


@pytest.mark.parametrize("kind", ["resnet", "dinov2", "mobilevit"])
@pytest.mark.parametrize("size", [(451, 300), (300, 800)])
def test_the_crop_by_hand(saved, kind, size):
    """Short side to 96 / 0.8, 128 or 112 pixels, then the middle 96, 98 or 96."""
    cropped, resized = {"resnet": (96, 120), "dinov2": (98, 128), "mobilevit": (96, 112)}[kind]
    model = cam.load_model(f"hf/{saved[kind]}", weights=None)
    side = min(size) * cropped / resized
    expected = [(length - side) / 2 for length in size] + [(length + side) / 2 for length in size]
    # Half a pixel of the resized picture, by which its middle may be off, and one of the photo.
    assert model.transform.find_box(size) == pytest.approx(
        expected, abs=1 + 0.5 * min(size) / resized
    )


def test_a_processor_that_pads_shows_its_own_picture(tmp_path):
    save_checkpoint(tmp_path, "dinov2")
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": 60}, crop_size={"height": 98, "width": 98}
    )
    processor.save_pretrained(tmp_path)
    model = cam.load_model(f"hf/{tmp_path}", weights=None)
    photo = cam.sample("chelsea")
    assert model.transform.find_box(photo.size) is None
    pixels = np.asarray(model.crop(photo)).astype(int)
    plain = processor(photo, do_normalize=False, do_rescale=False, return_tensors="np")
    expected = plain["pixel_values"][0].transpose(1, 2, 0)
    assert np.abs(pixels - expected).max() <= 1


def test_an_explanation_lies_on_the_photo(saved):
    model = cam.load_model(f"hf/{saved['resnet']}")
    photo = cam.sample("chelsea")
    maps = cam.attribute(model, model.prepare(photo), ["gradcam", "saliency"], targets="owl")
    assert maps["gradcam"].heatmap.shape == (1, 96, 96)
    assert maps["gradcam"].targets.tolist() == [2]
    # The middle three quarters, which the processor crops by percentage.
    assert model.crop(photo).size == pytest.approx((240, 240), abs=1)


# Names


def test_labels_are_the_configurations(saved):
    assert cam.load_model(f"hf/{saved['vit']}", weights=None).labels == tuple(NAMES.values())


def test_placeholders_are_no_labels(tmp_path):
    save_checkpoint(tmp_path, "vit", labels=None)
    model = cam.load_model(f"hf/{tmp_path}")
    assert model.labels is None
    named = cam.load_model(f"hf/{tmp_path}", labels=["a", "b", "c", "d", "e"])
    assert named.label(4) == "e"
    refuse("labels names 2 classes, but the model has 5", f"hf/{tmp_path}", labels=["a", "b"])


def test_a_folder_is_remembered_from_everywhere(saved, monkeypatch):
    monkeypatch.chdir(saved["vit"].parent)
    origin = cam.load_model("hf/vit", weights=None).origin
    assert origin.name == f"hf/{saved['vit']}"


def test_a_model_can_be_copied_and_sent(saved):
    model = cam.load_model(f"hf/{saved['resnet']}")
    batch = model.prepare(cam.sample("chelsea"))
    for other in (model.twin(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other.prepare(cam.sample("chelsea")), batch)
        assert repr(other.transform) == repr(model.transform)
        assert torch.allclose(other.score(batch), model.score(batch), atol=1e-6)


# Weights


def test_random_weights_are_drawn_by_torchs_generator(saved):
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(cam.load_model(f"hf/{saved['vit']}", weights=None).module.state_dict())
    first, same, other = (state["classifier.weight"] for state in states)
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_weights_of_a_file_bring_their_number_of_classes(saved, tmp_path):
    network = save_checkpoint(tmp_path / "two", "vit", labels={0: "yes", 1: "no"})
    torch.save(network.state_dict(), tmp_path / "own.pth")
    model = cam.load_model(f"hf/{saved['vit']}", weights=tmp_path / "own.pth")
    batch = model.prepare(cam.sample("chelsea"))
    with torch.no_grad():
        expected = network(batch).logits
    assert torch.allclose(model.score(batch), expected, atol=1e-6)
    assert model.labels is None


def test_pickled_weights_are_read_as_tensors_only(copied):
    state = cam.load_model(f"hf/{copied}").module.state_dict()
    (copied / "model.safetensors").unlink()
    refuse("has no weights that are tensors only", f"hf/{copied}")
    torch.save(state, copied / "pytorch_model.bin")
    loaded = cam.load_model(f"hf/{copied}").module.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())

    class Shell:
        def __reduce__(self):
            return (print, ("this must never be printed",))

    torch.save({"classifier.weight": Shell()}, copied / "pytorch_model.bin")
    refuse("pytorch_model.bin is refused", f"hf/{copied}")


def test_weights_in_shards_are_those_of_the_whole(copied):
    model = transformers.AutoModelForImageClassification.from_pretrained(copied)
    (copied / "model.safetensors").unlink()
    model.save_pretrained(copied, max_shard_size="20KB")
    assert len(list(copied.glob("model-*.safetensors"))) > 1
    loaded = cam.load_model(f"hf/{copied}").module.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())


def test_an_index_that_names_files_elsewhere_is_refused(copied):
    (copied / "model.safetensors").rename(copied.parent / "elsewhere.safetensors")
    index = {"weight_map": {"classifier.weight": "../elsewhere.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    refuse("names no files of weights beside it", f"hf/{copied}")


def test_a_head_that_nobody_trained_is_refused(tmp_path):
    network = save_checkpoint(tmp_path, "vit")
    network.base_model.save_pretrained(tmp_path)
    change_config(tmp_path, architectures=["ViTForImageClassification"])
    refuse(r"lack classifier\.bias, classifier\.weight, or", f"hf/{tmp_path}")


# What is refused


def test_a_checkpoints_own_code_never_runs(copied, capfd):
    (copied / "own.py").write_text("print('this must never be printed')\n")
    change_config(
        copied,
        model_type="own",
        auto_map={"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"},
    )
    refuse("needs code that comes with it", f"hf/{copied}")
    assert "printed" not in capfd.readouterr().out


def test_compiled_code_that_a_configuration_names_is_not_fetched(copied, monkeypatch):
    def fetch(*_, **__):
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr("transformers.modeling_utils.is_kernel", lambda name: "/" in str(name))
    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", fetch)
    change_config(copied, attn_implementation="somebody/attention")
    model = cam.load_model(f"hf/{copied}")
    assert model.module.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "of-tomorrow"}, "has no architecture 'of-tomorrow'"),
        ({"architectures": ["AutoConfig"]}, "'AutoConfig', which is no network"),
        ({"architectures": ["Nonsense"], "model_type": "bert"}, "is 'Nonsense'"),
        (
            {"architectures": ["BertForSequenceClassification"], "model_type": "bert"},
            "takes no images",
        ),
        ({"hidden_size": "wide"}, "transformers cannot read the config.json"),
        ({"hidden_size": 64}, "do not fit|lack"),
    ],
    ids=["tomorrow", "no network", "nonsense", "text", "damaged", "other"],
)
def test_what_is_no_classifier_of_images_is_refused(copied, changes, match):
    change_config(copied, **changes)
    refuse(match, f"hf/{copied}")


def test_a_folder_without_configuration_or_processor_is_told(copied):
    (copied / "preprocessor_config.json").unlink()
    refuse("has no preprocessor_config.json", f"hf/{copied}")
    (copied / "config.json").write_text("{")
    refuse("is no JSON", f"hf/{copied}")
    (copied / "config.json").unlink()
    refuse("has no config.json", f"hf/{copied}")


@pytest.mark.parametrize("name", ["hf/", "hf/no such folder", "hf/a/b/c", "hf/../up", "hf/a/.."])
def test_what_can_be_no_name_is_refused(name):
    refuse("there is no folder '.*', and no repository can have that name", name)
    assert not re.search("hf/", "".join(cam.model_names()))
