"""Treat a cam.Model and a bare module alike."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor, nn

from cam._engine.default_layer import find_default_layers
from cam._engine.evaluation_mode import original_module
from cam._models.model import Model
from cam.errors import ModelError
from cam.targets import refuse_label


@dataclass(frozen=True, eq=False)
class Network:
    """What an explanation needs of a model.

    Attributes:
        module: The network itself, without the wrapper of ``torch.compile``.
        lock: Held while the network runs.
        class_index: From a label to its index.
        default_layers: From a batch (B, C, H, W) to the layers that are explained where a call
            names none.
    """

    module: nn.Module
    lock: AbstractContextManager[object]
    class_index: Callable[[str], int]
    default_layers: Callable[[Tensor], tuple[str, ...]]

    @staticmethod
    def of(model: Model | nn.Module) -> "Network":
        """Take a :class:`cam.Model` or any module.

        Raises:
            ModelError: It is neither.
        """
        if isinstance(model, Model):
            return Network(model.module, model.lock, model.class_index, lambda _: model.layers)
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"a model is a cam.Model or torch.nn.Module, not {type(model).__name__}"
            )
        module = original_module(model)
        return Network(
            module,
            nullcontext(),
            refuse_label,
            lambda batch: find_default_layers(module, lambda: batch[:1]),
        )
