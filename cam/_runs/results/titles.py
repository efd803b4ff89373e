"""Title the methods and metrics of a run as people read them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cam._methods.base.method_registry import methods as all_methods
from cam._metrics.base.metric_registry import metrics as all_metrics
from cam._runs.plan.options import BASELINES

_ROLE = re.compile(r":\w+:`~?([\w.]*\.)?(\w+)`")


def title_method(key: str) -> str:
    """Title a method with its parameters, or a baseline."""
    if key in BASELINES:
        return f"{key.capitalize()} (baseline)"
    return _title(key, all_methods()) or key


def title_metric(key: str) -> str:
    """Title a metric with its parameters."""
    return _title(key, all_metrics()) or key


def describe_metric(key: str) -> str:
    """Describe what a metric measures, in a sentence; empty for one that is not registered."""
    info = all_metrics().get(key.partition("(")[0])
    return "" if info is None else _ROLE.sub(lambda role: title_metric(role[2]), info.description)


def word_sentences(
    sentences: Iterable[str], methods: Iterable[str], metrics: Iterable[str]
) -> list[str]:
    """Put titles into sentences about a run, in place of its keys."""
    # The name of a family stays, also where a metric has the same: sentences list families.
    families = {info.family for info in all_metrics().values()}
    titles = {key: title_metric(key) for key in metrics if key not in families} | {
        key: title_method(key) for key in methods
    }
    # The longest first: "gradcam" is the beginning of another key.
    keys = "|".join(re.escape(key) for key in sorted(titles, key=len, reverse=True))
    whole = re.compile(rf"(?<![\w.])(?:{keys})(?![\w(])")
    return [whole.sub(lambda key: titles[key[0]], sentence) for sentence in sentences]


def _title(key: str, infos: Mapping[str, Any]) -> str | None:
    name, bracket, rest = key.partition("(")
    info = infos.get(name)
    return None if info is None else f"{info.title}{f' ({rest}' if bracket else ''}"
