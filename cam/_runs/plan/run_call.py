"""Describe a run's call, from which the same run starts again."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cam._acceleration.acceleration import accelerate
from cam._data.dataset import DataOrigin, Dataset
from cam._data.source import dataset
from cam._engine.fast_ops.replacement import TORCH
from cam._methods.base.method_registry import Method
from cam._metrics.base.metric_registry import Metric
from cam._models.device import choose_device
from cam._models.families.bundled import BUNDLED
from cam._models.load import load_model
from cam._models.model import Model, ModelOrigin
from cam._runs.plan.options import DEFAULTS, RunOptions
from cam._runs.plan.run_plan import Plan, make_plan
from cam.errors import RunError

Named = tuple[str, Mapping[str, Any]]
"""A method's or metric's name and the parameters that were given."""

_SINGULAR = {"baselines": "baseline", "layers": "layer"}


@dataclass(frozen=True)
class Call:
    """The arguments of :func:`cam.evaluate`, all of which can be written down.

    Attributes:
        model: Of :func:`cam.load_model`.
        data: Of :func:`cam.dataset`, with the limit.
        methods: Names and parameters.
        metrics: Names and parameters.
        options: The others, with layers by name.
        inference: What computes passes without gradients, as :func:`cam.accelerate` takes it.
    """

    model: ModelOrigin
    data: DataOrigin
    methods: tuple[Named, ...]
    metrics: tuple[Named, ...]
    options: RunOptions = DEFAULTS
    inference: str = TORCH

    @classmethod
    def of_plan(cls, plan: Plan) -> "Call | None":
        """Describe a plan's call; None if part of it is in memory."""
        model, data = plan.model.origin, plan.data.origin
        methods, metrics = list(plan.methods.values()), list(plan.metrics.values())
        if model is None or data is None or not all(isinstance(m, Metric) for m in metrics):
            return None
        call = cls(
            model,
            data,
            tuple((method.name, dict(method.parameters)) for method in methods),
            tuple((metric.name, dict(metric.parameters)) for metric in metrics),  # type: ignore[attr-defined]
            plan.portable_options,
            str(plan.config["inference"]).partition(" ")[0],
        )
        try:
            json.dumps(call.facts())
        except (TypeError, ValueError):
            # A parameter that is a tensor or a function.
            return None
        return call

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "Call":
        """Read the call from what ``run.json`` holds.

        Raises:
            RunError: Nothing is written there, or something else.
        """
        try:
            model = dict(facts["model"])
            for names in ("labels", "prompts"):
                if isinstance(model[names], list):
                    model[names] = tuple(model[names])
            methods, metrics = (
                tuple((str(name), dict(parameters)) for name, parameters in facts[kind])
                for kind in ("methods", "metrics")
            )
            options = RunOptions.of_facts(facts["options"])
            data = DataOrigin(**facts["data"])
            inference = str(facts.get("inference", TORCH))
            return cls(ModelOrigin(**model), data, methods, metrics, options, inference)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RunError(
                "the run does not say how it was started, as its model or its data were in memory; "
                "call cam.evaluate with them again, and it goes on"
            ) from None

    def facts(self) -> dict[str, Any]:
        """Convert the call for JSON."""
        return asdict(self)

    def load_model(self) -> Model:
        """Load the model, on a GPU where there is one."""
        origin = self.model
        model = load_model(
            origin.name,
            origin.weights,
            choose_device(),
            labels=origin.labels,
            prompts=origin.prompts,
        )
        if self.inference != TORCH:
            accelerate(model, self.inference)
        return model

    def open_data(self) -> Dataset:
        """Open the data; the limit is :func:`cam.evaluate`'s."""
        return dataset(self.data.source, **self.data.options)

    def arguments(self) -> dict[str, Any]:
        """Name what :func:`cam.evaluate` takes beside model, data and folder."""
        return {
            "methods": [Method(*named) for named in self.methods],
            "metrics": [Metric(*named) for named in self.metrics],
            "limit": self.data.limit,
            **self.options.keywords(),
        }

    def plan(self, model: Model, data: Dataset) -> Plan:
        """Plan the run with an open model, and data without the limit.

        Raises:
            CamError: They do not fit.
        """
        keywords = self.arguments()
        part = data if self.data.limit is None else data.limit(self.data.limit)
        return make_plan(model, part, keywords["methods"], keywords["metrics"], self.options)

    def command(self, out: str) -> str:
        """Write the command line that starts or resumes the run.

        Raises:
            RunError: Its labels are a list in memory.
        """
        words = ["python", "-m", "cam", "evaluate", self.data.source]
        if isinstance(self.model.labels, tuple):
            raise RunError("the command line takes a file of labels, and these are a list")
        for option, value, usual in (
            ("model", self.model.name, BUNDLED),
            ("weights", self.model.weights or "none", "DEFAULT"),
            ("labels", self.model.labels, None),
            ("inference", self.inference, TORCH),
        ):
            words += [] if value == usual else [f"--{option}", str(value)]
        words += [word for prompt in self.model.prompts or () for word in ("--prompt", prompt)]
        for name, value in self.data.options.items():
            words += ["--data-option", f"{name}={value}"]
        for option, several in (("--method", self.methods), ("--metric", self.metrics)):
            words += [word for named in several for word in (option, _write(named))]
        limit = {} if self.data.limit is None else {"limit": self.data.limit}
        for name, value in {**limit, **self.options.changes()}.items():
            option = f"--{_SINGULAR.get(name, name).replace('_', '-')}"
            several = value if isinstance(value, tuple) else (value,)
            words += [word for part in several for word in (option, str(part))]
        return shlex.join([*words, "--out", out])

    def python(self, out: str, seed: int | None = None) -> str:
        """Write the library call, ready to run.

        Args:
            out: The run's folder.
            seed: Set before random weights are drawn.
        """
        weights = "" if self.model.weights == "DEFAULT" else f", weights={self.model.weights!r}"
        labels = "" if self.model.labels is None else f", labels={self.model.labels!r}"
        labels += f", prompts={list(self.model.prompts)!r}" if self.model.prompts else ""
        draws = seed is not None and self.model.weights is None
        options = "".join(f", {name}={value!r}" for name, value in self.data.options.items())
        lines = [
            "import cam",
            *(["import torch", "", f"torch.manual_seed({seed})"] if draws else [""]),
            f"model = cam.load_model({self.model.name!r}{weights}{labels})",
            *([] if self.inference == TORCH else [f"cam.accelerate(model, {self.inference!r})"]),
            f"data = cam.dataset({self.data.source!r}{options})",
            "run = cam.evaluate(",
            "    model,",
            "    data,",
            *_write_list("methods", [_write(named, "cam.method") for named in self.methods]),
            *_write_list("metrics", [_write(named, "cam.metric") for named in self.metrics]),
            f"    out={out!r},",
            *([] if self.data.limit is None else [f"    limit={self.data.limit},"]),
            *(f"    {name}={value!r}," for name, value in self.options.changes().items()),
            ")",
            "print(run.leaderboard())",
        ]
        return "\n".join(lines) + "\n"


def _write(named: Named, make: str | None = None) -> str:
    """Write a method for the command line or, with its maker, as Python."""
    name, parameters = named
    listed = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    if make is None:
        return f"{name}({listed})" if listed else name
    return f"{make}({name!r}, {listed})" if listed else repr(name)


def _write_list(argument: str, parts: list[str]) -> list[str]:
    """Write a list as an argument, on one line where it fits."""
    line = f"    {argument}=[{', '.join(parts)}],"
    if len(line) <= 88:
        return [line]
    return [f"    {argument}=[", *(f"        {part}," for part in parts), "    ],"]
