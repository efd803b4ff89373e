"""The command ``python -m cam evaluate``, with its progress and what it will cost."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import cam
from cam._cli.run_commands import print_board
from cam._cli.shared_options import as_json as print_json
from cam._cli.shared_options import called, load, model_options, options_of, told
from cam._formatting import duration, size
from cam._runs.engines.estimate import Estimate, estimate
from cam._runs.engines.run_progress import RunProgress
from cam._runs.evaluation import ENGINES
from cam._runs.plan.run_plan import BASELINES, TARGETS, make_plan

# Where the output is no terminal, a line so often.
QUIET_SECONDS = 10

_RUN = click.Path(path_type=Path)


@click.command()
@click.argument("data")
@model_options
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=("gradcam", "saliency"),
    show_default=True,
    help="A name, or 'name(steps=64)'.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    default=("deletion", "insertion"),
    show_default=True,
    help="A name, or 'name(steps=28)'.",
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=click.Choice(list(BASELINES)),
    help="Measure a map that knows of no model beside the methods: a bump in the centre.",
)
@click.option("--out", type=_RUN, required=True, help="The run's folder; run again to resume.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images.")
@click.option(
    "--data-option",
    "data_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of the data: size=256 or seed=1 of photo-grid, split=val, truth=boxes, …",
)
@click.option("--engine", type=click.Choice(list(ENGINES)), default="local", show_default=True)
@click.option(
    "--targets",
    type=click.Choice(TARGETS),
    default="data",
    show_default=True,
    help="Explain the data's class where it is known, or always what the model predicts.",
)
@click.option("--layer", "layers", multiple=True, help="Dotted name; several are averaged.")
@click.option("--precision", help="fp32, tf32, fp16, bf16 or auto; by default as torch is set.")
@click.option("--shard-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--heatmaps", type=click.IntRange(min=0), default=56, show_default=True)
@click.option("--dry-run", is_flag=True, help="Do the first shard, keep nothing, tell the cost.")
@click.option("--json", "as_json", is_flag=True, help="Print the leaderboard as JSON.")
def evaluate(
    data: str,
    name: str,
    weights: str,
    labels: str | None,
    device: str,
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
    out: Path,
    limit: int | None,
    data_options: tuple[str, ...],
    as_json: bool,
    dry_run: bool,
    layers: tuple[str, ...],
    **options: Any,
) -> None:
    """Compare methods over DATA and write a run, or go on with one.

    DATA is `photo-grid` (mosaics of the sample photos) or the path of a folder of pictures, a CSV
    of paths and labels, COCO's instances as JSON, or the root of Pascal VOC or Oxford-IIIT Pet. A
    picture that cannot be read is named, and the others are done.
    """
    bar = _Bar()
    with told():
        chosen = [called(one, cam.method) for one in methods]
        measured = [called(one, cam.metric) for one in metrics]
        items = cam.dataset(data, **options_of(data_options))
        for what, why in items.refused:
            click.echo(f"Note: {what}: {why}", err=True)
        model = load(name, weights, labels, device)
        if dry_run:
            options.pop("engine")
            part = items.limit(limit) if limit is not None else items
            plan = make_plan(model, part, chosen, measured, layers=layers or None, **options)
            _print_estimate(estimate(plan), as_json)
            return
        try:
            run = cam.evaluate(
                model,
                items,
                chosen,
                measured,
                out,
                limit=limit,
                layers=layers or None,
                progress=bar,
                **options,
            )
        except KeyboardInterrupt:
            bar.close()
            raise click.ClickException(_stopped(out)) from None
        finally:
            bar.close()
        board = run.leaderboard()
        problems = run.problems()
    for row in problems.itertuples():
        if row.status != "nan":
            what = "skipped" if row.status == "skipped" else f"{row.metric} of {row.method} failed"
            more = f" and {row.images - 1} more" if row.images > 1 else ""
            click.echo(f"Note: {row.example}{more}: {what}: {row.reason}", err=True)
    print_board(run, board, as_json)
    if not board["n"].sum():
        raise click.ClickException("nothing could be measured; see the notes above")


def _stopped(out: Path) -> str:
    """What is stored, which may be a shard more than the bar was told of."""
    try:
        run = cam.Run.open(out)
    except cam.RunError:
        return "stopped before the run had begun"
    return f"stopped after {run.done} of {run.total} images; run the same command again to go on"


def _print_estimate(found: Estimate, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found))
        return
    total = found.images
    for what, each in (("forwards", found.forwards), ("backwards", found.backwards)):
        click.echo(f"{what}: {each:,.1f} inputs an image, {each * total:,.0f} for {total:,} images")
    click.echo(f"stored: {size(found.stored)} an image, {size(found.stored * total)} for all")
    click.echo(
        f"time: {found.seconds:.3g} s an image in one process like this one, "
        f"{duration(found.seconds * total)} for all"
    )
    for share in found.shares:
        what = share.method if share.metric is None else f"{share.metric} of {share.method}"
        click.echo(f"  {what}: {share.seconds:.3g} s an image")


class _Bar:
    """Progress on standard error: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._open = False

    def __call__(self, progress: RunProgress) -> None:
        left = progress.seconds_left
        text = f"{progress.done}/{progress.total} images"
        if left is not None:
            text += f", {progress.images_per_second:.3g} images/s, {duration(left)} left"
        if progress.skipped:
            text += f", {progress.skipped} skipped"
        if progress.failed:
            text += f", {progress.failed} values failed"
        if sys.stderr.isatty():
            part = round(20 * progress.done / max(progress.total, 1))
            click.echo(f"\r[{'#' * part}{'.' * (20 - part)}] {text}\033[K", err=True, nl=False)
            self._open = True
        elif time.monotonic() - self._told > QUIET_SECONDS:
            click.echo(text, err=True)
            self._told = time.monotonic()

    def close(self) -> None:
        """End the line."""
        if self._open:
            click.echo(err=True)
            self._open = False
