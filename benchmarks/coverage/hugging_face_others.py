"""Build small detectors, segmenters, depth and image-text networks of Hugging Face."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmarks.coverage.hugging_face_classifiers import build_from_config

_DETR: Mapping[str, object] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
_SMALL_VIT: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def _resnet(*stages: str) -> object:
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 2, 1],
        out_features=list(stages),
    )


def _swin() -> object:
    from transformers import SwinConfig

    return SwinConfig(
        embed_dim=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 2, 4],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _detr(class_name: str, **extra: object) -> nn.Module:
    return build_from_config(
        class_name, _DETR, backbone_config=_resnet("stage4"), num_labels=7, **extra
    )


def _deformable() -> nn.Module:
    return build_from_config(
        "DeformableDetrForObjectDetection",
        _DETR,
        backbone_config=_resnet("stage2", "stage3", "stage4"),
        num_labels=7,
        num_queries=100,
    )


def _real_time(class_name: str) -> nn.Module:
    return build_from_config(
        class_name,
        {
            "encoder_hidden_dim": 32,
            "encoder_ffn_dim": 64,
            "encoder_attention_heads": 2,
            "d_model": 32,
            "decoder_layers": 2,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 64,
            "encoder_in_channels": [24, 32, 48],
            "decoder_in_channels": [32, 32, 32],
            "num_queries": 100,
            "num_denoising": 0,
        },
        backbone_config=_resnet("stage2", "stage3", "stage4"),
        num_labels=7,
    )


def _yolos() -> nn.Module:
    return build_from_config(
        "YolosForObjectDetection",
        _SMALL_VIT,
        image_size=[224, 224],
        num_detection_tokens=100,
        num_labels=7,
    )


DETECTORS: Mapping[str, Callable[[], nn.Module]] = {
    "DetrForObjectDetection": lambda: _detr("DetrForObjectDetection", num_queries=100),
    "ConditionalDetrForObjectDetection": lambda: _detr(
        "ConditionalDetrForObjectDetection", num_queries=100
    ),
    "DabDetrForObjectDetection": lambda: build_from_config(
        "DabDetrForObjectDetection",
        {
            "hidden_size": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
        },
        backbone_config=_resnet("stage4"),
        num_labels=7,
        num_queries=100,
    ),
    "TableTransformerForObjectDetection": lambda: _detr(
        "TableTransformerForObjectDetection", num_queries=100
    ),
    "DeformableDetrForObjectDetection": _deformable,
    "RTDetrForObjectDetection": lambda: _real_time("RTDetrForObjectDetection"),
    "RTDetrV2ForObjectDetection": lambda: _real_time("RTDetrV2ForObjectDetection"),
    "DFineForObjectDetection": lambda: _real_time("DFineForObjectDetection"),
    "YolosForObjectDetection": _yolos,
}

_DPT: dict[str, object] = {"neck_hidden_sizes": [16, 16, 16, 16], "fusion_hidden_size": 16}


def _dpt(class_name: str) -> nn.Module:
    return build_from_config(
        class_name, _SMALL_VIT | _DPT, backbone_out_indices=[0, 1, 2, 3], num_labels=7
    )


def _mask2former(class_name: str) -> nn.Module:
    return build_from_config(
        class_name,
        {
            "feature_size": 32,
            "mask_feature_size": 32,
            "hidden_dim": 32,
            "encoder_layers": 2,
            "encoder_feedforward_dim": 64,
            "decoder_layers": 2,
            "dim_feedforward": 64,
            "num_attention_heads": 2,
            "num_queries": 100,
        },
        backbone_config=_swin(),
        num_labels=7,
    )


def _segformer(class_name: str) -> nn.Module:
    return build_from_config(
        class_name,
        {
            "hidden_sizes": [16, 16, 32, 32],
            "num_attention_heads": [1, 1, 2, 2],
            "depths": [1, 1, 1, 1],
            "decoder_hidden_size": 32,
        },
        num_labels=7,
    )


def _upernet(backbone: object, third: int) -> nn.Module:
    return build_from_config(
        "UperNetForSemanticSegmentation",
        {"hidden_size": 32, "auxiliary_channels": 16, "auxiliary_in_channels": third},
        backbone_config=backbone,
        num_labels=7,
    )


def _depth_anything() -> nn.Module:
    from transformers import Dinov2Config

    backbone = Dinov2Config(
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=4,
        image_size=224,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    return build_from_config(
        "DepthAnythingForDepthEstimation",
        _DPT | {"neck_hidden_sizes": [16, 16, 16, 16]},
        backbone_config=backbone,
        reassemble_hidden_size=32,
        head_hidden_size=16,
    )


SEGMENTERS: Mapping[str, Callable[[], nn.Module]] = {
    "BeitForSemanticSegmentation": lambda: build_from_config(
        "BeitForSemanticSegmentation", _SMALL_VIT, out_indices=[0, 1, 2, 3], num_labels=7
    ),
    "Data2VecVisionForSemanticSegmentation": lambda: build_from_config(
        "Data2VecVisionForSemanticSegmentation", _SMALL_VIT, out_indices=[0, 1, 2, 3], num_labels=7
    ),
    "DPTForSemanticSegmentation": lambda: _dpt("DPTForSemanticSegmentation"),
    "Mask2FormerForUniversalSegmentation": lambda: _mask2former(
        "Mask2FormerForUniversalSegmentation"
    ),
    "MobileNetV2ForSemanticSegmentation": lambda: build_from_config(
        "MobileNetV2ForSemanticSegmentation", {"depth_multiplier": 0.35}, num_labels=7
    ),
    "MobileViTForSemanticSegmentation": lambda: build_from_config(
        "MobileViTForSemanticSegmentation", {"hidden_sizes": [24, 32, 40]}, num_labels=7
    ),
    "MobileViTV2ForSemanticSegmentation": lambda: build_from_config(
        "MobileViTV2ForSemanticSegmentation", {"width_multiplier": 0.25}, num_labels=7
    ),
    "SegformerForSemanticSegmentation": lambda: _segformer("SegformerForSemanticSegmentation"),
    "UperNetForSemanticSegmentation (ResNet)": lambda: _upernet(
        _resnet("stage1", "stage2", "stage3", "stage4"), 32
    ),
    "UperNetForSemanticSegmentation (Swin)": lambda: _upernet(_swin(), 64),
    "DPTForDepthEstimation": lambda: _dpt("DPTForDepthEstimation"),
    "DepthAnythingForDepthEstimation": _depth_anything,
    "GLPNForDepthEstimation": lambda: build_from_config(
        "GLPNForDepthEstimation",
        {
            "hidden_sizes": [16, 16, 32, 32],
            "num_attention_heads": [1, 1, 2, 2],
            "depths": [1, 1, 1, 1],
            "decoder_hidden_size": 16,
        },
    ),
}


class WithPrompts(nn.Module):
    """An image-text network, asked about fixed prompts; the output is its own record."""

    def __init__(self, network: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("tokens", tokens)

    def forward(self, pixels: Tensor) -> object:
        """Return the record that holds ``logits_per_image``, (B, prompts)."""
        return self.network(input_ids=self.tokens, pixel_values=pixels)


class WithPatches(nn.Module):
    """SigLIP 2, which takes the patches of a picture and not the picture."""

    def __init__(self, network: nn.Module, patch: int) -> None:
        super().__init__()
        self.network = network
        self.patch = patch

    def forward(self, pixels: Tensor) -> object:
        """Return the classifier's record."""
        rows, columns = (side // self.patch for side in pixels.shape[-2:])
        count = len(pixels)
        patches = pixels.reshape(count, -1, rows, self.patch, columns, self.patch)
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        return self.network(
            pixel_values=patches,
            pixel_attention_mask=torch.ones(count, rows * columns, dtype=torch.long),
            spatial_shapes=torch.tensor([[rows, columns]] * count),
        )


def _image_text(class_name: str, length: int) -> nn.Module:
    text = {**_SMALL_VIT, "vocab_size": 99, "max_position_embeddings": length}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {**_SMALL_VIT, "image_size": 224, "patch_size": 16}
    extra = {} if "Siglip" in class_name else {"projection_dim": 32}
    network = build_from_config(
        class_name, {"text_config": text | extra, "vision_config": vision | extra, **extra}
    )
    tokens = torch.randint(3, 99, (3, length), generator=torch.Generator().manual_seed(0))
    tokens[:, -1] = 2
    return WithPrompts(network, tokens).eval()


IMAGE_TEXT: Mapping[str, Callable[[], nn.Module]] = {
    "CLIPModel": lambda: _image_text("CLIPModel", 16),
    # As many tokens of text as the picture has patches.
    "CLIPModel (text of 196 tokens)": lambda: _image_text("CLIPModel", 196),
    "MetaClip2Model": lambda: _image_text("MetaClip2Model", 16),
    "SiglipModel": lambda: _image_text("SiglipModel", 64),
}
