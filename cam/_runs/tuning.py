"""Search methods' parameters on half of the data, report on the other."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from cam._data.dataset import Dataset, Part
from cam._data.source import dataset
from cam._extras import require
from cam._methods.base.method_registry import Method
from cam._methods.base.method_registry import method as named
from cam._metrics.base.metric_registry import Metric
from cam._metrics.base.metric_registry import metric as named_metric
from cam._models.model import Model
from cam._runs.evaluation import evaluate
from cam._runs.results.run import Run
from cam._runs.statistics.group_means import number_groups
from cam._runs.statistics.paired_differences import describe_differences, judge
from cam.errors import CamError, Cancelled, InputError
from cam.parameters import SEED, Rule, integer

if TYPE_CHECKING:
    import pandas

Tell = Callable[[str], object]
"""Called with what is being done; an answer of False cancels."""

# Groups of the first round; each later round doubles them and keeps the better half.
FIRST = 4
# Of a network's layers: the last of each resolution, and no more of them.
MOST_LAYERS = 4
# Parameters that set no trade-off: a seed has no better value.
_UNTUNED = (SEED,)


@dataclass(eq=False)
class Candidate:
    """A method at its layers, with what it scored so far.

    Attributes:
        method: With its parameters.
        layers: Dotted names; None: the model's preset.
        values: First item of a group → mean score of the group.
        images: How many it was tried on.
        passes: Inputs that these sent through the network.
    """

    method: Method
    layers: tuple[str, ...] | None
    values: dict[int, float] = field(default_factory=dict)
    images: int = 0
    passes: int = 0

    @property
    def mean(self) -> float:
        """The mean over groups; NaN where there is no value."""
        sound = [value for value in self.values.values() if not np.isnan(value)]
        return float(np.mean(sound)) if sound else np.nan

    def __str__(self) -> str:
        return str(self.method) + (f" at {', '.join(self.layers)}" if self.layers else "")


@dataclass(frozen=True, eq=False)
class Tuning:
    """What a search found, and what it is worth on data that it has not used.

    Attributes:
        method: The best method, with its parameters.
        layers: At which layers; None: the model's preset.
        table: A row a candidate, the best first: ``method``, ``layers``, ``groups`` it was tried
            on, ``passes`` for an image, and ``mean``.
        report: On the other half, a row for each method as it was given: ``method``, ``before``
            and ``after`` (its mean and that of the best candidate), and the columns of
            :func:`cam._runs.statistics.paired_differences.judge`.
        passes: Inputs that the search sent through the network.
    """

    method: Method
    layers: tuple[str, ...] | None
    table: "pandas.DataFrame"
    report: "pandas.DataFrame"
    passes: int

    def __str__(self) -> str:
        at = f" at {', '.join(self.layers)}" if self.layers else ""
        lines = [f"Use {self.method}{at} ({self.passes:,} passes of the search)."]
        for row in self.report.to_dict("records"):
            test = f", p = {row['holm']:.2g}" if row["holm"] == row["holm"] else ""
            lines.append(
                f"On the other half of the data: {row['after']:.4g} instead of {row['before']:.4g} "
                f"of {row['method']} ({row['verdict']}{test}, {row['groups']} groups)."
            )
        return "\n".join(lines)


def tune(
    model: Model | nn.Module,
    data: object,
    methods: Sequence[str | Method] | str | Method = ("gradcam", "layercam", "gradcam_plus_plus"),
    metric: str | Metric = "insertion",
    budget: int = 20_000,
    *,
    seed: int = 0,
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Tuning:
    """Search methods, parameters and layers on half of the data, and report on the other half.

    Each method is tried as it is given, with each parameter halved, doubled or set to its other
    choices, and at the last layer of each resolution of the network. All are measured on four
    groups, then the better half on eight, and so on, until one is left, the half of the data is
    used up or the budget is spent (successive halving: Jamieson and Talwalkar, Non-stochastic Best
    Arm Identification and Hyperparameter Optimization, AISTATS 2016). The scores of the search
    favour its winner, so only the other half says what it is worth.

    Args:
        model: A :class:`cam.Model` or any classifier.
        data: A :func:`cam.dataset`, or what that takes.
        methods: Names, or :func:`cam.method` with parameters that stay as they are.
        metric: What is improved: a name, or :func:`cam.metric` with parameters.
        budget: The most inputs that the search sends through the network. It ends after the first
            batch that exceeds it; the report on the other half comes on top.
        seed: Of the halves.
        batch_size: As of :func:`cam.evaluate`.
        tell: Called with what is being done; an answer of False cancels.

    Raises:
        InputError: The data have fewer than 4 groups, or the budget is no number above 0.
        Cancelled: ``tell`` answered False.
        CamError: As of :func:`cam.evaluate`.
    """
    require("evaluate", "cam.tune")
    if not integer(1).holds(budget):
        raise InputError(f"budget must be a whole number of at least 1, but is {budget!r}")
    model = model if isinstance(model, Model) else Model(model)
    measure = named_metric(metric) if isinstance(metric, str) else metric
    several = [methods] if isinstance(methods, str | Method) else list(methods)
    starts = [named(each) if isinstance(each, str) else each for each in several]
    items = dataset(data)
    search, other = _halve(items, seed)
    candidates = [each for start in starts for each in _vary(start, model)]
    trial = _Trial(model, items, measure, batch_size, budget, tell)
    best = _halve_candidates(trial, candidates, search, measure.info.direction)
    passes, trial.budget = trial.passes, None
    plain = [Candidate(start, None) for start in starts]
    final = Candidate(best.method, best.layers)
    for candidate in (final, *plain):
        trial.measure(candidate, other, f"reporting on {candidate}")
    return Tuning(
        best.method,
        best.layers,
        _list_candidates(candidates, measure.info.direction),
        _compare(final, plain, measure.info.direction),
        passes,
    )


def _halve(items: Dataset, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Divide the groups by chance into two halves, each a list of groups' item numbers."""
    import pandas

    def read_group(number: int) -> str | None:
        try:
            return items[number].group
        except CamError:  # a picture that cannot be read belongs to neither half
            return None

    codes = number_groups(pandas.Series([read_group(number) for number in range(len(items))]))
    members = [np.flatnonzero(codes == code).tolist() for code in range(codes.max() + 1)]
    if len(members) < 4:
        raise InputError(
            f"tuning needs at least 4 independent groups of images, two for the search and two "
            f"for the report, and these data have {len(members)}"
        )
    order = np.random.default_rng(seed).permutation(len(members))
    half = len(members) // 2
    return [members[at] for at in order[:half]], [members[at] for at in order[half:]]


