"""Compute the maps that Explore shows, and say how they were made."""

from dataclasses import replace

import streamlit as st
from torch import Tensor

import cam
from cam._methods.trust import find_trust
from cam.pages.ui.explore import background_maps
from cam.pages.ui.server import resources
from cam.pages.ui.state.choices import Choices, MethodChoice
from cam.pages.ui.subject.subject_form import LookedAt
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.growing_maps import GrowingMap
from cam.pages.ui.widgets.prose import as_sentence, write_facts, write_small
from cam.targets import Segment
from cam.types import Attribution

Maps = dict[MethodChoice, Attribution]


def explain(choices: Choices, subject: LookedAt) -> tuple[Maps, list[GrowingMap]]:
    """Return the maps that are there and those at work; draw how far, or why there is none."""
    quick = tuple(method for method in choices.methods if not method.own_passes)
    slow = [method for method in choices.methods if method.own_passes]
    together = replace(choices, methods=quick)
    results = resources.explain_each(together, subject.top, subject.picture) if quick else {}
    maps = {method: result for method, result in results.items() if isinstance(result, Attribution)}
    failing: dict[str, list[str]] = {}
    for method, result in results.items():
        if isinstance(result, cam.CamError):
            failing.setdefault(as_sentence(result), []).append(method.info.title)
    for sentence, titles in failing.items():
        st.error(f"{', '.join(titles)}: {sentence}")
    done, growing = background_maps.explain_slowly(choices, subject, slow)
    maps |= done
    return {method: maps[method] for method in choices.methods if method in maps}, growing


def show_facts(maps: Maps) -> None:
    """Show how the maps were made, and what each method is to be trusted for."""
    first = next(iter(maps.values()))
    kind = _name_score(first)
    lines = [f"Score explained: {float(first.scores[0]):.3f} ({kind})"]
    # All of them look at the same layers.
    at_layers = next((attribution for attribution in maps.values() if attribution.layers), None)
    if at_layers is not None:
        height, width = at_layers.raw.shape[1:]
        layers = ", ".join(f"`{layer}`" for layer in at_layers.layers)
        lines.append(f"Layer {layers}: a {height} × {width} feature grid")
    write_facts(*lines)
    for method in maps:
        info = method.info
        trust = find_trust(info.name)
        st.markdown(f"**{info.title}**: {controls.describe_method(info)}")
        if trust:
            write_small(trust.sentence)


def describe_cost(attribution: Attribution) -> str:
    """Describe what a map took."""
    cost = attribution.cost
    passes = ((cost.forwards, "forward"), (cost.backwards, "backward"))
    parts = [f"{count:,} {name}{'s' * (count != 1)}" for count, name in passes if count]
    return f"{' and '.join(parts)}, {cost.seconds:.2f} s"


def _name_score(attribution: Attribution) -> str:
    """Name what the score that is explained is."""
    if isinstance(attribution.targets, Tensor):
        return "raw logit"
    target = attribution.targets[0]
    if isinstance(target, Segment):
        pixels = 0 if target.mask is None else int(target.mask.sum())
        return f"sum of the class's raw scores over {pixels:,} pixels"
    contrast = isinstance(target, cam.targets.Contrast)
    return "difference of two raw logits" if contrast else "score of the detector"
