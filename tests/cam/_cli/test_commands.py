"""``python -m cam``: files, exit statuses, and one sentence per error."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from importlib.metadata import version
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner, Result
from PIL import Image, ImageOps

import cam
from cam._cli.commands import main
from tests.support.checkout import ROOT

DONE, FAILED, WRONG_USAGE = 0, 1, 2
RESNET = ("--model", "torchvision/resnet18", "--weights", "none")


@pytest.fixture
def run(monkeypatch, tmp_path, bundled):
    """Call the command line in an empty folder, in this process, with the bundled model at hand."""
    monkeypatch.chdir(tmp_path)
    load = cam.load_model

    def loaded(name: str, weights: object = "DEFAULT", device: object = None, **more) -> cam.Model:
        if name == bundled.name and weights == "DEFAULT" and not any(more.values()):
            return bundled
        return load(name, weights, device, **more)

    monkeypatch.setattr(cam, "load_model", loaded)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return call


def files(folder: Path = Path()) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def errors(result: Result) -> list[str]:
    """The sentences that say what went wrong; nothing else may look like trouble."""
    assert "Traceback" not in result.stderr
    assert "Warning" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    sentences = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    for line in sentences:
        assert not re.search(r"[.!?] [A-Z]", line), "more than one sentence"
    return sentences


def saved(name: str, image: Image.Image | None = None, **options: object) -> str:
    """A photo in the current folder."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("RGB", (320, 240), "teal")).save(name, **options)
    return name


def read_json(path: str) -> dict:
    return json.loads(Path(path).read_text())


# explain: what is written


def test_an_explanation_is_three_files_a_method(run, bundled):
    result = run("explain", "sample:chelsea", "--out", "out")
    assert result.exit_code == DONE
    assert errors(result) == []
    kinds = ("json", "npz", "png")
    methods = ("gradcam", "saliency")
    assert files(Path("out")) == [f"chelsea.{way}.{kind}" for way in methods for kind in kinds]
    assert result.stdout.splitlines() == [
        f"sample:chelsea: {bundled.labels[285]} 38% → out/chelsea.{way}.png" for way in methods
    ]


@pytest.mark.parametrize(
    ("colormap", "alpha"), [("turbo", 0.5), ("viridis", 0.8)], ids=["defaults", "own"]
)
def test_the_picture_is_the_heatmap_over_what_the_model_saw(run, colormap, alpha):
    options = () if colormap == "turbo" else ("--colormap", colormap, "--alpha", alpha)
    # The second of a batch, so that it may not be taken for the first.
    photos = ("sample:rocket", "sample:chelsea")
    assert run("explain", *photos, "--out", "out", *options).exit_code == DONE
    # 451 × 300: short side to 256, the middle 224 of it, which are 262.5 of the photo's pixels.
    crop = cam.sample("chelsea").crop((94, 19, 357, 281))
    # Saliency's colours end at its 99th percentile, so that a few pixels do not hide the rest.
    for way, percentile in (("gradcam", 100), ("saliency", 99)):
        heatmap = np.load(f"out/chelsea.{way}.npz")["heatmap"]
        if percentile < 100:
            heatmap = heatmap / np.percentile(heatmap, percentile)
        large = cv2.resize(heatmap, crop.size, interpolation=cv2.INTER_LINEAR)
        colours = matplotlib.colormaps[colormap](large, bytes=True)[..., :3].astype(float)
        truth = np.rint((1 - alpha) * np.asarray(crop) + alpha * colours)
        picture = np.asarray(Image.open(f"out/chelsea.{way}.png")).astype(float)
        assert picture.shape == truth.shape
        difference = np.abs(picture - truth)
        # OpenCV rounds its weights, so a few values fall to the neighbouring colour.
        assert difference.max() <= 6
        assert (difference <= 1).mean() > 0.995


