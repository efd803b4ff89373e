"""Compare methods over a data set: ``python -m cam evaluate``."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import cam
from cam._cli import shared_options as shared
from cam._cli.run_commands import print_board
from cam._formatting import duration, size
from cam._models.model import Model
from cam._runs.engines.estimate import Estimate, estimate
from cam._runs.engines.run_progress import RunProgress
from cam._runs.evaluation import ENGINES
from cam._runs.plan.options import BASELINES, TARGETS, RunOptions
from cam._runs.plan.run_plan import make_plan
from cam.polarity import POLARITIES

# Where the output is no terminal, a line is printed this often.
QUIET_SECONDS = 2

_RUN = click.Path(path_type=Path)


@click.command(cls=shared.LibraryCommand)
@click.argument("data")
@shared.model_options
@shared.several("method", ("gradcam", "saliency"), help="A name, or 'name(steps=64)'.")
@shared.several("metric", ("deletion", "insertion"), help="A name, or 'name(steps=28)'.")
@shared.several(
    "baseline",
    type=click.Choice(list(BASELINES)),
    help="Measure a map that knows of no model beside the methods: a Gaussian in the centre.",
)
@click.option("--out", type=_RUN, required=True, help="The run's folder; run again to resume.")
@click.option("--limit", type=click.IntRange(min=1), help="The largest number of images.")
@shared.several(
    "data-option",
    metavar="KEY=VALUE",
    help="Of the data: size=256 of photo-grid, network=patch of known, groups=patient, …",
)
@click.option("--engine", type=click.Choice(list(ENGINES)), default="local")
@click.option(
    "--targets",
    type=click.Choice(TARGETS),
    default=RunOptions.targets,
    help="Explain the data's class where it is known, or always what the model predicts.",
)
@shared.layer_option
@click.option("--precision", help="fp32, tf32, fp16, bf16 or auto; by default as torch is set.")
@click.option("--shard-size", type=click.IntRange(min=1), default=RunOptions.shard_size)
@click.option("--batch-size", type=click.IntRange(min=1), default=RunOptions.batch_size)
@click.option("--heatmaps", type=click.IntRange(min=0), default=RunOptions.heatmaps)
@click.option(
    "--polarity",
    type=click.Choice(list(POLARITIES)),
    default=RunOptions.polarity,
    help="How metrics read signed maps: by sign, positive parts only, or absolute values.",
)
@click.option("--dry-run", is_flag=True, help="Do the first shard, keep nothing, print the cost.")
@click.option("--json", "as_json", is_flag=True, help="Print the leaderboard as JSON.")
def evaluate(
    data: str,
    load: Callable[[], Model],
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

    DATA is `photo-grid` (mosaics of the sample photos), `known` (generated pictures for a model
    known/…, whose exact attribution is known) or the path of a folder of pictures, a CSV of paths
    and labels, COCO's instances as JSON, or the root of Pascal VOC or Oxford-IIIT Pet. A
    picture that cannot be read is named, and the others are done.
    """
    configured = [shared.parse_call(text, cam.method) for text in methods]
    measures = [shared.parse_call(text, cam.metric) for text in metrics]
    items = cam.dataset(data, **shared.parse_options(data_options))
    for what, why in items.refused:
        click.echo(f"Note: {what}: {why}", err=True)
    model = load()
    options["layers"] = layers or None
    if dry_run:
        options.pop("engine")
        part = items.limit(limit) if limit is not None else items
        plan = make_plan(model, part, configured, measures, RunOptions(**options))
        _print_estimate(estimate(plan), as_json)
        return
    bar = _Bar()
    options |= {"limit": limit, "progress": bar}
    try:
        run = cam.evaluate(model, items, configured, measures, out, **options)
    except KeyboardInterrupt:
        bar.close()
        raise click.ClickException(_describe_stop(out)) from None
    finally:
        bar.close()
    for row in run.problems().itertuples():
        if row.status != "nan":
            what = "skipped" if row.status == "skipped" else f"{row.metric} of {row.method} failed"
            more = f" and {row.images - 1} more" if row.images > 1 else ""
            click.echo(f"Note: {row.example}{more}: {what}: {row.reason}", err=True)
    board = run.leaderboard()
    print_board(run, board, as_json)
    if not board["n"].sum():
        raise click.ClickException("nothing could be measured; see the notes above")


def _describe_stop(out: Path) -> str:
    """Say what is stored: perhaps a shard more than the bar showed."""
    try:
        run = cam.Run.open(out)
    except cam.RunError:
        return "stopped before the run had begun"
    return f"stopped after {run.done} of {run.total} images; run the same command again to go on"


def _print_estimate(costs: Estimate, as_json: bool) -> None:
    if as_json:
        shared.print_json(asdict(costs))
        return
    total = costs.images
    for what, each in (("forwards", costs.forwards), ("backwards", costs.backwards)):
        click.echo(f"{what}: {each:,.1f} inputs an image, {each * total:,.0f} for {total:,} images")
    click.echo(f"stored: {size(costs.stored)} an image, {size(costs.stored * total)} for all")
    click.echo(
        f"time: {costs.seconds:.3g} s an image in one process like this one, "
        f"{duration(costs.seconds * total)} for all"
    )
    for share in costs.shares:
        what = share.method if share.metric is None else f"{share.metric} of {share.method}"
        click.echo(f"  {what}: {share.seconds:.3g} s an image")


class _Bar:
    """Progress on standard error: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._printed_at = time.monotonic()
        self._open = False

    def __call__(self, progress: RunProgress) -> None:
        left = progress.seconds_left
        text = f"{math.floor(progress.fraction * 100)} %, "
        if progress.total_passes:
            text += f"{progress.passes:,} of about {progress.total_passes:,} passes, "
        text += f"{progress.done}/{progress.total} images"
        if left is not None:
            text += f", {progress.images_per_second:.3g} images/s, {duration(left)} left"
        if progress.skipped:
            text += f", {progress.skipped} skipped"
        if progress.failed:
            text += f", {progress.failed} values failed"
        if sys.stderr.isatty():
            part = math.floor(20 * progress.fraction)
            click.echo(f"\r[{'#' * part}{'.' * (20 - part)}] {text}\033[K", err=True, nl=False)
            self._open = True
        elif time.monotonic() - self._printed_at > QUIET_SECONDS:
            click.echo(text, err=True)
            self._printed_at = time.monotonic()

    def close(self) -> None:
        """End the line."""
        if self._open:
            click.echo(err=True)
            self._open = False
