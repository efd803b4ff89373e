"""Keep a network with its preprocessing, labels and preset layer."""

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from cam._detection.outputs import declare
from cam._detection.suppression import choose_detections
from cam._engine.capture import check_batch
from cam._engine.default_layer import find_default_layers
from cam._engine.evaluation_mode import device_of, evaluation_mode, original_module
from cam._engine.fast_ops.replacement import share_replacement
from cam._engine.forward import find_detected, find_segments, run_detector, run_model
from cam._engine.layers import LayerInfo, Layers, feature_layers, resolve_layers
from cam._media.images import ImageSource, load_image
from cam._models.cropping import crop_image
from cam._models.preprocessing import (
    Transform,
    normalises_itself,
    standard_transform,
    whole_image,
)
from cam._models.tasks.detections import Detections
from cam._models.tasks.segmentation import Segmentation, segment_images
from cam._segmentation.pixel_scores import require_segmenter
from cam.errors import InputError, LayerError, ModelError, TargetError, nearest
from cam.parameters import number
from cam.targets import Similarity


@dataclass(frozen=True)
class ModelOrigin:
    """The arguments of :func:`cam.load_model` that load a model again.

    Attributes:
        name: As it was asked for.
        weights: "DEFAULT", None for random ones, or a file's absolute path.
        labels: None, a file's absolute path, or the names.
        prompts: The classes of a model of images and text; None for others.
    """

    name: str
    weights: str | None
    labels: str | tuple[str, ...] | None
    prompts: tuple[str, ...] | None


DETECTION, EMBEDDING, SEGMENTATION = "detection", "embedding", "segmentation"
TASKS = (DETECTION, EMBEDDING, SEGMENTATION)