def test_the_arrays_are_the_librarys(run, bundled):
    run("explain", "sample:coffee", "--out", "out")
    maps = cam.attribute(bundled, bundled.prepare(cam.sample("coffee")))
    for way, shape in (("gradcam", (7, 7)), ("saliency", (224, 224))):
        stored = np.load(f"out/coffee.{way}.npz")
        assert sorted(stored) == ["heatmap", "raw"]
        heatmap, raw = stored["heatmap"], stored["raw"]
        assert (heatmap.dtype, heatmap.shape) == (np.float32, (224, 224))
        assert (raw.dtype, raw.shape) == (np.float32, shape)
        assert heatmap.min() >= 0
        assert 0.99 <= heatmap.max() <= 1
        assert np.allclose(heatmap, maps[way].heatmap[0], atol=1e-5)
        assert np.allclose(raw, maps[way].raw[0], atol=1e-5)


def test_the_record_says_what_was_done(run, bundled):
    run("explain", "sample:coffee", "--method", "gradcam", "--out", "out")
    facts = read_json("out/coffee.gradcam.json")
    with torch.no_grad():
        chances = bundled.module(bundled.prepare(cam.sample("coffee")))[0].softmax(0)
    best = chances.topk(5)
    assert [prediction["index"] for prediction in facts["predictions"]] == best.indices.tolist()
    probabilities = [prediction["probability"] for prediction in facts["predictions"]]
    assert probabilities == pytest.approx(best.values.tolist(), abs=1e-5)
    assert facts["predictions"][0]["label"] == "espresso"
    assert facts["target"] == facts["predictions"][0]
    assert facts["layers"] == ["bn2"]
    assert facts["precision"] == "fp32"
    assert (facts["method"], facts["model"]) == ("gradcam", "efficientnet_lite0")
    assert facts["image"] == "sample:coffee"
    assert facts["versions"]["torch"] == version("torch")
    assert facts["versions"]["cam"] == cam.__version__
    assert "Selvaraju" in facts["citation"]
    assert facts["files"] == {kind: f"coffee.gradcam.{kind}" for kind in ("png", "npz", "json")}


@pytest.mark.parametrize(
    ("target", "index"), [("281", 281), ("tiger cat", 282), ("TABBY", 281), (" 0", 0)]
)
def test_a_target_is_an_index_or_a_label(run, bundled, target, index):
    result = run("explain", "sample:chelsea", "--target", target, "--method", "gradcam", "--json")
    assert result.exit_code == DONE
    (facts,) = json.loads(result.stdout)
    assert (facts["target"]["index"], facts["target"]["label"]) == (index, bundled.labels[index])
    assert facts["predictions"][0]["index"] == 285
    batch = bundled.prepare(cam.sample("chelsea"))
    truth = cam.attribute(bundled, batch, "gradcam", targets=index)["gradcam"].raw[0]
    stored = np.load("explanations/chelsea.gradcam.npz")["raw"]
    assert np.allclose(stored, truth, atol=1e-5)


def test_a_layer_is_where_the_map_is_made(run, bundled):
    captured = {}
    handle = bundled.module.blocks[4].register_forward_hook(
        lambda _module, _inputs, output: captured.update(shape=output.shape)
    )
    bundled.predict(bundled.prepare(cam.sample("rocket")))
    handle.remove()
    run("explain", "sample:rocket", "--layer", "blocks.4", "--method", "gradcam", "--out", "out")
    assert read_json("out/rocket.gradcam.json")["layers"] == ["blocks.4"]
    assert np.load("out/rocket.gradcam.npz")["raw"].shape == captured["shape"][2:] == (14, 14)
    both = ("--layer", "blocks.4", "--layer", "bn2")
    run("explain", "sample:rocket", *both, "--method", "gradcam", "--out", "two")
    assert read_json("two/rocket.gradcam.json")["layers"] == ["blocks.4", "bn2"]


