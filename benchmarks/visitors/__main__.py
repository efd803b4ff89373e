"""Load a running dashboard with visitors, and check each answer.

``python -m benchmarks.visitors http://localhost:8501 --visitors 20 --seconds 120``. Most look at
bundled photos; every fourth uploads a photo that nobody else has, so that what one visitor gave
would be wrong for all others. ``--run`` starts a run over the photo grid first, which goes on
meanwhile.
"""

import statistics
import sys
import threading
import time
from pathlib import Path

import click
import numpy as np

from benchmarks.visitors.run import start_run
from benchmarks.visitors.visitor import Answers, Truth, Visitor
from cam._performance.timing import read_load

# Each fourth visitor uploads a photo.
UPLOADS_EVERY = 4
MEASURED_EVERY_SECONDS = 10


@click.command()
@click.argument("address", default="http://localhost:8501")
@click.option("--visitors", default=20, show_default=True, help="How many at once.")
@click.option("--seconds", default=120, show_default=True, help="How long they stay.")
@click.option("--run", is_flag=True, help="One of them runs a data set meanwhile.")
@click.option("--pid", type=int, help="Of the server's process, whose memory is read.")
def main(address: str, visitors: int, seconds: int, run: bool, pid: int | None) -> None:
    """Load the dashboard at an address, and print what came of it."""
    truth, answers, stop = Truth(), Answers(), threading.Event()
    memory: list[tuple[float, float]] = []
    if run:
        start_run(address)
    begun = time.monotonic()
    threads = [
        threading.Thread(
            target=Visitor(address, truth, answers, number, number % UPLOADS_EVERY == 0).stay,
            args=(begun + seconds, stop),
        )
        for number in range(visitors)
    ]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            if pid is not None:
                memory.append((time.monotonic() - begun, read_megabytes(pid)))
            time.sleep(MEASURED_EVERY_SECONDS)
    finally:
        stop.set()
    report(answers, memory)
    sys.exit(bool(answers.wrong))


def read_megabytes(pid: int) -> float:
    """Read how much memory of a process lies in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def report(answers: Answers, memory: list[tuple[float, float]]) -> None:
    """Print what the visitors saw and how long they waited."""
    for name, seconds in (
        ("first page", answers.first),
        ("upload", answers.uploads),
        ("click", answers.seconds),
    ):
        if seconds:
            middle, slow = statistics.median(seconds), float(np.quantile(seconds, 0.95))
            click.echo(f"{name}: {len(seconds)}, median {middle:.2f} s, 95 % within {slow:.2f} s")
    click.echo(f"images looked at: {answers.images.total()}, wrong: {len(answers.wrong)}")
    for sentence in answers.wrong[:20]:
        click.echo(f"  {sentence}")
    for moment, megabytes in memory:
        click.echo(f"memory after {moment:.0f} s: {megabytes:.0f} MB")
    click.echo(f"load of this machine: {read_load():.1f}")


main()
