"""Open the finished run that comes with the package."""

from pathlib import Path

from cam._runs.results.run import Run

# Written by tools/make_example_run.py.
FOLDER = Path(__file__).parents[1] / "example_run"


def example_run() -> Run:
    """Open a small finished run that comes with the package, to look at before making one.

    Six methods and the Gaussian in the centre explain the network ``known/patch`` on 64 generated
    images, whose exact attribution is known: two metrics compare each map with it, and two hide
    pixels as on any network. It is read-only; ``run.call`` says how it was made.

    Raises:
        MissingExtraError: The extra "evaluate" is not installed.
    """
    return Run.open(FOLDER)
