"""Hold image, model and methods as a visitor chose them."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import cam
from cam._media.images import Photo
from cam._targets.class_target import ClassTarget
from cam.targets import Contrast


@dataclass(frozen=True, eq=False)
class Picture:
    """A photo with the hash of its content, and the Python that reads it where that is known."""

    photo: Photo
    digest: str
    code: str | None = None


@dataclass(frozen=True)
class Weights:
    """The weights of a model: published, random, of a file or of an upload.

    Attributes:
        random: Whether they are drawn, from a fixed seed.
        path: Of a file on this server; an upload lies below its digest, so another content has
            another path.
        upload: What the visitor who uploaded the file calls it; None where nobody did.
        labels: The name of the visitor's file of classes' names.
        labels_path: Where that lies.
    """

    random: bool = False
    path: str | None = None
    upload: str | None = None
    labels: str | None = None
    labels_path: str | None = None

    @property
    def published(self) -> bool:
        """Whether they are those that the model's authors published."""
        return not self.random and self.path is None


def write_reading(picture: Picture) -> str:
    """Write the Python that reads a picture."""
    if picture.code is not None:
        return picture.code
    name = picture.photo.name
    if picture.digest.startswith("sample:"):
        return f'cam.sample("{name}")'
    return f"cam.load_image({name!r})"


# The classes of a model of images and text, where a visitor typed no others.
PROMPTS = ("a photo of a cat", "a photo of a cup of coffee", "a photo of a rocket")
PUBLISHED, RANDOM = Weights(), Weights(random=True)


@dataclass(frozen=True)
class ModelChoice:
    """A model by its name, with its weights.

    Attributes:
        name: As :func:`cam.load_model` takes it.
        weights: Whose they are.
        prompts: The classes of a model of images and text.
    """

    name: str
    weights: Weights = PUBLISHED
    prompts: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name, and whose the weights are where they are not the published ones."""
        if self.weights.published:
            return self.name
        file = self.weights.upload or PurePath(self.weights.path or "random weights").name
        return f"{self.name} ({file})"


@dataclass(frozen=True)
class MethodChoice:
    """A method with the parameters that are not its defaults."""

    name: str
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def info(self) -> cam.MethodInfo:
        """What the method is."""
        return cam.methods()[self.name]

    @property
    def own_passes(self) -> bool:
        """Whether it sends images through the network alone, which may take long."""
        return self.info.passes or dict(self.parameters).get("aug_smooth", False)

    def make(self) -> cam.Method:
        """Make the method as the library takes it.

        Raises:
            MethodError: A parameter is out of range.
        """
        return cam.method(self.name, **dict(self.parameters))


@dataclass(frozen=True)
class Choices:
    """What a visitor asks of an image; None stands for the top class and the preset layer.

    Attributes:
        question: What is asked about a place, as text for :func:`cam.attribute`; then no class is
            chosen.
    """

    model: ModelChoice
    methods: tuple[MethodChoice, ...]
    target: int | None
    layer: str | None
    against: int | None = None
    question: str | None = None

    def resolve_target(self, top: int | None) -> int | str | ClassTarget | None:
        """Return what is asked: a place, a class, a contrast; the top class where none is."""
        if self.question is not None:
            return self.question
        target = top if self.target is None else self.target
        if self.against is None or target is None:
            return target
        return Contrast(target, self.against)
