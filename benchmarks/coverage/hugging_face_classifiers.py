"""Build small classifiers of each Hugging Face class, with random weights.

Each entry changes a configuration only in width and depth, so that the structure is the class's.
"""

from collections.abc import Mapping

from torch import nn

_WIDE: dict[str, object] = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
_VIT: dict[str, object] = _WIDE | {"num_hidden_layers": 4}
_TOWER: dict[str, object] = _VIT | {"image_size": 224, "patch_size": 16}
_STAGES: dict[str, object] = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 24, 32, 48]}
_SWIN: dict[str, object] = {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4]}
_DINO: dict[str, object] = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 4}
_PVT: dict[str, object] = {"hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 1, 2, 2]}
_MOBILE: dict[str, object] = {
    "hidden_sizes": [24, 32, 40],
    "neck_hidden_sizes": [8, 8, 16, 24, 32, 40, 48],
}
_PERCEIVER: dict[str, object] = {
    "num_latents": 16,
    "d_latents": 32,
    "num_blocks": 1,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 1,
    "image_size": 56,
}

# Class → what its configuration changes.
CLASSIFIERS: Mapping[str, Mapping[str, object]] = {
    "BeitForImageClassification": _VIT,
    "BitForImageClassification": {
        "embedding_size": 32,
        "hidden_sizes": [128, 128, 128, 128],
        "depths": [1, 1, 1, 1],
    },
    "CLIPForImageClassification": {"vision_config": _TOWER},
    "ConvNextForImageClassification": _STAGES,
    "ConvNextV2ForImageClassification": _STAGES,
    "CvtForImageClassification": {
        "embed_dim": [16, 32, 48],
        "num_heads": [1, 2, 3],
        "depth": [1, 2, 3],
        "cls_token": [False, False, True],
    },
    "Data2VecVisionForImageClassification": _VIT,
    "DeiTForImageClassification": _VIT,
    "DeiTForImageClassificationWithTeacher": _VIT,
    "Dinov2ForImageClassification": _DINO | {"image_size": 224},
    "Dinov2WithRegistersForImageClassification": _DINO | {"image_size": 224},
    "DonutSwinForImageClassification": _SWIN | {"window_size": 7},
    "EfficientNetForImageClassification": {
        "width_coefficient": 0.25,
        "depth_coefficient": 0.3,
        "hidden_dim": 320,
    },
    "FocalNetForImageClassification": {"embed_dim": 16, "depths": [1, 1, 2, 1]},
    "HGNetV2ForImageClassification": {},
    "HieraForImageClassification": {
        "embed_dim": 16,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 2, 4],
    },
    "IJepaForImageClassification": _VIT,
    "LevitForImageClassification": {
        "hidden_sizes": [32, 48, 64],
        "num_attention_heads": [2, 3, 4],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "LevitForImageClassificationWithTeacher": {
        "hidden_sizes": [32, 48, 64],
        "num_attention_heads": [2, 3, 4],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "MetaClip2ForImageClassification": {"vision_config": _TOWER},
    "MobileNetV1ForImageClassification": {"depth_multiplier": 0.25},
    "MobileNetV2ForImageClassification": {"depth_multiplier": 0.35},
    "MobileViTForImageClassification": _MOBILE | {"num_attention_heads": 2},
    "MobileViTV2ForImageClassification": {"width_multiplier": 0.25},
    "PerceiverForImageClassificationLearned": _PERCEIVER,
    "PerceiverForImageClassificationFourier": _PERCEIVER,
    "PerceiverForImageClassificationConvProcessing": _PERCEIVER,
    "PoolFormerForImageClassification": _STAGES,
    "PPLCNetForImageClassification": {},
    "PvtForImageClassification": _PVT | {"depths": [1, 1, 1, 1]},
    "PvtV2ForImageClassification": _PVT | {"depths": [1, 1, 1, 1]},
    "RegNetForImageClassification": _STAGES | {"embedding_size": 16, "groups_width": 8},
    "ResNetForImageClassification": _STAGES | {"embedding_size": 16},
    "SegformerForImageClassification": _PVT | {"depths": [1, 1, 1, 1]},
    "Siglip2ForImageClassification": {"vision_config": _VIT | {"num_patches": 196}},
    "SiglipForImageClassification": {"vision_config": _TOWER},
    "SwiftFormerForImageClassification": {"depths": [1, 1, 2, 1], "embed_dims": [16, 24, 32, 48]},
    "SwinForImageClassification": _SWIN | {"window_size": 7},
    "Swinv2ForImageClassification": _SWIN | {"window_size": 7},
    "TextNetForImageClassification": {},
    "TimmWrapperForImageClassification": {"architecture": "resnet18"},
    "ViTForImageClassification": _VIT,
    "ViTMSNForImageClassification": _VIT,
}


def build_from_config(class_name: str, changes: Mapping[str, object], **extra: object) -> nn.Module:
    """Build a class of ``transformers`` from its own configuration, changed in parts."""
    import transformers

    network_class = getattr(transformers, class_name)
    config = network_class.config_class(**{**changes, **extra})
    built: nn.Module = network_class(config)
    return built.eval()
