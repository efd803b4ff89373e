"""Load timm's classifiers."""

from torch import nn

from cam._models.families.class_names import infer_labels
from cam._models.families.parts import Parts, Weights, build_network
from cam._models.model import EMBEDDING
from cam._models.preprocessing import Transform


def load_timm(name: str, weights: Weights) -> Parts:
    """Load a network of timm, with timm's own transform."""
    import timm
    from timm.data import create_transform, resolve_model_data_config

    def create(classes: int | None, pretrained: bool = False) -> nn.Module:
        module: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=classes)
        return module

    module = build_network(f"timm/{name}", weights, create, lambda: create(None, pretrained=True))
    transform: Transform = create_transform(**resolve_model_data_config(module), is_training=False)
    if not getattr(module, "num_classes", 0):
        return Parts(module, transform, task=EMBEDDING)
    return Parts(module, transform, infer_labels(module))