class Model:
    """Any classifier, ready to be explained.

    Args:
        module: The network; it is never changed.
        transform: From a PIL image in RGB to a (3, H, W) float tensor. By default the usual one
            for ImageNet: short side to 256, centre crop of 224, ImageNet's mean and deviation;
            torchvision's detectors, which resize and normalise, get the whole image.
        labels: One name a class, in the order of the output.
        layers: Where to explain when a call does not say: dotted names or modules. By default the
            feature maps that the classifier pools.
        name: What to call the model in results.
        task: "detection" or "segmentation" where what the module returns does not show that it is
            a detector or a segmenter; "embedding" where it returns features (B, D) and no classes.
        frames_first: Whether a model of clips takes (B, T, C, H, W), and not (B, C, D, H, W). None:
            as its first layer shows.

    Raises:
        ModelError: ``module`` is no ``nn.Module``, or there is no such task.
        LayerError: ``layers`` names one that does not exist.
    """

    def __init__(
        self,
        module: nn.Module,
        transform: Transform | None = None,
        labels: Sequence[str] | None = None,
        layers: Layers = None,
        name: str | None = None,
        task: str | None = None,
        frames_first: bool | None = None,
    ) -> None:
        if task not in (None, *TASKS):
            names = ", ".join(map(repr, TASKS))
            raise ModelError(f"a model's task is {names} or None, not {task!r}")
        if not isinstance(module, nn.Module):
            raise ModelError(f"a model is a torch.nn.Module, not {type(module).__name__}")
        self.module = original_module(module)
        if transform is None:
            whole = normalises_itself(self.module)
            transform = whole_image() if whole else standard_transform()
        self.transform = transform
        self.labels = tuple(labels) if labels is not None else None
        self.name = name or type(self.module).__name__
        self.task = task
        self.frames_first = frames_first
        self._declare()
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
        self._declare()

    def _declare(self) -> None:
        names = None if self.labels is None else len(self.labels)
        declare(self.module, self.task == DETECTION, names)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return device_of(self.module)

    @property
    def layers(self) -> tuple[str, ...]:
        """The preset: dotted names of the layers that are explained unless a call names others."""
        return self._find_layers(self._blank)

    def default_layers(self, batch: Tensor) -> tuple[str, ...]:
        """Return the preset, found on a batch of volumes or clips where nothing was yet.

        Args:
            batch: (B, C, H, W), where a blank image of the transform is watched instead, or
                (B, C, D, H, W).
        """
        return self._find_layers((lambda: batch[:1]) if batch.ndim == 5 else self._blank)

    def _find_layers(self, picture: Callable[[], Tensor]) -> tuple[str, ...]:
        if self._layers is None:
            with self.lock:
                try:
                    self._layers = find_default_layers(self.module, picture)
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
            twin = Model(
                module,
                self.transform,
                self.labels,
                self._layers,
                self.name,
                self.task,
                self.frames_first,
            )
            twin.origin = self.origin
            share_replacement(self.module, twin.module)
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
            raise InputError("there is no image to prepare; give at least one")
        tensors = [self.transform(load_image(image)) for image in several]
        shapes = sorted({tuple(tensor.shape) for tensor in tensors})
        if len(shapes) > 1:
            raise InputError(
                f"the model's transform gives images of different shapes {shapes}, which do not "
                "fit in one batch; prepare them one by one, or crop them in the transform"
            )
        return torch.stack(tensors).to(self.device, torch.float32)

    def crop(self, image: ImageSource) -> Image.Image:
        """Crop what the model sees of a picture, at full resolution.

        This is what a heatmap lies over. Where the transform's geometry cannot be read, it is the
        transformed picture itself, with the normalisation undone.
        """
        return crop_image(self.transform, load_image(image))

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
    def detects(self) -> bool:
        """Whether it is a detector: declared, or shown by what it returns; costs one forward."""
        if self.task is not None:
            return self.task == DETECTION
        with self.lock, evaluation_mode(self.module), torch.no_grad():
            try:
                return find_detected(self.module, self._blank()) is not None
            except ModelError:
                return False

    @cached_property
    def segments(self) -> bool:
        """Whether it is a segmenter: declared, or shown by what it returns; costs one forward."""
        if self.task is not None:
            return self.task == SEGMENTATION
        with self.lock, evaluation_mode(self.module), torch.no_grad():
            try:
                self._require_segments(self._blank())
            except ModelError:
                return False
        return True

    def _require_segments(self, batch: Tensor) -> Tensor:
        names = None if self.labels is None else len(self.labels)
        scores = find_segments(self.module, batch.clone())
        return require_segmenter(scores, self.name, self.task == SEGMENTATION, names)

    @cached_property
    def feature_layers(self) -> tuple[LayerInfo, ...]:
        """Every layer with feature maps, in the order in which they run; costs one forward."""
        with self.lock:
            return tuple(feature_layers(self.module, self._blank()))

    def _blank(self) -> Tensor:
        """Prepare an empty picture of the transform's size, (1, 3, H, W)."""
        return self.prepare(Image.new("RGB", (256, 256)))

    def predict(self, batch: Tensor) -> Tensor:
        """Compute class probabilities, (B, classes) float32, in one forward pass.

        They are a softmax: of all classes one is there. Where each has a probability alone, as of
        SigLIP's prompts or several labels, that is ``model.score(batch).sigmoid()``.

        Raises:
            ModelError: The model gives features or boxes, and no classes.
        """
        if self.task == EMBEDDING:
            raise no_classes(self.name)
        scores = self.score(batch)
        if scores.ndim == 3:
            require_classes(self.name, scores[0])
        return scores.softmax(1)

    def like(self, image: ImageSource) -> Similarity:
        """Return the target that asks for the likeness to another image.

        Args:
            image: What :func:`cam.load_image` takes.

        Raises:
            ModelError: The model gives classes, and no features to compare.
        """
        if self.task != EMBEDDING:
            raise ModelError(
                f"{self.name} gives no features to compare images by; load a backbone, such as "
                "hf/facebook/dinov2-small, or declare one with task='embedding'"
            )
        return Similarity(self.score(self.prepare(image))[0])

    def detect(
        self, images: Tensor | Sequence[ImageSource] | ImageSource, threshold: float = 0.5
    ) -> list[Detections]:
        """Detect objects, in one forward pass.

        What torchvision's detectors return is suppressed already, queries need no suppression, and
        the cells of a grid head (YOLO) are suppressed here, by torchvision's batched_nms.

        Args:
            images: A batch (B, 3, H, W), or one or more images, which :meth:`prepare` takes.
            threshold: Scores must be higher. Below its own threshold (torchvision's is 0.05) a
                detector returns nothing.

        Returns:
            The detections of each image, in pixels of the batch.

        Raises:
            ModelError: Nothing shows that the model is a detector, or how its output is read.
            InputError: The batch does not fit, or the threshold is not in [0, 1].
        """
        if not number(0, 1).holds(threshold):
            raise InputError(f"threshold must be a number from 0 to 1, but is {threshold!r}")
        batch = images if isinstance(images, Tensor) else self.prepare(images)
        check_batch(self.module, batch)
        with self.lock, evaluation_mode(self.module), torch.no_grad():
            detected = run_detector(self.module, batch.clone())
        return [
            Detections(*choose_detections(detected, image, threshold))
            for image in range(len(batch))
        ]

    def segment(self, images: Tensor | Sequence[ImageSource] | ImageSource) -> list[Segmentation]:
        """Say which class each pixel is of, in one forward pass.

        The scores are enlarged bilinearly to the input's size, and the highest class wins.

        Args:
            images: A batch (B, C, H, W), or one or more images, which :meth:`prepare` takes.

        Returns:
            The segmentation of each image, (H, W) of the batch, whose regions are targets.

        Raises:
            ModelError: Nothing shows that the model is a segmenter.
            InputError: The batch does not fit.
        """
        batch = images if isinstance(images, Tensor) else self.prepare(images)
        check_batch(self.module, batch)
        with self.lock, evaluation_mode(self.module), torch.no_grad():
            scores = self._require_segments(batch)
        return segment_images(scores, (batch.shape[-2], batch.shape[-1]), self.labels)

    def score(self, batch: Tensor) -> Tensor:
        """Compute raw scores, (B, classes) float32, in one forward pass."""
        with self.lock, evaluation_mode(self.module), torch.no_grad():
            return run_model(self.module, batch).float()


def require_classes(name: str, output: Tensor) -> None:
    """Refuse an image's output that is no score for each class.

    Args:
        name: The model's.
        output: Of one image.

    Raises:
        ModelError: It has another shape than (classes,).
    """
    if output.ndim != 1:
        raise ModelError(
            f"{name} returns shape {tuple(output.shape)} an image, and no score for each class; "
            "a detector's boxes are model.detect(images) and a segmenter's regions "
            "model.segment(images), each of which is a target of cam.attribute; where the output "
            "alone does not show what it is, cam.Model(module, task=…) says so"
        )


def no_classes(name: str) -> ModelError:
    """State in one sentence that a model gives features."""
    return ModelError(
        f"{name} gives features and no classes; explain its likeness to another image, with "
        "targets=model.like(image), or --like on the command line"
    )


@lru_cache(maxsize=8)
def _index_labels(labels: tuple[str, ...]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Index the names, as they stand and in lower case."""
    exact: dict[str, list[int]] = {}
    folded: dict[str, list[int]] = {}
    for index, name in enumerate(labels):
        exact.setdefault(name, []).append(index)
        folded.setdefault(name.lower(), []).append(index)
    return exact, folded
