"""Hold the options of a run, with defaults and checks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from cam._engine.layers import Layers
from cam._metrics.localisation.object_masks import centre_heatmap
from cam.errors import InputError, nearest
from cam.parameters import integer, one_of
from cam.polarity import POLARITY

TARGETS = ("data", "predicted")
# Maps of a batch that know of no model, to be beaten: no methods, as they explain nothing.
BASELINES: Mapping[str, Callable[[Tensor], Tensor]] = {"centre": centre_heatmap}
RULES = {
    "targets": one_of(TARGETS),
    "shard_size": integer(1),
    "batch_size": integer(1),
    "heatmaps": integer(0),
    "polarity": POLARITY,
}


@dataclass(frozen=True)
class RunOptions:
    """How a run measures: the keywords of :func:`cam.evaluate` that its results depend on.

    The limit is no option, as it belongs to the data; nor are engine and progress, which change no
    score.

    Attributes:
        baselines: Names of :data:`BASELINES` that are measured beside the methods; one name may
            stand alone.
        targets: "data": the item's class, or the top class where it has none; "predicted": always
            the top class.
        layers: Where the CAM methods look; None: the model's preset.
        precision: As of :func:`cam.attribute`.
        shard_size: Items that are explained together and stored together.
        batch_size: Inputs that a method or metric sends through the model at once.
        heatmaps: Side of the stored heatmaps in pixels; 0 stores none.
        polarity: How all metrics read signed maps, of :data:`cam.polarity.POLARITIES`; a metric's
            own parameter goes before it.

    Raises:
        InputError: A number is out of range, or there is no such baseline or kind of targets.
    """

    baselines: Sequence[str] | str = ()
    targets: str = "data"
    layers: Layers = None
    precision: str | None = None
    shard_size: int = 16
    batch_size: int = 32
    heatmaps: int = 56
    polarity: str = "signed"

    def __post_init__(self) -> None:
        names = (self.baselines,) if isinstance(self.baselines, str) else self.baselines
        object.__setattr__(self, "baselines", tuple(dict.fromkeys(names)))
        for name, rule in RULES.items():
            value = getattr(self, name)
            if not rule.holds(value):
                raise InputError(f"{name} must be {rule.words}, but is {value!r}")
        for name in self.baselines:
            if name not in BASELINES:
                raise InputError(f"there is no baseline {name!r}; {nearest(name, BASELINES)}")

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "RunOptions":
        """Read options from JSON, without names that this version lacks."""
        values = {field.name: facts.get(field.name, field.default) for field in fields(cls)}
        layers = values.pop("layers")
        return cls(layers=tuple(layers) if isinstance(layers, list) else layers, **values)

    def keywords(self) -> dict[str, Any]:
        """Name every option as :func:`cam.evaluate` takes it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def changes(self) -> dict[str, Any]:
        """Name the options that differ from their defaults."""
        defaults = DEFAULTS.keywords()
        return {name: value for name, value in self.keywords().items() if value != defaults[name]}


DEFAULTS: RunOptions = RunOptions()
