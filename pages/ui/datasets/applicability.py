"""Check which methods run on a model before a run starts."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

import streamlit as st

import cam
from cam._runs.engines.applicability import why_not
from cam._runs.plan.run_call import Named
from cam.pages.ui.server import jobs, resources
from cam.pages.ui.server.resources import Weights
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.parameter_widgets import told

# A model and a method each, with a sentence or None.
ANSWERS_KEPT = 4096
# Any picture does: what is asked is whether the network allows the method.
SAMPLE = "chelsea"


class Answers:
    """What was found out, for all visitors."""

    def __init__(self) -> None:
        # One at a time, and beside the explanations: it takes a pass or two a method.
        self.jobs = jobs.Jobs(workers=1, kept=8)
        self.known: OrderedDict[Hashable, str | None] = OrderedDict()

    def keep(self, key: Hashable, answer: str | None) -> None:
        """Remember it; the oldest goes where there are too many."""
        self.known[key] = answer
        while len(self.known) > ANSWERS_KEPT:
            self.known.popitem(last=False)


@st.cache_resource(show_spinner=False)
def answers() -> Answers:
    """The server's."""
    return Answers()


def fitting(
    name: str, trained: Weights, methods: tuple[Named, ...]
) -> tuple[tuple[Named, ...], bool]:
    """Those methods that run on a model, and whether that is settled; of the others it says why.

    While it is found out its progress stands here, and after Cancel it is settled as it is.

    Raises:
        CamError: The model cannot be loaded.
    """
    known = answers().known
    keys = [(name, trained, str(cam.method(one, **given))) for one, given in methods]
    unknown = tuple(key for key in keys if key not in known)
    settled = True
    if unknown:
        model = resources.model(name, trained)
        chosen = [one for one, key in zip(methods, keys, strict=True) if key in unknown]
        settled = _find_out(unknown, chosen, model)
    reasons = [known.get(key) for key in keys]
    _tell(name, methods, reasons)
    fit = tuple(one for one, reason in zip(methods, reasons, strict=True) if reason is None)
    return fit, settled


def _find_out(keys: Sequence[Hashable], methods: Sequence[Named], model: cam.Model) -> bool:
    def work(tell: jobs.Tell) -> bool:
        # The visitors' model stays free.
        twin = model.twin()
        batch = twin.prepare(cam.sample(SAMPLE))
        for place, (key, (one, given)) in enumerate(zip(keys, methods, strict=True)):
            if not tell(place / len(keys), cam.methods()[one].title):
                raise cam.Cancelled("nobody waits for the answer any more")
            answers().keep(key, why_not(twin, batch, cam.method(one, **given)))
        return True

    wanted = ("fits", *keys)
    what = "Trying the methods on this model"
    return jobs.result(wanted, what, work, answers().jobs) or jobs.refused(wanted)


def _tell(name: str, methods: tuple[Named, ...], reasons: list[str | None]) -> None:
    """One sentence for each reason, with the methods that it keeps away."""
    known = cam.methods()
    for why in dict.fromkeys(filter(None, reasons)):
        titles = [
            told(known[one].title, tuple(given.items()))
            for (one, given), reason in zip(methods, reasons, strict=True)
            if reason == why
        ]
        do = "does" if len(titles) == 1 else "do"
        st.warning(
            f"**{', '.join(titles)}** {do} not run on {name} and "
            f"{'is' if len(titles) == 1 else 'are'} left out: {controls.sentence(why)}"
        )
