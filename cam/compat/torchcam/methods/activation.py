"""Offer torchcam's extractors without gradients: CAM and the Score-CAM family."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cam._engine.evaluation_mode import evaluation_mode
from cam.compat.torchcam.methods.extractor import (
    Classes,
    Extractor,
    Layers,
    OutputTargets,
    select_outputs,
)
from cam.compat.torchcam.methods.map_sizes import normalise, resize
from cam.errors import LayerError


class CAM(Extractor):
    """Class activation maps: the classifier's weights over the maps that it pools.

    Args:
        model: As for :class:`Extractor`.
        target_layer: As for :class:`Extractor`, one of them.
        fc_layer: The classifier or its name; None: the only ``nn.Linear``.
        input_shape: As for :class:`Extractor`.
        kwargs: As for :class:`Extractor`.
    """

    relu: ClassVar[bool] = False
    takes_targets: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        target_layer: Layers = None,
        fc_layer: nn.Module | str | None = None,
        input_shape: tuple[int, ...] = (3, 224, 224),
        **kwargs: Any,
    ) -> None:
        if isinstance(target_layer, list) and len(target_layer) > 1:
            raise LayerError("CAM explains at one layer, that which the classifier pools")
        linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
        if fc_layer is None and len(linear) != 1:
            raise LayerError(
                f"this model has {len(linear)} linear layers, so fc_layer must name the classifier"
            )
        super().__init__(model, target_layer, input_shape, **kwargs)
        name = self._resolve_layer_name(linear[0] if fc_layer is None else fc_layer)
        classifier: Any = self.submodule_dict[name]
        self._class_weights: Tensor = classifier.weight.detach().flatten(1)

    def _weights(self, class_idx: Classes, scores: Any = None, **kwargs: Any) -> Sequence[Tensor]:
        return [self._class_weights[[class_idx] if isinstance(class_idx, int) else class_idx]]


class ScoreCAM(Extractor):
    """Score-CAM: w = softmax of the scores of the picture times each map.

    Maps are brought to [0, 1], then to the picture's size by bilinear interpolation.

    Args:
        model: As for :class:`Extractor`.
        target_layer: As for :class:`Extractor`.
        batch_size: Masked pictures that go through the model at once.
        input_shape: As for :class:`Extractor`.
        kwargs: As for :class:`Extractor`.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layer: Layers = None,
        batch_size: int = 32,
        input_shape: tuple[int, ...] = (3, 224, 224),
        **kwargs: Any,
    ) -> None:
        super().__init__(model, target_layer, input_shape, **kwargs)
        self.bs = batch_size
        self.hook_handles.append(model.register_forward_pre_hook(self._keep_input))

    def _keep_input(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._hooks_enabled:
            self._input = inputs[0].detach().clone()

    @torch.no_grad()
    def _weights(
        self,
        class_idx: Classes,
        scores: Any = None,
        targets: OutputTargets = None,
        **kwargs: Any,
    ) -> Sequence[Tensor]:
        with self._hooks_off(), evaluation_mode(self.model):
            return [self._weigh(normalise(layer, 2), class_idx, targets) for layer in self.hook_a]

    def _weigh(self, layer: Tensor, class_idx: Classes, targets: OutputTargets) -> Tensor:
        # The score of the whole picture is not taken off, since the softmax would undo that.
        scores = [
            self._score_masks(masks, factor, class_idx, targets)
            for masks, factor in self._masks(layer)
        ]
        return torch.stack(scores).mean(0).softmax(1)

    def _masks(self, layer: Tensor) -> Iterator[tuple[Tensor, float]]:
        """Yield masks (B, C, h, w), and what the masked picture is multiplied by."""
        yield layer, 1.0

    def _score_masks(
        self, masks: Tensor, factor: float, class_idx: Classes, targets: OutputTargets
    ) -> Tensor:
        """Return the score of each masked picture, (B, C)."""
        count, channels = masks.shape[:2]
        size = tuple(self._input.shape[2:])
        scores = []
        for start in range(0, count * channels, self.bs):
            part = torch.arange(start, min(start + self.bs, count * channels))
            owners = part // channels
            mask = resize(masks.flatten(0, 1)[part], size)[:, None]
            output = self.model(factor * (mask * self._input[owners]))
            rows = owners.tolist()
            classes = [class_idx[row] for row in rows] if isinstance(class_idx, list) else class_idx
            functions = [targets[row] for row in rows] if isinstance(targets, list) else targets
            scores.append(select_outputs(output, classes, functions))
        return torch.cat(scores).view(count, channels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_size={self.bs})"


class _SampledScoreCAM(ScoreCAM):
    """Score-CAM with several pictures for each map.

    Args:
        model: As for :class:`Extractor`.
        target_layer: As for :class:`Extractor`.
        batch_size: As for :class:`ScoreCAM`.
        num_samples: Pictures for each map.
        input_shape: As for :class:`Extractor`.
        kwargs: As for :class:`Extractor`.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layer: Layers = None,
        batch_size: int = 32,
        num_samples: int = 10,
        input_shape: tuple[int, ...] = (3, 224, 224),
        **kwargs: Any,
    ) -> None:
        super().__init__(model, target_layer, batch_size, input_shape, **kwargs)
        self.num_samples = num_samples


class ISCAM(_SampledScoreCAM):
    """IS-CAM as torchcam computes it: factors 1/N, 1/N + 2/N, … of the masked picture."""

    def _masks(self, layer: Tensor) -> Iterator[tuple[Tensor, float]]:
        factor = 0.0
        for number in range(1, self.num_samples + 1):
            factor += number / self.num_samples
            yield layer, factor


class SSCAM(_SampledScoreCAM):
    """SS-CAM: noise on the masks at the picture's size, drawn as torchcam does.

    Args:
        model: As for :class:`Extractor`.
        target_layer: As for :class:`Extractor`.
        batch_size: As for :class:`ScoreCAM`.
        num_samples: Noisy masks for each map.
        std: Standard deviation of the noise.
        input_shape: As for :class:`Extractor`.
        kwargs: As for :class:`Extractor`.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layer: Layers = None,
        batch_size: int = 32,
        num_samples: int = 35,
        std: float = 2.0,
        input_shape: tuple[int, ...] = (3, 224, 224),
        **kwargs: Any,
    ) -> None:
        super().__init__(model, target_layer, batch_size, num_samples, input_shape, **kwargs)
        self.std = std

    def _masks(self, layer: Tensor) -> Iterator[tuple[Tensor, float]]:
        size = tuple(self._input.shape[2:])
        masks = resize(layer.flatten(0, 1), size).view(*layer.shape[:2], *size)
        noise: Callable[..., Tensor] = torch.distributions.Normal(0, self.std).sample
        for _ in range(self.num_samples):
            yield masks + noise(masks.shape).to(masks.device), 1.0