def test_json_is_what_the_files_say(run):
    photos = (saved("a.png"), "sample:rocket")
    result = run("explain", *photos, "--json", "--method", "saliency", "--method", "gradcam")
    assert result.exit_code == DONE
    records = json.loads(result.stdout)
    assert [(record["image"], record["method"]) for record in records] == [
        ("a.png", "saliency"),
        ("a.png", "gradcam"),
        ("sample:rocket", "saliency"),
        ("sample:rocket", "gradcam"),
    ]
    for facts in records:
        assert read_json(f"explanations/{facts['files']['json']}") == facts


def test_more_pictures_than_fit_in_a_batch_keep_their_own_names(run, monkeypatch):
    monkeypatch.setattr("cam._cli.commands.BATCH", 2)
    names = ["sample:rocket", "missing.png", "sample:coffee", "sample:chelsea", "sample:rocket"]
    result = run("explain", *names, "--method", "gradcam", "--json")
    assert result.exit_code == FAILED
    tops = {
        record["files"]["png"]: (record["image"], record["target"]["label"])
        for record in json.loads(result.stdout)
    }
    assert tops == {
        "rocket.gradcam.png": ("sample:rocket", "missile"),
        "coffee.gradcam.png": ("sample:coffee", "espresso"),
        "chelsea.gradcam.png": ("sample:chelsea", "Egyptian cat"),
        "rocket-2.gradcam.png": ("sample:rocket", "missile"),
    }


def test_pictures_of_one_name_from_two_folders_are_kept_apart(run):
    first = saved("cats/photo.png", cam.sample("chelsea"))
    second = saved("cups/photo.png", cam.sample("coffee"))
    assert run("explain", first, second, "--method", "gradcam").exit_code == DONE
    facts = {name: read_json(f"explanations/{name}.gradcam.json") for name in ("photo", "photo-2")}
    assert facts["photo"]["image"] == "cats/photo.png"
    assert facts["photo"]["target"]["label"] == "Egyptian cat"
    assert facts["photo-2"]["image"] == "cups/photo.png"
    assert facts["photo-2"]["target"]["label"] == "espresso"
    widths = [Image.open(f"explanations/{name}.gradcam.png").width for name in facts]
    assert widths == [263, 350], "each over its own photo: 262.5 of 300, 350 of 400"


# explain: pictures with something to say


def animation() -> str:
    frames = [cam.sample("coffee").quantize(64), Image.new("P", (600, 400))]
    return saved("steam.gif", frames[0], save_all=True, append_images=frames[1:])


def sideways() -> str:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("side.jpg", cam.sample("coffee").rotate(90, expand=True), exif=exif)


def inks() -> str:
    return saved("inks.jpg", cam.sample("coffee").convert("CMYK"))


@pytest.mark.parametrize(
    ("make", "note"),
    [
        (animation, "it has 2 frames; the first one is used"),
        (sideways, "it was turned upright, as its EXIF orientation says"),
        (inks, "its CMYK colours were converted to RGB and may look different"),
    ],
)
def test_what_was_done_to_a_picture_is_said_once(run, make, note):
    name = make()
    result = run("explain", name)
    assert result.exit_code == DONE
    assert result.stderr.splitlines() == [f"Note: {name}: {note}"]
    for way in ("gradcam", "saliency"):
        facts = read_json(f"explanations/{Path(name).stem}.{way}.json")
        assert facts["notes"] == [note]
        assert facts["target"]["label"] == "espresso"


def test_a_turned_photo_is_explained_upright(run):
    name = sideways()
    run("explain", name, "--method", "gradcam", "--alpha", 0)
    truth = ImageOps.exif_transpose(Image.open(name)).crop((125, 25, 475, 375))
    picture = Image.open("explanations/side.gradcam.png")
    assert np.array_equal(np.asarray(picture), np.asarray(truth))


