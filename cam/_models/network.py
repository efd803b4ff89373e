"""Treat a cam.Model and a bare module alike."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor, nn

from cam._engine.default_layer import find_default_layers
from cam._engine.evaluation_mode import original_module
from cam._models.model import EMBEDDING, Model, no_classes
from cam._targets.class_target import refuse_label
from cam.errors import ModelError


@dataclass(frozen=True, eq=False)
class Network:
    """What an explanation needs of a model.

    Attributes:
        module: The network itself, without the wrapper of ``torch.compile``.
        lock: Held while the network runs.
        class_index: From a label to its index.
        default_layers: From a batch (B, C, H, W) or (B, C, D, H, W) to the layers that are
            explained where a call names none.
        has_classes: Whether its output is more than features.
        name: For messages.
        frames_first: Whether it takes clips as (B, T, C, H, W); None: as its first layer shows.
    """

    module: nn.Module
    lock: AbstractContextManager[object]
    class_index: Callable[[str], int]
    default_layers: Callable[[Tensor], tuple[str, ...]]
    has_classes: bool = True
    name: str = ""
    frames_first: bool | None = None

    @staticmethod
    def of(model: Model | nn.Module) -> "Network":
        """Take a :class:`cam.Model` or any module.

        Raises:
            ModelError: It is neither.
        """
        if isinstance(model, Model):
            return Network(
                model.module,
                model.lock,
                model.class_index,
                model.default_layers,
                model.task != EMBEDDING,
                model.name,
                model.frames_first,
            )
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

    def refuse_classes(self, targets: object) -> None:
        """Refuse targets that are classes, where the network has none.

        Raises:
            ModelError: They are.
        """
        several = targets if isinstance(targets, Sequence) else [targets]
        if not self.has_classes and not all(map(_is_function, several)):
            raise no_classes(self.name)


def _is_function(target: object) -> bool:
    """Test whether a target, or each of a list, is a function of the output."""
    if isinstance(target, Sequence) and not isinstance(target, str):
        return all(map(_is_function, target))
    return callable(target)
