"""Make classifiers over prompts of transformers' pairs of towers."""

from typing import Any

import torch
from torch import Tensor

from cam._models.hub.architecture import first_line
from cam._models.hub.checkpoint_folder import VOCABULARIES, CheckpointFolder
from cam._models.image_text.prompt_classifier import (
    ImageTower,
    PromptClassifier,
    check_length,
    compares_otherwise,
    has_logits,
)
from cam.errors import ModelError

# A tokenizer that knows no length says a very large number.
_NO_LENGTH = 1 << 20


def encode_image(network: Any, pixels: Tensor) -> Tensor:
    """Encode (B, 3, H, W) as (B, D)."""
    output = network.get_image_features(pixel_values=pixels)
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


def classify_by_prompts(
    network: Any, prompts: tuple[str, ...], pixels: Tensor, folder: CheckpointFolder
) -> PromptClassifier:
    """Make a classifier over prompts, proven on one image to have the network's own logits.

    Args:
        network: Of transformers, whole; it is taken apart.
        prompts: The classes.
        pixels: (1, 3, H, W), any image.
        folder: Where its tokenizer lies.

    Raises:
        ModelError: A prompt is too long, there is no tokenizer, or the network compares otherwise.
    """
    tokens = _tokenize(network, prompts, folder)
    network.eval()
    try:
        with torch.no_grad():
            output = network(**tokens, pixel_values=pixels)
            text, logits = output.text_embeds, output.logits_per_image
            scale, bias = network.logit_scale.exp(), getattr(network, "logit_bias", None)
        classifier = PromptClassifier(ImageTower(network, encode_image, pixels), text, scale, bias)
        same = has_logits(classifier, pixels, logits)
    # It may have other parts, and call them otherwise.
    except Exception:  # noqa: BLE001
        same = False
    if not same:
        raise compares_otherwise(folder.name, network)
    return classifier.eval()


def _tokenize(
    network: Any, prompts: tuple[str, ...], folder: CheckpointFolder
) -> dict[str, Tensor]:
    """Turn prompts into what the text tower takes, all of them as long as the longest."""
    import transformers

    # Without them transformers makes a tokenizer that knows no word.
    if not any((folder.path / name).is_file() for name in VOCABULARIES):
        raise ModelError(
            f"{folder.name} has no tokenizer, so prompts cannot be read; save it beside the weights"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder.path, trust_remote_code=False, local_files_only=True
        )
    # Each way of cutting words is another class, and its packages may be missing.
    except Exception as error:  # noqa: BLE001
        raise ModelError(
            f"transformers cannot read the tokenizer of {folder.name}: {first_line(error)}"
        ) from None
    text = network.config.text_config
    most = min(text.max_position_embeddings, tokenizer.model_max_length or _NO_LENGTH)
    for prompt in prompts:
        check_length(prompt, len(tokenizer(prompt)["input_ids"]), most, folder.name)
    # As transformers' own pipeline: SigLIP was trained on full length, and reads no mask.
    if "siglip" in network.config.model_type:
        options: dict[str, Any] = {"padding": "max_length", "max_length": min(most, 64)}
    else:
        options = {"padding": True}
    return dict(tokenizer(list(prompts), return_tensors="pt", **options))
