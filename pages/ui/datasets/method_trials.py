"""Try which methods run on a model before a run starts."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

import streamlit as st

import cam
from cam._runs.engines.applicability import explain_refusal
from cam._runs.plan.run_call import Named
from cam.pages.ui.server import jobs, resources
from cam.pages.ui.server.resources import share
from cam.pages.ui.state.choices import ModelChoice
from cam.pages.ui.widgets.parameter_widgets import name_variant
from cam.pages.ui.widgets.prose import as_sentence

# A model and a method each, with a sentence or None.
ANSWERS_KEPT = 4096
# Any picture does: what is asked is whether the network allows the method.
SAMPLE = "chelsea"


class Trials:
    """What was found out, for all visitors."""

    def __init__(self) -> None:
        # One at a time, and beside the explanations: it takes a pass or two a method.
        self.jobs = jobs.Jobs(workers=1, capacity=8)
        self.reasons: OrderedDict[Hashable, str | None] = OrderedDict()

    def keep(self, key: Hashable, reason: str | None) -> None:
        """Remember why a method does not run; the oldest goes where there are too many."""
        self.reasons[key] = reason
        while len(self.reasons) > ANSWERS_KEPT:
            self.reasons.popitem(last=False)


@share()
def get_trials() -> Trials:
    """Return the trials of this server."""
    return Trials()


def select_working(
    choice: ModelChoice, methods: tuple[Named, ...]
) -> tuple[tuple[Named, ...], bool]:
    """Select the methods that run on a model, and say why the others do not.

    While that is tried its progress stands here, and after Cancel it is settled as it is.

    Returns:
        The methods, and whether that is settled.

    Raises:
        CamError: The model cannot be loaded.
    """
    reasons = get_trials().reasons
    keys = [(choice, str(cam.method(name, **parameters))) for name, parameters in methods]
    untried = {key: method for key, method in zip(keys, methods, strict=True) if key not in reasons}
    settled = not untried or _try_methods(untried, resources.load_model(choice))
    answers = [reasons.get(key) for key in keys]
    _report_failing(choice.name, methods, answers)
    working = (method for method, why in zip(methods, answers, strict=True) if why is None)
    return tuple(working), settled


def _try_methods(methods: dict[tuple[ModelChoice, str], Named], model: cam.Model) -> bool:
    def work(tell: jobs.Tell) -> bool:
        # The visitors' model stays free.
        twin = model.twin()
        batch = twin.prepare(cam.sample(SAMPLE))
        for number, (key, (name, parameters)) in enumerate(methods.items()):
            if not tell(number / len(methods), cam.methods()[name].title):
                raise cam.Cancelled("nobody waits for the answer any more")
            reason = explain_refusal(twin, batch, cam.method(name, **parameters))
            get_trials().keep(key, reason)
        return True

    key, what = ("fits", *methods), "Trying the methods on this model"
    return jobs.wait_for(key, what, work, get_trials().jobs) or jobs.is_cancelled(key)


def _report_failing(model: str, methods: tuple[Named, ...], reasons: Sequence[str | None]) -> None:
    """Write one sentence for each reason, with the methods that it keeps away."""
    infos = cam.methods()
    for why in dict.fromkeys(filter(None, reasons)):
        titles = [
            name_variant(infos[name].title, parameters)
            for (name, parameters), reason in zip(methods, reasons, strict=True)
            if reason == why
        ]
        do, be = ("does", "is") if len(titles) == 1 else ("do", "are")
        st.warning(
            f"**{', '.join(titles)}** {do} not run on {model} and {be} left out: {as_sentence(why)}"
        )
