"""Search the parameters of methods: ``python -m cam tune``."""

from collections.abc import Callable
from dataclasses import asdict

import click

import cam
from cam._cli import shared_options as shared
from cam._cli.run_commands import records
from cam._models.model import Model


@click.command(cls=shared.LibraryCommand)
@click.argument("data")
@shared.model_options
@shared.several("method", ("gradcam", "layercam"), help="A name, or 'name(steps=64)'.")
@click.option("--metric", default="insertion", help="What is improved.")
@click.option("--budget", type=click.IntRange(min=1), default=20_000, help="Inputs of the search.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the two halves.")
@click.option("--limit", type=click.IntRange(min=1), help="The largest number of images.")
@click.option("--json", "as_json", is_flag=True)
def tune(
    data: str,
    load: Callable[[], Model],
    methods: tuple[str, ...],
    metric: str,
    budget: int,
    seed: int,
    limit: int | None,
    as_json: bool,
) -> None:
    """Search methods, parameters and layers on half of DATA, and report on the other half."""
    items = cam.dataset(data)
    tuning = cam.tune(
        load(),
        items if limit is None else items.limit(limit),
        [shared.parse_call(text, cam.method) for text in methods],
        shared.parse_call(metric, cam.metric),
        budget,
        seed=seed,
        tell=lambda note: click.echo(note, err=True),
    )
    if as_json:
        facts = {"method": asdict(tuning.method), "layers": tuning.layers, "passes": tuning.passes}
        tables = {"table": records(tuning.table), "report": records(tuning.report)}
        shared.print_json(facts | tables)
        return
    click.echo(str(tuning))
