"""Plan which methods share which passes, at which layers, in which precision."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from cam._engine.fidelity import find_fastest, find_most_careful
from cam._engine.method_sources import LayerActivations, Source
from cam._methods.base.method_registry import Method, method
from cam._methods.base.method_registry import methods as list_methods
from cam.errors import MethodError


@dataclass(frozen=True)
class SharedPass:
    """One forward and at most one backward pass, which several methods read.

    Attributes:
        methods: Key of the result → method.
        layers: Dotted names of the layers that are read; empty where none is.
        precision: In which the network computes; None: as the model and torch are set.
    """

    methods: Mapping[str, Method]
    layers: tuple[str, ...]
    precision: str | None

    @property
    def reads(self) -> frozenset[type[Source]]:
        """What the methods read."""
        return frozenset(each.info.reads for each in self.methods.values())

    @property
    def kernel_rules(self) -> frozenset[str]:
        """The rules whose maps one kernel computes."""
        return frozenset(rule for each in self.methods.values() for rule in each.info.kernel_rules)

    @property
    def backward(self) -> bool:
        """Whether there is a backward pass."""
        return any(source.backward for source in self.reads)

    def __str__(self) -> str:
        passes = "1 forward and 1 backward pass" if self.backward else "1 forward pass"
        at = f" at {', '.join(self.layers)}" if self.layers else ""
        precision = f" in {self.precision}" if self.precision else ""
        lines = [f"{passes}{at}{precision}"]
        for key, each in self.methods.items():
            notes = [f"reads {each.info.reads.__name__}"]
            notes += [f"kernel rule {rule}" for rule in each.info.kernel_rules]
            notes += ["further passes"] if each.info.passes else []
            lines.append(f"  {key}: {', '.join(notes)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Plan:
    """The passes of a call, in the order in which they run.

    Attributes:
        keys: Of the results, in the requested order.
        passes: First that of the methods without further passes.
    """

    keys: tuple[str, ...]
    passes: tuple[SharedPass, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.passes))


def make_plan(
    methods: Sequence[Method], layers: Sequence[str], precision: str | None, device: torch.device
) -> Plan:
    """Group methods that can read the same passes.

    Methods without further passes share one, in the precision of the most careful of them.

    Args:
        methods: Without repetitions.
        layers: Dotted names of the layers to explain at.
        precision: As for :func:`cam.attribute`.
        device: Where the network is.
    """
    named = dict(zip(_keys(methods), methods, strict=True))
    settings = {key: _precision(each, precision, device) for key, each in named.items()}
    alone = [key for key, each in named.items() if not each.info.passes]
    if precision == "auto":
        settings |= dict.fromkeys(alone, find_most_careful([settings[key] for key in alone]))
    groups: dict[str | None, dict[str, Method]] = {}
    for key in sorted(named, key=lambda key: named[key].info.passes):
        groups.setdefault(settings[key], {})[key] = named[key]
    return Plan(
        tuple(named),
        tuple(
            SharedPass(group, tuple(layers) if reads_layer(group.values()) else (), setting)
            for setting, group in groups.items()
        ),
    )


def reads_layer(methods: Iterable[Method]) -> bool:
    """Test whether any of the methods explains at a layer."""
    return any(issubclass(each.info.reads, LayerActivations) for each in methods)


def require_volume_methods(methods: Iterable[Method]) -> None:
    """Refuse methods that read images alone, for a batch of volumes or clips.

    Raises:
        MethodError: One of them does; the message names those that do not.
    """
    for each in methods:
        if not each.info.volumes:
            others = ", ".join(name for name, info in list_methods().items() if info.volumes)
            raise MethodError(
                f"{each.name} explains images (B, C, H, W), and no volumes or clips; for these "
                f"there are {others}"
            )


def resolve_methods(methods: Sequence[str | Method] | str | Method) -> list[Method]:
    """Return the methods that a caller names, each once.

    Raises:
        MethodError: There are none, or one is neither a name nor a method.
    """
    if not isinstance(methods, str | Method | Iterable):
        raise MethodError(f"methods are names or cam.method(…), not {type(methods).__name__}")
    several = [methods] if isinstance(methods, str | Method) else list(methods)
    if not several:
        raise MethodError("methods is empty; name at least one, such as 'gradcam'")
    distinct: list[Method] = []
    for each in several:
        if not isinstance(each, str | Method):
            raise MethodError(f"a method is a name or a cam.method(…), not {type(each).__name__}")
        configured = method(each) if isinstance(each, str) else each
        if not any(map(configured.same, distinct)):
            distinct.append(configured)
    return distinct


def _precision(each: Method, precision: str | None, device: torch.device) -> str | None:
    if each.info.full and (precision or torch.is_autocast_enabled(device.type)):
        return "tf32" if precision == "tf32" else "fp32"
    return find_fastest(each.name, device) if precision == "auto" else precision


def _keys(methods: Sequence[Method]) -> list[str]:
    """Name each result, with parameters or a number where names repeat."""
    names = [each.name for each in methods]
    keys = [str(each) if names.count(each.name) > 1 else each.name for each in methods]
    # Of a large tensor only the corners are written out.
    earlier = [keys[:index].count(key) for index, key in enumerate(keys)]
    return [f"{key} #{n + 1}" if n else key for key, n in zip(keys, earlier, strict=True)]
