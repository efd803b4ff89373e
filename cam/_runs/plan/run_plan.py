"""Plan a run, with everything that determines its result."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cam import kernels
from cam._data.dataset import Dataset, digest
from cam._engine.fast_ops.replacement import TORCH, get_replacement
from cam._engine.layers import Layers, resolve_layers
from cam._engine.precision import check_precision, name_precision
from cam._methods.base.method_registry import Method, method
from cam._metrics.base.metric_registry import metric
from cam._models.model import EMBEDDING, Model, no_classes
from cam._output.explanation_files import versions
from cam._runs.plan.label_classes import match_classes
from cam._runs.plan.options import DEFAULTS, RunOptions
from cam.errors import InputError
from cam.targets import Targets
from cam.types import Attribution

# Raised when a run folder's files change their meaning.
FORMAT = 5
# A repr holds where an object lies in memory, which is another place each time.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Metric(Protocol):
    """What a run needs of a metric; :mod:`cam.metrics` has them."""

    @property
    def info(self) -> Any:
        """With ``needs_masks``, ``needs_method`` and ``direction``, +1 where higher is better."""

    def measure(
        self,
        model: Model,
        batch: Tensor,
        attribution: Attribution,
        targets: Targets,
        masks: Tensor | None = None,
        *,
        method: Method | None = None,
        layers: Layers = None,
        batch_size: int = 32,
        progress: Any = None,
    ) -> Any:
        """Return :class:`cam.Scores`: values (B,), NaN where undefined, reasons, remarks."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A run before it has begun.

    Attributes:
        model: What is explained.
        data: What it is shown.
        methods: Key → method, the keys being the names where those are unique.
        metrics: Key → metric.
        options: How they are measured.
        classes: As of :func:`cam._runs.plan.label_classes.match_classes`.
        config: All of the above that determines the result, ready for JSON.
    """

    model: Model
    data: Dataset
    methods: dict[str, Method]
    metrics: dict[str, Metric]
    options: RunOptions
    classes: dict[str, int] = field(repr=False)
    config: dict[str, Any] = field(repr=False)

    @property
    def keys(self) -> list[str]:
        """Whose maps are measured: the methods', then the baselines'."""
        return [*self.methods, *self.options.baselines]

    @property
    def portable_options(self) -> RunOptions:
        """The options with layers by name: a module means nothing to another process."""
        by_name = None if self.options.layers is None else tuple(self.config["layers"])
        return replace(self.options, layers=by_name)

    def shards(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of items that are one piece of work."""
        total = len(self.data)
        for start in range(0, total, self.options.shard_size):
            yield start, min(start + self.options.shard_size, total)


def make_plan(
    model: Model | nn.Module,
    data: Dataset,
    methods: Sequence[str | Method] | str | Method,
    metrics: Sequence[str | Metric] | str | Metric,
    options: RunOptions = DEFAULTS,
) -> Plan:
    """Check everything that can be checked before the first picture is read.

    Raises:
        CamError: A method, metric, layer or number that does not exist or fit; a metric that needs
            to know where the class is, and data that do not.
    """
    model = model if isinstance(model, Model) else Model(model)
    if model.task == EMBEDDING:
        raise no_classes(model.name)
    named = _by_key(methods, method)
    measured = {
        key: _set_polarity(measure, options.polarity)
        for key, measure in _by_key(metrics, metric).items()
    }
    for key, measure in measured.items():
        if measure.info.needs_masks and not data.has_masks:
            raise InputError(
                f"the metric {key} needs to know where the class is, and {data.name!r} does not "
                "say; use data with masks or boxes, such as 'photo-grid', or leave the metric out"
            )
    check_precision(options.precision, model.device)
    at: list[str] = []
    if options.layers is not None:
        at = [name for name, _ in resolve_layers(model.module, options.layers)]
    elif any(explainer.info.layer for explainer in named.values()):
        at = list(model.layers)
    classes = match_classes(model, data) if options.targets == "data" else {}
    config = {
        "format": FORMAT,
        "model": describe_model(model),
        "data": {"items": len(data), "fingerprint": data.fingerprint},
        "methods": [
            {
                "key": key,
                "name": explainer.name,
                "parameters": _to_json(_collect_parameters(explainer)),
            }
            for key, explainer in named.items()
        ]
        + [
            {"key": name, "name": name, "parameters": {}, "baseline": True}
            for name in options.baselines
        ],
        "metrics": [
            {
                "key": key,
                "name": _name(measure),
                "parameters": _to_json(_collect_parameters(measure)),
                "direction": int(measure.info.direction),
                "needs_masks": bool(measure.info.needs_masks),
                "family": str(getattr(measure.info, "family", _name(measure))),
            }
            for key, measure in measured.items()
        ],
        **{name: value for name, value in options.keywords().items() if name != "baselines"},
        "layers": at,
        "precision": options.precision or name_precision(model.module, None, model.device),
        "inference": name_inference(model.module),
        **describe_surroundings(model.device),
    }
    return Plan(model, data, named, measured, options, classes, config)