@pytest.mark.filterwarnings("error::cam.CamWarning")
@pytest.mark.parametrize("size", [(1, 1), (1, 20), (30, 2)], ids=str)
def test_a_tiny_picture_is_explained_with_a_note(run, size):
    result = run("explain", saved("dot.png", Image.new("RGB", size)), "--method", "gradcam")
    assert result.exit_code == DONE
    assert errors(result) == []
    note = f"Note: dot.png: it is only {size[0]} × {size[1]} pixels"
    assert result.stderr.count(note) == 1
    assert files(Path("explanations")) == [f"dot.gradcam.{kind}" for kind in ("json", "npz", "png")]


# explain: what goes wrong


def cut_jpeg() -> str:
    path = Path(saved("cut.jpg", cam.sample("coffee")))
    path.write_bytes(path.read_bytes()[:9000])
    return str(path)


def text_as_png() -> str:
    Path("text.png").write_text("no pixels\n")
    return "text.png"


def empty_file() -> str:
    Path("empty.png").touch()
    return "empty.png"


def folder() -> str:
    Path("folder").mkdir()
    return "folder"


def strip() -> str:
    return saved("strip.png", Image.new("RGB", (1, 30_000)))


def huge() -> str:
    """The head of a PNG that says 30,000 × 30,000, which is all that may be read of it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 30_000 // 8) * 100)
    Path("huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)
    )
    return "huge.png"


def holed() -> str:
    values = np.full((40, 40), 0.5, np.float32)
    values[0, 0] = np.nan
    return saved("holed.tif", Image.fromarray(values))


def missing() -> str:
    return "missing.png"


def unknown_sample() -> str:
    return "sample:kitten"


BAD = [cut_jpeg, text_as_png, empty_file, folder, strip, huge, holed, missing, unknown_sample]


@pytest.mark.parametrize("make", BAD)
def test_a_bad_picture_alone_writes_nothing(run, make):
    name = make()
    before = files()
    result = run("explain", name)
    assert result.exit_code == FAILED
    (sentence,) = errors(result)
    assert Path(name).name.removeprefix("sample:") in sentence
    assert result.stderr == sentence + "\n"
    assert result.stdout == ""
    assert files() == before
    assert not Path("explanations").exists()


def test_a_bad_picture_among_good_ones_is_named_and_the_others_are_done(run):
    bad = (text_as_png(), missing(), cut_jpeg())
    result = run("explain", bad[0], "sample:coffee", bad[1], bad[2], saved("good.png"))
    assert result.exit_code == FAILED
    sentences = errors(result)
    assert len(sentences) == 3
    for name, sentence in zip(bad, sentences, strict=True):
        assert name in sentence
    done = {name.split(".")[0] for name in files(Path("explanations"))}
    assert done == {"coffee", "good"}
    assert len(files(Path("explanations"))) == 12
    assert "coffee" in result.stdout
    assert "good.png" in result.stdout


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--model", "torchvision/resnet81"], "'torchvision/resnet18'"),
        (["--method", "gradcan"], "'gradcam'"),
        (["--layer", "blocks.77"], "'blocks."),
        (["--colormap", "turbu"], "'turbo'"),
        (["--target", "1000"], "target 1000 is out of range: the model has 1000 classes, 0 to 999"),
        (["--target", "-1"], "target -1 is out of range"),
        (["--target", "tigr cat"], "'tiger cat'"),
        (["--target", "²"], "the model has no class '²'"),
        (["--target", "--5"], "the model has no class '--5'"),
        (["--alpha", "2"], "2.0 is not in the range"),
        (["--device", "gpu"], "'gpu' is not one of"),
        (["--nonsense"], "No such option"),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_writes_nothing(run, options, phrase):
    result = run("explain", "sample:coffee", *options)
    assert result.exit_code == WRONG_USAGE
    (sentence,) = errors(result)
    assert phrase in sentence
    assert result.stdout == ""
    assert files() == []
    assert not Path("explanations").exists()


def test_no_picture_is_wrong_usage(run):
    result = run("explain")
    assert result.exit_code == WRONG_USAGE
    assert len(errors(result)) == 1


@pytest.mark.parametrize("out", ["taken", "taken/below"])
def test_a_folder_that_cannot_be_written_is_told_of(run, out):
    Path("taken").write_text("mine")
    result = run("explain", "sample:coffee", "--out", out)
    assert result.exit_code == FAILED
    (sentence,) = errors(result)
    assert sentence.startswith(f"Error: cannot write into {out!r}: ")
    assert result.stdout == ""
    assert files() == ["taken"]
    assert Path("taken").read_text() == "mine"


def test_where_writing_fails_halfway_nothing_half_is_left(run, monkeypatch):
    """The fifth of six files cannot be put in place: the first method's three are whole."""
    calls = []
    replace = Path.replace

    def fail_at_fifth(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail_at_fifth)
    result = run("explain", "sample:coffee")
    assert result.exit_code == FAILED
    assert errors(result) == ["Error: cannot write into 'explanations': No space left on device"]
    kinds = ("json", "npz", "png")
    assert files(Path("explanations")) == [f"coffee.gradcam.{kind}" for kind in kinds]


