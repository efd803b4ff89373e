"""Choose the network that a checkpoint's configuration names."""

from typing import Any

from cam._models.hub.checkpoint_folder import CONFIG, CheckpointFolder
from cam.errors import ModelError


def read_config(folder: CheckpointFolder) -> Any:
    """Read the configuration as an object of transformers.

    Raises:
        ModelError: transformers knows no such network, or only the checkpoint's own code does.
    """
    import transformers

    stored = folder.read_config()
    kind = stored.get("model_type")
    if kind is not None and kind not in transformers.CONFIG_MAPPING:
        if "auto_map" in stored:
            raise ModelError(
                f"{folder.name} needs code that comes with it, and such code is never run; load a "
                "model whose architecture is part of transformers"
            )
        raise ModelError(
            f"transformers {transformers.__version__} has no architecture {kind!r}, which "
            f"{folder.name} asks for; install a release that has it"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder.path, trust_remote_code=False, local_files_only=True
        )
    # Each of its classes checks in another way what it is given.
    except Exception as error:  # noqa: BLE001
        raise ModelError(
            f"transformers cannot read the {CONFIG} of {folder.name}: {first_line(error)}"
        ) from None
    # It may name a repository of compiled code; transformers then chooses what torch has.
    config._attn_implementation = None
    return config


def choose_class(config: Any, folder: CheckpointFolder) -> Any:
    """Return the class of a checkpoint's network.

    Raises:
        ModelError: It is no network, or takes no images.
    """
    import transformers

    classifiers = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    named = [getattr(transformers, name, None) for name in config.architectures or ()]
    network_class = next(iter(named), None) or classifiers.get(type(config), None)
    if isinstance(network_class, tuple):
        network_class = network_class[0]
    if not isinstance(network_class, type) or not issubclass(
        network_class, transformers.PreTrainedModel
    ):
        listed = ", ".join(map(repr, config.architectures or ())) or repr(config.model_type)
        raise ModelError(f"{folder.name} is {listed}, which is no network of transformers")
    if compares_text(network_class):
        return network_class
    if getattr(network_class, "main_input_name", None) != "pixel_values":
        raise ModelError(
            f"{folder.name} is a {network_class.__name__}, which takes no images; load a model of "
            "images"
        )
    return network_class


def has_no_head(network_class: type) -> bool:
    """Test whether a class of transformers is a backbone, which returns features."""
    return network_class.__name__.endswith("Model")


def compares_text(network_class: type) -> bool:
    """Test whether a class of transformers encodes both images and text."""
    return hasattr(network_class, "get_image_features") and hasattr(
        network_class, "get_text_features"
    )


def read_processor(folder: CheckpointFolder) -> Any:
    """Read the image processor.

    Raises:
        ModelError: There is none, or transformers cannot read it.
    """
    import transformers

    try:
        return transformers.AutoImageProcessor.from_pretrained(
            folder.path, trust_remote_code=False, local_files_only=True
        )
    except OSError:
        raise ModelError(
            f"{folder.name} has no preprocessor_config.json, so nothing says how it prepares an "
            "image; save its image processor beside it"
        ) from None
    # As above.
    except Exception as error:  # noqa: BLE001
        raise ModelError(
            f"transformers cannot read the image processor of {folder.name}: {first_line(error)}"
        ) from None


def first_line(error: Exception) -> str:
    """Return what of a foreign error fits in a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")
