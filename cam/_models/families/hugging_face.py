"""Load networks of transformers from the hub or a folder."""

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from cam._extras import require
from cam._models.families.embedding import Embedding
from cam._models.families.parts import Parts, Weights, build_network
from cam._models.hub.architecture import (
    choose_class,
    compares_text,
    first_line,
    has_no_head,
    read_config,
    read_processor,
)
from cam._models.hub.checkpoint_folder import CheckpointFolder
from cam._models.hub.processor_transform import ProcessorTransform
from cam._models.hub.repository import Repository
from cam._models.image_text.prompt_classifier import check_prompts, no_text_tower
from cam._models.image_text.transformers_towers import classify_by_prompts
from cam._models.model import EMBEDDING
from cam.errors import CamError, CheckpointError, ModelError

PREFIX = "hf/"
_REPOSITORY = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")
_PLACEHOLDER = re.compile(r"LABEL_\d+")
_MOST_LISTED = 3


def find_repository(name: str) -> Repository | None:
    """Return the hub's repository of a name; None for a folder on disk.

    Raises:
        ModelError: It is the name of neither.
        MissingExtraError: transformers is not installed.
    """
    require("hf", f"the model {PREFIX}{name}")
    if name and Path(name).is_dir():
        return None
    if not _REPOSITORY.fullmatch(name) or ".." in name:
        raise ModelError(
            f"there is no folder {name!r}, and no repository can have that name; write "
            "hf/OWNER/NAME or hf/FOLDER"
        )
    return Repository(f"{PREFIX}{name}", name)


def load_hugging_face(name: str, weights: Weights, prompts: Sequence[str] | None = None) -> Parts:
    """Load a network with its image processor and the names of its classes.

    Args:
        name: ``OWNER/NAME`` of the hub, or a folder that ``save_pretrained`` wrote.
        weights: As of :func:`cam.load_model`.
        prompts: The classes of a network for images and text.

    Raises:
        ModelError: There is no such checkpoint, it is none of a model of images, or prompts are
            missing, of no use, or cannot be read by it.
        CheckpointError: Its weights are unsafe, damaged, or do not fit.
    """
    repository = find_repository(name)
    if repository is None:
        folder = CheckpointFolder(f"{PREFIX}{name}", Path(name))
    else:
        repository.fetch(weights=weights == "DEFAULT")
        folder = repository.folder
    with _quiet():
        config = read_config(folder)
        network_class = choose_class(config, folder)
        transform = ProcessorTransform(read_processor(folder), folder.name)
        if not compares_text(network_class):
            if prompts is not None:
                raise no_text_tower(folder.name)
            module = _build(network_class, config, folder, weights)
            if has_no_head(network_class):
                return Parts(Embedding(module), transform, task=EMBEDDING)
            return Parts(module, transform, _read_labels(module.config))
        classes = check_prompts(prompts, folder.name)
        module = _build(network_class, config, folder, weights)
        pixels = transform(Image.new("RGB", (256, 256), "grey"))[None]
        return Parts(classify_by_prompts(module, classes, pixels, folder), transform, classes)


def reads_text(name: str) -> bool:
    """Return whether a checkpoint compares images with text; False where it is not here yet."""
    try:
        repository = find_repository(name)
        folder = repository.cached if repository else CheckpointFolder(name, Path(name))
        with _quiet():
            return folder is not None and compares_text(choose_class(read_config(folder), folder))
    except CamError:
        return False


def _build(network_class: Any, config: Any, folder: CheckpointFolder, weights: Weights) -> Any:
    def create(classes: int | None) -> nn.Module:
        changed = copy.deepcopy(config)
        if classes is not None:
            changed.num_labels = classes
        network: nn.Module = network_class(changed)
        return network

    def load_published() -> nn.Module:
        return load_state(network_class, config, folder)

    return build_network(folder.name, weights, create, load_published)


def load_state(network_class: Any, config: Any, folder: CheckpointFolder) -> nn.Module:
    """Build a network with the weights of a folder, which transformers renames where it must.

    Raises:
        CheckpointError: They are unsafe, damaged, or some are missing.
    """
    state = folder.read_weights()
    network, lacking = _fill(network_class, config, state, folder)
    if lacking and has_no_head(network_class) and all("pooler." in key for key in lacking):
        # Many were trained without the pooling that the class has by default.
        network, lacking = _fill(network_class, config, state, folder, add_pooling_layer=False)
    if lacking:
        more = f" and {len(lacking) - _MOST_LISTED} more" if len(lacking) > _MOST_LISTED else ""
        raise CheckpointError(
            f"the weights of {folder.name} lack {', '.join(lacking[:_MOST_LISTED])}{more}, or have "
            f"them in another shape, so they are no whole {network_class.__name__}"
        )
    return network


def _fill(
    network_class: Any,
    config: Any,
    state: dict[str, Tensor],
    folder: CheckpointFolder,
    **options: bool,
) -> tuple[nn.Module, list[str]]:
    """Build a network of tensors; return the parameters that would be drawn at random, too."""
    try:
        network, report = network_class.from_pretrained(
            None,
            config=config,
            state_dict=dict(state),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    # Another network's tensors make it fail in any way.
    except Exception as error:  # noqa: BLE001
        raise CheckpointError(
            f"the weights of {folder.name} do not fit {network_class.__name__}: {first_line(error)}"
        ) from None
    mismatched = (key for key, *_ in report["mismatched_keys"])
    return network, sorted({*report["missing_keys"], *mismatched})


def _read_labels(config: Any) -> tuple[str, ...] | None:
    """Return the names of the classes; None where transformers only numbered them."""
    names = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    return None if all(map(_PLACEHOLDER.fullmatch, names)) else names


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing what is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