def test_weights_that_do_not_fit_fail(run):
    Path("empty.pth").touch()
    result = run("layers", "--model", "torchvision/resnet18", "--weights", "empty.pth")
    assert result.exit_code == FAILED
    assert len(errors(result)) == 1
    assert "empty.pth" in errors(result)[0]


def test_weights_and_labels_of_ones_own(run):
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), "mine.pth")
    Path("names.txt").write_text("ant\nbee\ncat\n")
    mine = ("--model", "timm/test_resnet", "--weights", "mine.pth", "--labels")
    result = run("explain", "sample:chelsea", *mine, "names.txt", "--target", "bee", "--json")
    assert result.exit_code == DONE, result.stderr
    facts = json.loads(result.stdout)[0]
    assert facts["target"]["label"] == "bee"
    assert {prediction["label"] for prediction in facts["predictions"]} == {"ant", "bee", "cat"}
    Path("names.txt").write_text("ant\nbee\n")
    result = run("layers", *mine, "names.txt")
    assert result.exit_code == FAILED
    assert errors(result) == ["Error: names.txt names 2 classes, but the model has 3"]


def test_weights_that_hold_code_are_refused_and_not_run(run):
    """The payload would make a file; neither it nor any result may be there afterwards."""

    class Payload:
        def __reduce__(self):
            return os.system, ("touch ran",)

    Path("evil.pth").write_bytes(pickle.dumps({"weight": Payload()}))
    resnet = ("--model", "torchvision/resnet18", "--weights", "evil.pth")
    result = run("explain", "sample:chelsea", *resnet)
    assert result.exit_code == FAILED
    [sentence] = errors(result)
    assert "evil.pth is refused" in sentence
    assert files() == ["evil.pth"]
    # The payload works where it is let: what is refused above is not harmless.
    pickle.loads(Path("evil.pth").read_bytes())
    assert files() == ["evil.pth", "ran"]


# What there is


def test_models_lists_what_loads_by_name(run):
    every = run("models")
    assert every.exit_code == DONE
    lines = every.stdout.splitlines()
    assert lines[0].startswith("efficientnet_lite0 ")
    assert len(lines) > 1000
    some = json.loads(run("models", "ResNet18", "--json").stdout)
    assert "torchvision/resnet18" in some
    assert "timm/resnet18.a1_in1k" in some
    assert all("resnet18" in name for name in some)
    assert run("models", "resnet18").stdout.splitlines() == some


def test_models_without_a_match(run):
    result = run("models", "nosuchmodel")
    assert result.exit_code == WRONG_USAGE
    assert len(errors(result)) == 1
    assert json.loads(run("models", "nosuchmodel", "--json").stdout) == []


def test_methods_says_what_each_is(run):
    methods = json.loads(run("methods", "--json").stdout)
    assert list(methods) == list(cam.methods())
    assert {"gradcam", "saliency"} <= set(methods)
    assert "Selvaraju" in methods["gradcam"]["citation"]
    assert "Simonyan" in methods["saliency"]["citation"]
    plain = run("methods")
    assert plain.exit_code == DONE
    for name, info in methods.items():
        assert f"{name}: {info['title']}" in plain.stdout
        assert info["citation"] in plain.stdout