def _vary(start: Method, model: Model) -> Iterator[Candidate]:
    """Yield a method as it is, with each parameter changed, and at other layers."""
    yield Candidate(start, None)
    for name, default in start.info.parameters.items():
        if name in start.parameters:
            continue
        for value in _alternatives(default, start.info.rules[name]):
            yield Candidate(named(start.name, **start.parameters, **{name: value}), None)
    if start.info.layer:
        for layer in _last_of_each_resolution(model):
            yield Candidate(start, (layer,))


def _alternatives(default: Any, rule: Rule) -> list[Any]:
    """List other values of a parameter that its rule allows."""
    values: list[Any] = []
    if rule in _UNTUNED:
        return values
    if rule.choices:
        values = list(rule.choices)
    elif isinstance(default, bool):
        values = [not default]
    elif isinstance(default, int):
        values = [default // 2, default * 2]
    elif isinstance(default, float):
        values = [default / 2, default * 2]
    return [value for value in values if value != default and rule.holds(value)]


def _last_of_each_resolution(model: Model) -> list[str]:
    """Name the last layer of each of the finest resolutions, the deepest first."""
    last: dict[tuple[int, ...], str] = {}
    for layer in model.feature_layers:
        last[tuple(layer.shape[1:])] = layer.name
    preset = model.layers
    names = [name for name in reversed(last.values()) if (name,) != tuple(preset)]
    return names[:MOST_LAYERS]


class _Trial:
    """Measures candidates on groups, and counts what goes through the network."""

    def __init__(
        self,
        model: Model,
        items: Dataset,
        metric: Metric,
        batch_size: int,
        budget: int | None,
        tell: Tell | None,
    ) -> None:
        self._model, self._items, self._metric = model, items, metric
        self._batch_size, self._tell = batch_size, tell
        self.budget = budget
        self.passes = 0

    @property
    def spent(self) -> bool:
        """Whether the budget is used up."""
        return self.budget is not None and self.passes >= self.budget

    def measure(self, candidate: Candidate, groups: Sequence[list[int]], note: str) -> None:
        """Measure a candidate on groups that it has no value of."""
        missing = {group[0]: group for group in groups if group[0] not in candidate.values}
        if not missing:
            return
        if self._tell is not None and self._tell(note) is False:
            raise Cancelled(f"tuning was cancelled while {note}")
        numbers = [number for group in missing.values() for number in group]
        before = self.passes
        owners = [first for first, group in missing.items() for _ in group]
        with tempfile.TemporaryDirectory() as folder, self._count():
            run: Run = evaluate(
                self._model,
                Part(self._items, numbers),
                candidate.method,
                self._metric,
                Path(folder) / "run",
                layers=candidate.layers if candidate.method.info.layer else None,
                batch_size=self._batch_size,
                heatmaps=0,
            )
            values = run.values(run.metrics[0])[run.methods[0]].to_numpy()
        candidate.images += len(numbers)
        candidate.passes += self.passes - before
        for first in missing:
            of_group = values[np.array(owners) == first]
            sound = of_group[~np.isnan(of_group)]
            candidate.values[first] = float(sound.mean()) if len(sound) else np.nan

    @contextmanager
    def _count(self) -> Iterator[None]:
        def count(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.passes += len(inputs[0])

        with self._model.module.register_forward_pre_hook(count):
            yield


def _halve_candidates(
    trial: _Trial, candidates: Sequence[Candidate], search: Sequence[list[int]], direction: int
) -> Candidate:
    """Measure on more and more groups, and keep the better half each time."""
    alive, count = list(candidates), FIRST
    while True:
        part = search[:count]
        for candidate in alive:
            trial.measure(candidate, part, f"trying {candidate}")
            if trial.spent:
                return _best(candidates, direction)
        alive = _order(alive, direction)[: -(-len(alive) // 2)]
        if len(alive) == 1 or count >= len(search):
            return _best(alive, direction)
        count *= 2


def _order(candidates: Sequence[Candidate], direction: int) -> list[Candidate]:
    """Sort by the mean, the best first; those without a value last."""
    return sorted(candidates, key=lambda each: -np.nan_to_num(each.mean * direction, nan=-np.inf))


def _best(candidates: Sequence[Candidate], direction: int) -> Candidate:
    """Choose the best of those that were measured on most groups."""
    most = max(len(candidate.values) for candidate in candidates)
    return _order([each for each in candidates if len(each.values) == most], direction)[0]


def _list_candidates(candidates: Sequence[Candidate], direction: int) -> "pandas.DataFrame":
    import pandas

    tried = [candidate for candidate in candidates if candidate.values]
    ordered = sorted(_order(tried, direction), key=lambda each: -len(each.values))
    rows = [
        (
            str(each.method),
            ", ".join(each.layers or ()),
            len(each.values),
            each.passes / each.images,
            each.mean,
        )
        for each in ordered
    ]
    return pandas.DataFrame(rows, columns=["method", "layers", "groups", "passes", "mean"])


def _compare(final: Candidate, plain: Sequence[Candidate], direction: int) -> "pandas.DataFrame":
    """Compare the best candidate with each method as it was given, group by group."""
    rows = []
    for start in plain:
        differences = np.array([final.values[at] - start.values[at] for at in final.values])
        codes = np.arange(len(differences))
        facts = describe_differences(differences, codes, direction, "wins", "losses")
        rows.append({"method": str(start), "before": start.mean, "after": final.mean, **facts})
    return judge(rows, ["method", "before", "after"], "wins", "losses")
