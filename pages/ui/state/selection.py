"""Say what a visitor has chosen, as addresses say it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from cam._media.images import SAMPLES
from cam._models.families.bundled import BUNDLED

Parameters = dict[str, list[str]]
"""An address's query: name → values."""

FIRST_SAMPLE = next(iter(SAMPLES))
DEFAULT_METHODS = ("gradcam", "saliency")
SAMPLE, FILE, RUN, UPLOAD = "sample", "file", "run", "upload"
# What says how maps are drawn goes along to other pages; so do the parameters of methods.
DISPLAY = ("opacity", "fade", "threshold", "colormap", "signs")
CLASSES = ("target", "against", "classes")
# Another image has other classes; another model has other layers too.
OF_IMAGE = (*CLASSES, "edit", "position", "channel")
OF_MODEL = (*OF_IMAGE, "layer", "layers", "through_layer")


@dataclass(frozen=True)
class ImageName:
    """Where an image is from, and its name there.

    Attributes:
        source: :data:`SAMPLE`, :data:`FILE`, :data:`RUN` or :data:`UPLOAD`.
        name: Of the sample, the file below its allowed folder, the run, or the upload's digest.
        number: Of the run's image, as the address has it.
    """

    source: str = SAMPLE
    name: str = FIRST_SAMPLE
    number: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what the address says; what has no source is a sample's name."""
        source, colon, name = text.partition(":")
        if not colon or source not in (FILE, RUN, UPLOAD):
            return cls(SAMPLE, text)
        if source == RUN:
            name, _, number = name.rpartition(":")
            return cls(RUN, name, number)
        return cls(source, name)

    def __str__(self) -> str:
        if self.source == SAMPLE:
            return self.name
        return ":".join(filter(None, (self.source, self.name, self.number)))


@dataclass(frozen=True)
class Selection:
    """What a visitor has chosen; None stands for the default of the model or of the page.

    Names are checked where they are used: which layers there are depends on the model.

    Attributes:
        image: Which image.
        model: The model's name.
        untrained: Whether its weights are random.
        checkpoint: A file of weights below its allowed folder.
        prompts: The classes of a model of images and text.
        layer: The layer's dotted name.
        target: The title of the class that is explained.
        against: The title of a second class, for a contrast.
        methods: Names of methods.
        position: Of the crop along the longer side, in percent.
        edits: What is changed in the image, as :class:`cam._media.edits.Edit` writes it.
        parameters: "method.parameter" → what the address says.
        display: Opacity, threshold, colours and signs that are not the defaults.
        view: What else the page shows: its boxes, parts and figures.
    """

    image: ImageName = ImageName()
    model: str = BUNDLED
    untrained: bool = False
    checkpoint: str | None = None
    prompts: tuple[str, ...] = ()
    layer: str | None = None
    target: str | None = None
    against: str | None = None
    methods: tuple[str, ...] | None = None
    position: str | None = None
    edits: tuple[str, ...] = ()
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    display: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    view: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, parameters: Mapping[str, Iterable[str]], methods: Iterable[str]) -> Self:
        """Read an address's query.

        Args:
            parameters: Name → values; of those that take a single value, the last one counts.
            methods: Names of all methods, which tell their parameters from other names.
        """
        rest = {name: tuple(values) for name, values in parameters.items()}

        def pop(name: str) -> str | None:
            values = rest.pop(name, ())
            return values[-1] if values and values[-1] else None

        image, model = pop("image"), pop("model")
        names = rest.pop("methods", None)
        prefixes = tuple(f"{name}." for name in methods)
        groups: dict[str, dict[str, tuple[str, ...]]] = {
            "parameters": {k: v for k, v in rest.items() if k.startswith(prefixes)},
            "display": {k: v for k, v in rest.items() if k in DISPLAY},
        }
        selection = cls(
            image=ImageName() if image is None else ImageName.parse(image),
            model=model or BUNDLED,
            untrained=pop("untrained") == "true",
            checkpoint=pop("checkpoint"),
            prompts=rest.pop("prompt", ()),
            layer=pop("layer"),
            target=pop("target"),
            against=pop("against"),
            methods=None if names is None else tuple(name for name in names if name),
            position=pop("position"),
            edits=rest.pop("edit", ()),
            **groups,
        )
        taken = {*groups["parameters"], *groups["display"]}
        return replace(selection, view={k: v for k, v in rest.items() if k not in taken})

    def write(self) -> Parameters:
        """Write the address's query; what is the default is not in it."""
        start = Selection()
        texts = {
            "image": str(self.image) if self.image != start.image else None,
            "model": self.model if self.model != start.model else None,
            "untrained": "true" if self.untrained else None,
            "checkpoint": self.checkpoint,
            "layer": self.layer,
            "target": self.target,
            "against": self.against,
            "position": self.position,
        }
        query = {name: [text] for name, text in texts.items() if text is not None}
        if self.methods is not None:
            # An empty value says that there is none, which is not the default.
            query["methods"] = list(self.methods) or [""]
        if self.prompts:
            query["prompt"] = list(self.prompts)
        if self.edits:
            query["edit"] = list(self.edits)
        for group in (self.parameters, self.display, self.view):
            query |= {name: list(values) for name, values in group.items()}
        return query

    def share(self) -> Parameters:
        """Write what goes along to another page: everything but this page's own view."""
        return replace(self, view={}).write()