def test_layers_lists_the_feature_maps_of_a_resnet(run):
    result = run("layers", *RESNET, "--json")
    assert result.exit_code == DONE
    layers = {layer["name"]: layer for layer in json.loads(result.stdout)}
    # The table in the ResNet paper, for 224 × 224.
    shapes = {"conv1": [64, 112, 112], "maxpool": [64, 56, 56], "layer1": [64, 56, 56]}
    shapes |= {"layer2": [128, 28, 28], "layer3": [256, 14, 14], "layer4": [512, 7, 7]}
    assert {name: layers[name]["shape"] for name in shapes} == shapes
    order = list(layers)
    assert sorted(shapes, key=order.index) == list(shapes)
    assert [name for name, layer in layers.items() if layer["preset"]] == ["layer4"]
    assert not {"avgpool", "fc"} & set(layers)
    assert layers["layer4.1.conv2"]["kind"] == "Conv2d"


def test_layers_for_a_person(run):
    lines = run("layers", *RESNET).stdout.splitlines()
    (preset,) = [line for line in lines if "(preset)" in line]
    assert preset.split()[:6] == ["layer4", "512", "×", "7", "×", "7"]
    assert any(line.split()[0] == "conv1" for line in lines)


def test_layers_of_a_transformer(run):
    result = run("layers", "--model", "timm/test_vit", "--weights", "none", "--json")
    assert result.exit_code == DONE
    layers = json.loads(result.stdout)
    assert [64, 160 // 16, 160 // 16] in [layer["shape"] for layer in layers]
    # The last place whose patches the class token still reads.
    assert [layer["name"] for layer in layers if layer["preset"]] == ["blocks.5.norm1"]


def test_a_method_with_parameters(run):
    method = "smoothgrad(samples=2, seed=3)"
    result = run("explain", "sample:rocket", "--method", method, "--json")
    assert result.exit_code == DONE
    (facts,) = json.loads(result.stdout)
    assert facts["method"] == "smoothgrad"
    refused = run("explain", "sample:rocket", "--method", "smoothgrad(2)")
    assert refused.exit_code == WRONG_USAGE
    assert len(errors(refused)) == 1


def test_a_precision_is_used_and_told(run):
    result = run("explain", "sample:rocket", "--method", "gradcam", "--precision", "bf16")
    assert result.exit_code == DONE
    assert read_json("explanations/rocket.gradcam.json")["precision"] == "bf16"


def test_a_precision_that_there_is_not(run):
    result = run("explain", "sample:rocket", "--precision", "fp8")
    assert result.exit_code == WRONG_USAGE


def test_a_precision_that_this_device_has_not(run):
    result = run("explain", "sample:rocket", "--precision", "tf32", "--device", "cpu")
    assert result.exit_code == FAILED
    assert len(errors(result)) == 1


def test_layers_of_an_unknown_model(run):
    result = run("layers", "--model", "resnet18")
    assert result.exit_code == WRONG_USAGE
    assert len(errors(result)) == 1


# As a person calls it


def test_the_module_runs(tmp_path):
    """A separate process: no warning, no trace of torch or Pillow on the way."""
    (tmp_path / "text.png").write_text("no pixels\n")
    root = str(ROOT)
    arguments = ["explain", "text.png", "sample:coffee", "--method", "gradcam"]
    done = subprocess.run(
        [sys.executable, "-m", "cam", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == FAILED
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("Error: text.png is not an image")
    assert done.stdout == "sample:coffee: espresso 96% → explanations/coffee.gradcam.png\n"
    assert len(files(tmp_path / "explanations")) == 3


def test_version_and_help(run):
    assert cam.__version__ in run("--version").stdout
    help_text = run("--help").stdout
    for command in ("explain", "models", "methods", "layers"):
        assert command in help_text