def name_inference(module: nn.Module) -> str:
    """Name what computes passes without gradients: "torch", or a faster engine."""
    replacement = get_replacement(module)
    return TORCH if replacement is None else replacement.engine


def describe_surroundings(device: torch.device) -> dict[str, Any]:
    """Describe what of a process determines results: device, kernels, versions."""
    return {
        "device": _name_device(device),
        "kernels": kernels.backend(torch.empty(0, device=device)),
        "versions": dict(versions()),
    }


def describe_model(model: Model) -> dict[str, str]:
    """Describe a model by name and hashes of all that determines it."""
    weights = hashlib.sha256()
    for name, value in sorted(model.module.state_dict().items()):
        if not isinstance(value, Tensor):
            continue
        weights.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        weights.update(flat.view(torch.uint8).numpy().data)
    return {
        "name": model.name,
        "weights": weights.hexdigest(),
        "architecture": digest(_ADDRESS.sub("", repr(model.module))),
        "transform": _ADDRESS.sub("", repr(model.transform)),
        "labels": digest(model.labels),
    }


def list_differences(stored: object, planned: object, at: str = "") -> Iterator[str]:
    """List what differs between two configurations, as ``where: one → other``."""
    if isinstance(stored, dict) and isinstance(planned, dict):
        for key in dict.fromkeys([*stored, *planned]):
            below = f"{at}.{key}" if at else str(key)
            yield from list_differences(stored.get(key), planned.get(key), below)
    elif (keys := _list_keys(stored)) is not None and keys == _list_keys(planned):
        # Lists with the same keys in the same order, so compared entry by entry.
        assert isinstance(stored, list) and isinstance(planned, list)
        for key, first, second in zip(keys, stored, planned, strict=True):
            yield from list_differences(first, second, f"{at}.{key}")
    elif stored != planned:
        yield f"{at}: {_shorten(stored)} → {_shorten(planned)}"


def _list_keys(value: object) -> list[str] | None:
    """Return the keys of a list of keyed entries, else None."""
    if not isinstance(value, list) or not all(isinstance(v, dict) and "key" in v for v in value):
        return None
    return [str(entry["key"]) for entry in value]


def _shorten(value: object) -> str:
    if (keys := _list_keys(value)) is not None:
        return ", ".join(keys) or "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{text[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text


def _by_key(choice: Any, make: Callable[[str], Any]) -> dict[str, Any]:
    """Key methods or metrics by name, with parameters where names repeat."""
    single = isinstance(choice, str) or hasattr(choice, "info")
    measures = [make(m) if isinstance(m, str) else m for m in ([choice] if single else choice)]
    if not measures:
        raise InputError("a run needs at least one method and one metric")
    unique = {str(measure): measure for measure in measures}
    names = [_name(measure) for measure in unique.values()]
    return {
        text if names.count(name) > 1 else name: measure
        for name, (text, measure) in zip(names, unique.items(), strict=True)
    }


def _set_polarity(measure: Any, polarity: str) -> Any:
    """Give a metric the run's polarity, unless it has one itself."""
    parameters = getattr(measure, "parameters", None)
    if polarity == RunOptions.polarity or parameters is None or "polarity" in parameters:
        return measure
    return replace(measure, parameters={**parameters, "polarity": polarity})


def _name(measure: Any) -> str:
    return str(getattr(measure, "name", None) or measure)


def _collect_parameters(measure: Any) -> dict[str, Any]:
    """Collect the parameters with defaults: another version may have others."""
    defaults = getattr(measure.info, "parameters", None) or {}
    return {**defaults, **(getattr(measure, "parameters", None) or {})}


def _to_json(value: Any) -> Any:
    """Convert a value for JSON; what JSON lacks becomes its repr."""
    return json.loads(json.dumps(value, default=lambda part: _ADDRESS.sub("", repr(part))))


def _name_device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return device.type
