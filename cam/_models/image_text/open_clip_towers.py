"""Make classifiers over prompts of open_clip's pairs of towers."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cam._models.image_text.prompt_classifier import (
    ImageTower,
    PromptClassifier,
    check_length,
    compares_otherwise,
    has_logits,
)
from cam._models.preprocessing import Transform


def encode_image(network: Any, pixels: Tensor) -> Tensor:
    """Encode (B, 3, H, W) as (B, D)."""
    features: Tensor = network.encode_image(pixels, normalize=False)
    return features


def classify_by_prompts(
    network: Any, tokenizer: Any, prompts: tuple[str, ...], transform: Transform, name: str
) -> PromptClassifier:
    """Make a classifier over prompts, proven on one image to have the network's own logits.

    Args:
        network: Of open_clip, whole; it is taken apart.
        tokenizer: Its own.
        prompts: The classes.
        transform: Prepares an image.
        name: The model's, for messages.

    Raises:
        ModelError: A prompt is too long, or the network compares otherwise.
    """
    for prompt in prompts:
        check_length(prompt, _count_tokens(tokenizer, prompt), tokenizer.context_length, name)
    tokens = tokenizer(list(prompts))
    pixels = transform(Image.new("RGB", (256, 256), "grey"))[None]
    network.eval()
    with torch.no_grad():
        text = network.encode_text(tokens)
        scale, bias = network.logit_scale.exp(), getattr(network, "logit_bias", None)
        logits = network.get_logits(pixels, tokens)[0] if hasattr(network, "get_logits") else None
    classifier = PromptClassifier(ImageTower(network, encode_image, pixels), text, scale, bias)
    if logits is None or not has_logits(classifier, pixels, logits):
        raise compares_otherwise(name, network)
    return classifier.eval()


def _count_tokens(tokenizer: Any, prompt: str) -> int:
    """Count what the tokenizer would cut off without a word."""
    if hasattr(tokenizer, "tokenizer"):
        return len(tokenizer.tokenizer(prompt)["input_ids"])
    # With the marks of beginning and end.
    return len(tokenizer.encode(prompt)) + 2
