"""Save small networks for images and text, with random weights."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPImageProcessor, PreTrainedTokenizerFast, SiglipImageProcessor

PROMPTS = ("a photo of a cat", "a photo of a dog", "rain on a street")
_WORDS = ["a", "photo", "of", "cat", "dog", "rain", "on", "street", "<pad>", "<unk>", "<eos>"]
_TOWER = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_IMAGE = _TOWER | {"image_size": 96, "patch_size": 16}
_IDS = {"eos_token_id": 10, "bos_token_id": 10, "pad_token_id": 8}
_TEXT = _TOWER | {"vocab_size": len(_WORDS), "max_position_embeddings": 12} | _IDS
_SIZE = {"height": 96, "width": 96}
NETWORKS = {
    "clip": (
        "CLIPModel",
        {"projection_dim": 24},
        _TEXT,
        CLIPImageProcessor(size={"shortest_edge": 96}, crop_size=_SIZE),
    ),
    "siglip": (
        "SiglipModel",
        {},
        _TEXT | {"projection_size": 32},
        SiglipImageProcessor(size=_SIZE),
    ),
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Cut text into words, and end it as CLIP expects."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(_WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 10)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    )


def save_image_text(folder: Path, kind: str) -> Any:
    """Save a network, its processor and tokenizer, and return the network."""
    class_name, changes, text, processor = NETWORKS[kind]
    network_class = getattr(transformers, class_name)
    config = network_class.config_class(text_config=text, vision_config=_IMAGE, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = network_class(config).eval()
        for name, parameter in network.named_parameters():
            # As they start, all prompts are alike.
            if "embed" in name or "proj" in name or "probe" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        if kind == "siglip":
            network.logit_scale.data.fill_(1.5)
            network.logit_bias.data.fill_(-2.0)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return network
