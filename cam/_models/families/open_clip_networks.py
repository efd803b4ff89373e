"""Load open_clip's networks, which compare an image with prompts."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from cam._extras import require
from cam._models.checkpoint import read_state_dict
from cam._models.download import Published
from cam._models.families.parts import Parts, Weights, build_network
from cam._models.hub.architecture import first_line
from cam._models.image_text.open_clip_towers import classify_by_prompts
from cam._models.image_text.prompt_classifier import check_prompts
from cam._models.preprocessing import Transform
from cam.errors import CheckpointError, ModelError, nearest

OPEN_CLIP = "open_clip/"
# In the order in which open_clip looks for them.
_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


def find_published(name: str) -> Published:
    """Return where the weights ``ARCHITECTURE/TAG`` are published.

    Raises:
        ModelError: There is no such architecture or tag, or no tag was given.
        MissingExtraError: open_clip is not installed.
    """
    architecture, tag = _split(name)
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    config = open_clip.get_pretrained_cfg(architecture, tag) if tag else None
    if not config:
        choice = nearest(tag, tags) if tags else "it has none; give a file, or use random ones"
        raise ModelError(
            f"{OPEN_CLIP}{name} does not say which weights; write "
            f"{OPEN_CLIP}{architecture}/TAG: {choice}"
        )
    repository, _, file = config.get("hf_hub", "").rpartition("/")
    if not repository:
        return Published(f"{OPEN_CLIP}{name}", config["url"])
    files = (file,) if file else _FILES
    return Published(f"{OPEN_CLIP}{name}", None, repository, files=files)


def load_open_clip(name: str, weights: Weights, prompts: Sequence[str] | None) -> Parts:
    """Load a network with its transform, as a classifier over prompts.

    Args:
        name: ``ARCHITECTURE`` or ``ARCHITECTURE/TAG``, as open_clip calls them.
        weights: As of :func:`cam.load_model`.
        prompts: The classes.

    Raises:
        ModelError: There is no such network, its text tower cannot be had, or prompts are missing
            or cannot be read by it.
        CheckpointError: The weights are unsafe, damaged, or do not fit.
    """
    architecture, tag = _split(name)
    import open_clip

    full_name = f"{OPEN_CLIP}{name}"
    classes = check_prompts(prompts, full_name)

    def create(_classes: int | None = None) -> nn.Module:
        try:
            with _quiet():
                network: nn.Module = open_clip.create_model(architecture, pretrained_text=False)
            return network
        # Some text towers are read from the hub, each in another way.
        except Exception as error:  # noqa: BLE001
            raise ModelError(f"{full_name} could not be built: {first_line(error)}") from None

    def load(path: str) -> nn.Module:
        # What is unsafe is refused here; open_clip renames what it knows.
        read_state_dict(path)
        network = create()
        try:
            open_clip.load_checkpoint(network, path)
        # Another network's tensors make it fail in any way.
        except Exception as error:  # noqa: BLE001
            raise CheckpointError(
                f"{Path(path).name} does not fit {full_name}: {first_line(error)}"
            ) from None
        return network

    if weights is None or weights == "DEFAULT":
        network = build_network(full_name, weights, create, lambda: load(_locate(name)))
    else:
        network = load(str(weights))
    try:
        tokenizer = open_clip.get_tokenizer(architecture)
    # As above.
    except Exception as error:  # noqa: BLE001
        raise ModelError(
            f"the tokenizer of {full_name} could not be had: {first_line(error)}"
        ) from None
    transform = _make_transform(network, open_clip.get_pretrained_cfg(architecture, tag))
    module = classify_by_prompts(network, tokenizer, classes, transform, full_name)
    return Parts(module, transform, classes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip from warning on the root logger that weights are random yet."""
    root, handler = logging.getLogger(), logging.NullHandler()
    # Without a handler, its first warning would give the root logger one that prints.
    root.addHandler(handler)
    level = root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
        root.removeHandler(handler)


def _split(name: str) -> tuple[str, str]:
    """Return an architecture and its tag of weights, perhaps empty."""
    require("open-clip", f"the model {OPEN_CLIP}{name}")
    import open_clip

    architecture, _, tag = name.partition("/")
    names = open_clip.list_models()
    if architecture not in names:
        raise ModelError(
            f"open_clip has no architecture {architecture!r}; {nearest(architecture, names)}"
        )
    return architecture, tag


def _locate(name: str) -> str:
    """Return where downloaded weights lie."""
    source = find_published(name)
    return str(source.file if source.repository is None else source.hub_file)


def _make_transform(network: Any, published: dict[str, Any]) -> Transform:
    """Make the transform that open_clip makes for weights."""
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    usual = {**asdict(PreprocessCfg()), **network.visual.preprocess_cfg}
    config = PreprocessCfg(**merge_preprocess_dict(usual, published))
    transform: Transform = image_transform_v2(config, is_train=False)
    return transform
