"""List the networks that are tried."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain

import torch
from torch import Tensor, nn

import cam
from benchmarks.coverage.hugging_face_classifiers import CLASSIFIERS, build_from_config
from benchmarks.coverage.hugging_face_others import DETECTORS, IMAGE_TEXT, SEGMENTERS, WithPatches

CLASSES = 7


@dataclass(frozen=True)
class Subject:
    """A network to explain.

    Attributes:
        name: With the library it is from.
        kind: "classifier", "detector", "segmenter", "image and text" or "video".
        build: Makes it, with random weights, in evaluation mode; its pictures' side, or its model.
        package: What must be installed for it.
    """

    name: str
    kind: str
    build: Callable[[], cam.Model | nn.Module]
    package: str | None = None

    @property
    def reads_late(self) -> bool:
        """Whether a sensible layer stands in the second half of the network.

        Not in others than classifiers, which end in decoders, nor where everything behind the
        first cross-attention is latent, as in Perceiver.
        """
        return self.kind == "classifier" and "Perceiver" not in self.name

    @property
    def installed(self) -> bool:
        """Whether what it is from is there."""
        return self.package is None or find_spec(self.package) is not None


def subjects() -> Iterator[Subject]:
    """List every network, torchvision's and timm's classifiers last, as they take longest."""
    return chain(
        _hugging_face(), _torchvision_others(), _segmentation_models(), _open_clip(), _named()
    )


def _hugging_face() -> Iterator[Subject]:
    for name, changes in CLASSIFIERS.items():
        yield Subject(
            f"hf/{name}",
            "classifier",
            partial(_classifier, name, changes),
            "transformers",
        )
    groups = (("detector", DETECTORS), ("segmenter", SEGMENTERS), ("image and text", IMAGE_TEXT))
    for kind, builders in groups:
        for name, build in builders.items():
            yield Subject(f"hf/{name}", kind, build, "transformers")


def _classifier(name: str, changes: Mapping[str, object]) -> nn.Module:
    network = build_from_config(name, changes, num_labels=CLASSES)
    return WithPatches(network, 16).eval() if name.startswith("Siglip2") else network


def _torchvision_others() -> Iterator[Subject]:
    from torchvision import models

    groups = (
        ("detector", models.detection),
        ("segmenter", models.segmentation),
        ("video", models.video),
    )
    for kind, module in groups:
        for name in models.list_models(module=module):
            yield Subject(f"torchvision/{name}", kind, partial(_torchvision_network, name))


def _torchvision_network(name: str) -> nn.Module:
    from torchvision import models

    options: dict[str, object] = {"weights": None}
    if any(word in name for word in ("rcnn", "fcos", "retina", "ssd", "deeplab", "fcn", "lraspp")):
        options |= {"weights_backbone": None}
    # An untrained detector is sure of nothing.
    if "rcnn" in name:
        options["box_score_thresh"] = 0.0
    elif any(word in name for word in ("fcos", "retina", "ssd")):
        options["score_thresh"] = 0.0
    network: nn.Module = models.get_model(name, **options).eval()
    return network


def _segmentation_models() -> Iterator[Subject]:
    def build(name: str) -> nn.Module:
        import segmentation_models_pytorch

        network: nn.Module = getattr(segmentation_models_pytorch, name)(
            "resnet18", encoder_weights=None, classes=CLASSES
        )
        return network.eval()

    for name in ("Unet", "UnetPlusPlus", "FPN", "DeepLabV3", "DeepLabV3Plus", "PSPNet", "Linknet"):
        yield Subject(
            f"smp/{name}",
            "segmenter",
            partial(build, name),
            "segmentation_models_pytorch",
        )


class WithWords(nn.Module):
    """An open_clip network, asked about fixed prompts."""

    def __init__(self, network: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("tokens", tokens)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, prompts) likenesses."""
        pictures, words, scale = self.network(pixels, self.tokens)[:3]
        likeness: Tensor = scale * pictures @ words.T
        return likeness


def _open_clip() -> Iterator[Subject]:
    def build(vision: dict[str, object]) -> nn.Module:
        from open_clip import CLIP

        text = {"context_length": 16, "vocab_size": 99, "width": 32, "heads": 2, "layers": 2}
        network = CLIP(embed_dim=32, vision_cfg={"image_size": 224, **vision}, text_cfg=text)
        tokens = torch.randint(1, 98, (3, 16), generator=torch.Generator().manual_seed(0))
        tokens[:, -1] = 98
        return WithWords(network, tokens).eval()

    towers: dict[str, dict[str, object]] = {
        "ViT": {"layers": 4, "width": 64, "head_width": 32, "patch_size": 16},
        "ResNet": {"layers": [1, 1, 1, 1], "width": 16},
    }
    for name, tower in towers.items():
        yield Subject(
            f"open_clip/CLIP {name}",
            "image and text",
            partial(build, tower),
            "open_clip",
        )


def _named() -> Iterator[Subject]:
    """Every classifier that torchvision builds, and one of each family of timm."""
    from torchvision import models

    names = [f"torchvision/{name}" for name in models.list_models(module=models)]
    for name in chain(names, _timm_names()):
        yield Subject(name, "classifier", partial(cam.load_model, name, weights=None))


def _timm_names() -> Iterator[str]:
    """The smallest network with a classifier of each family, by its parameters."""
    import timm

    for family in timm.list_modules():
        sizes = []
        for name in timm.list_models(module=family):
            with torch.device("meta"):
                module = timm.create_model(name)
            if getattr(module, "num_classes", 0):
                sizes.append((count_parameters(module), name))
        if sizes:
            yield f"timm/{min(sizes)[1]}"


def count_parameters(module: nn.Module) -> int:
    """Count the numbers that are learned."""
    return sum(weights.numel() for weights in module.parameters())
