"""Save small checkpoints as transformers does, with random weights."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from transformers import (
    BitImageProcessor,
    ConvNextImageProcessor,
    MobileViTImageProcessor,
    ViTImageProcessor,
)

NAMES = {0: "cat", 1: "dog", 2: "owl", 3: "fox", 4: "hen"}
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 96,
    "patch_size": 16,
}
_STAGES = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 24, 32, 48]}
_SWIN = {"embed_dim": 16, "depths": [1, 1, 2], "num_heads": [1, 2, 2], "window_size": 4}

# Class of the network, what its configuration changes, its image processor.
CHECKPOINTS = {
    "vit": ("ViTForImageClassification", _VIT, ViTImageProcessor(size={"height": 96, "width": 96})),
    # Resizes by a share and crops the middle.
    "resnet": (
        "ResNetForImageClassification",
        _STAGES | {"embedding_size": 16},
        ConvNextImageProcessor(size={"shortest_edge": 96}, crop_pct=0.8),
    ),
    # From 384 on it does not crop.
    "convnext": (
        "ConvNextForImageClassification",
        _STAGES,
        ConvNextImageProcessor(size={"shortest_edge": 384}),
    ),
    "swin": (
        "SwinForImageClassification",
        _SWIN | {"image_size": 96},
        ViTImageProcessor(size={"height": 96, "width": 96}, do_normalize=False),
    ),
    "dinov2": (
        "Dinov2ForImageClassification",
        {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3, "image_size": 98},
        BitImageProcessor(
            size={"shortest_edge": 128}, crop_size={"height": 98, "width": 98}, resample=3
        ),
    ),
    # Its red and blue change places.
    "mobilevit": (
        "MobileViTForImageClassification",
        {
            "hidden_sizes": [24, 32, 40],
            "neck_hidden_sizes": [8, 8, 16, 24, 32, 40, 48],
            "num_attention_heads": 2,
        },
        MobileViTImageProcessor(size={"shortest_edge": 112}, crop_size={"height": 96, "width": 96}),
    ),
}


def save_checkpoint(
    folder: Path, kind: str, labels: Mapping[int, str] | None = NAMES
) -> torch.nn.Module:
    """Save a network and its processor, and return the network."""
    class_name, changes, processor = CHECKPOINTS[kind]
    network_class = getattr(transformers, class_name)
    named = {"num_labels": 5} if labels is None else {"id2label": dict(labels)}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = network_class(network_class.config_class(**changes, **named)).eval()
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return network


def change_config(folder: Path, **changes: object) -> None:
    """Change what the configuration of a saved checkpoint says."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
