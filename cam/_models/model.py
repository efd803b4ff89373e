"""Keep a network with its preprocessing, labels and preset layer."""

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from cam._engine.default_layer import find_default_layers
from cam._engine.evaluation_mode import device_of, evaluation_mode, original_module
from cam._engine.layers import LayerInfo, Layers, feature_layers, resolve_layers
from cam._media.images import ImageSource, load_image
from cam._models.preprocessing import Transform, crop_to_input, mean_and_std, standard_transform
from cam.errors import InputError, LayerError, ModelError, TargetError, nearest


@dataclass(frozen=True)
class ModelOrigin:
    """The arguments of :func:`cam.load_model` that load a model again.

    Attributes:
        name: As it was asked for.
        weights: "DEFAULT", None for random ones, or a file's absolute path.
        labels: None, a file's absolute path, or the names.
    """

    name: str
    weights: str | None
    labels: str | tuple[str, ...] | None


class Model:
    """Any classifier, ready to be explained.

    Args:
        module: The network; it is never changed.
        transform: From a PIL image in RGB to a (3, H, W) float tensor. By default the usual one
            for ImageNet: short side to 256, centre crop of 224, ImageNet's mean and deviation.
        labels: One name a class, in the order of the output.
        layers: Where to explain when a call does not say: dotted names or modules. By default the
            feature maps that the classifier pools.
        name: What to call the model in results.

    Raises:
        ModelError: ``module`` is no ``nn.Module``.
        LayerError: ``layers`` names one that does not exist.
    """

    def __init__(
        self,
        module: nn.Module,
        transform: Transform | None = None,
        labels: Sequence[str] | None = None,
        layers: Layers = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ModelError(f"a model is a torch.nn.Module, not {type(module).__name__}")
        self.module = original_module(module)
        self.transform = transform or standard_transform()
        self.labels = tuple(labels) if labels is not None else None
        self.name = name or type(self.module).__name__
        # Only what was loaded by name can be loaded again.
        self.origin: ModelOrigin | None = None
        self._layers = (
            tuple(dotted for dotted, _ in resolve_layers(self.module, layers))
            if layers is not None
            else None
        )
        # Hooks are set on the module while it is explained, so one call at a time.
        self.lock = threading.RLock()

    def __repr__(self) -> str:
        return f"cam.Model({self.name!r} on {self.device})"

    # A lock cannot be copied or sent to another process; the copy has its own.
    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lock = threading.RLock()

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return device_of(self.module)

    @property
    def layers(self) -> tuple[str, ...]:
        """The preset: dotted names of the layers that are explained unless a call names others."""
        if self._layers is None:
            with self.lock:
                try:
                    self._layers = find_default_layers(self.module, self._blank)
                except ModelError as error:
                    raise LayerError(
                        f"no layer was found to explain {self.name} at, because {error}; name one "
                        "with layers=…"
                    ) from None
        return self._layers

    def to(self, device: str | torch.device) -> "Model":
        """Move the module to a device and return this model."""
        self.module.to(device)
        return self

    def twin(self) -> "Model":
        """Make a twin with separate hooks and lock, over the same parameters.

        While one is explained, which may take minutes, the other answers. Parameters and buffers
        take no memory twice, and what changes them in place changes both.
        """
        tensors = [*self.module.parameters(), *self.module.buffers()]
        with self.lock:
            module = copy.deepcopy(self.module, {id(tensor): tensor for tensor in tensors})
            twin = Model(module, self.transform, self.labels, self._layers, self.name)
            twin.origin = self.origin
            return twin

    def prepare(self, images: Sequence[ImageSource] | ImageSource) -> Tensor:
        """Turn pictures into the model's input.

        Args:
            images: One or more of what :func:`cam.load_image` takes.

        Returns:
            (B, 3, H, W) float32 on the model's device.

        Raises:
            ImageError: A picture cannot be read.
            InputError: There is no picture, or the transform gives different sizes.
        """
        several = (
            list(images)
            if isinstance(images, Sequence) and not isinstance(images, str | bytes)
            else [images]
        )
        if not several:
            raise InputError("there is no picture to prepare; give at least one")
        tensors = [self.transform(load_image(image)) for image in several]
        shapes = sorted({tuple(tensor.shape) for tensor in tensors})
        if len(shapes) > 1:
            raise InputError(
                f"the model's transform gives pictures of different shapes {shapes}, which do not "
                "fit in one batch; prepare them one by one, or crop them in the transform"
            )
        return torch.stack(tensors).to(self.device, torch.float32)

    def crop(self, image: ImageSource) -> Image.Image:
        """Crop what the model sees of a picture, at full resolution.

        This is what a heatmap lies over. Where the transform's geometry cannot be read, it is the
        transformed picture itself, with the normalisation undone.
        """
        photo = load_image(image)
        part = crop_to_input(self.transform, photo)
        if part is not None:
            return part
        mean, std = (torch.tensor(values) for values in mean_and_std(self.transform))
        pixels = self.transform(photo).movedim(0, -1) * std + mean  # (H, W, 3)
        return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())

    def class_index(self, label: str) -> int:
        """Return the class of a name.

        Upper and lower case matter only where two names differ by them.

        Raises:
            TargetError: The model has no labels, or none of that name, or several.
        """
        if self.labels is None:
            raise TargetError(
                f"the model has no labels, so {label!r} means nothing to it; use an index"
            )
        indices = self.classes_called(label)
        if not indices:
            raise TargetError(f"the model has no class {label!r}; {nearest(label, self.labels)}")
        if len(indices) > 1:
            raise TargetError(
                f"{len(indices)} classes are called {label!r}: {indices}; use an index"
            )
        return indices[0]

    def classes_called(self, label: str) -> list[int]:
        """List every class of a name; none without labels.

        Upper and lower case matter only where two names differ by them.
        """
        exact, folded = _index_labels(self.labels or ())
        return list(exact.get(label) or folded.get(label.lower()) or ())

    def label(self, index: int) -> str:
        """Return the name of a class, or ``class 7`` without labels."""
        return self.labels[index] if self.labels is not None else f"class {index}"

    @cached_property
    def feature_layers(self) -> tuple[LayerInfo, ...]:
        """Every layer with feature maps, in the order in which they run; costs one forward."""
        with self.lock:
            return tuple(feature_layers(self.module, self._blank()))

    def _blank(self) -> Tensor:
        """Prepare an empty picture of the transform's size, (1, 3, H, W)."""
        return self.prepare(Image.new("RGB", (256, 256)))

    def predict(self, batch: Tensor) -> Tensor:
        """Compute class probabilities, (B, classes) float32, in one forward pass."""
        with self.lock, evaluation_mode(self.module), torch.no_grad():
            logits: Tensor = self.module(batch)
            return logits.float().softmax(1)


@lru_cache(maxsize=8)
def _index_labels(labels: tuple[str, ...]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Index the names, as they stand and in lower case."""
    exact: dict[str, list[int]] = {}
    folded: dict[str, list[int]] = {}
    for index, name in enumerate(labels):
        exact.setdefault(name, []).append(index)
        folded.setdefault(name.lower(), []).append(index)
    return exact, folded
