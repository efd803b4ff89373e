"""The commands of ``python -m cam`` for runs: evaluate, leaderboard, report, diff, export."""

import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import cam
from cam.cli_common import as_json as print_json
from cam.cli_common import called, load, model_options, options_of, told
from cam.evaluate.clusters import clusters_told
from cam.evaluate.compare import compare
from cam.evaluate.estimate import Estimate, estimate
from cam.evaluate.evaluate import ENGINES
from cam.evaluate.plan import BASELINES, TARGETS, make_plan
from cam.evaluate.progress import RunProgress
from cam.evaluate.report import write_report
from cam.evaluate.run import BY
from cam.wording import duration

if TYPE_CHECKING:
    import pandas

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
    _print_board(run, board, as_json)
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
    for what, each, unit in (
        ("forwards", found.forwards, "inputs"),
        ("backwards", found.backwards, "inputs"),
        ("stored", found.stored / 1000, "kB"),
    ):
        click.echo(f"{what}: {each:,.1f} {unit} an image, {each * total:,.0f} for {total:,} images")
    click.echo(
        f"time: {found.seconds:.3g} s an image in one process like this one, "
        f"{duration(found.seconds * total)} for all"
    )


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


@click.command()
@click.argument("run", type=_RUN)
@click.option("--by", type=click.Choice(list(BY)), help="Apart for groups of images.")
@click.option("--json", "as_json", is_flag=True)
def leaderboard(run: Path, by: str | None, as_json: bool) -> None:
    """Print RUN's methods by each metric, the best first."""
    with told():
        found = cam.Run.open(run)
        _print_board(found, found.leaderboard(by), as_json)


@click.command()
@click.argument("run", type=_RUN)
@click.option("--out", type=_RUN, required=True, help="A .html file.")
def report(run: Path, out: Path) -> None:
    """Write RUN as one page that opens without a network."""
    with told():
        path = write_report(cam.Run.open(run), out)
    click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


@click.command()
@click.argument("run", type=_RUN)
@click.option("--out", type=_RUN, required=True, help="A .csv or .parquet file.")
def export(run: Path, out: Path) -> None:
    """Write RUN's scores, a row an image, method and metric."""
    with told():
        click.echo(str(cam.Run.open(run).export(out)))


@click.command()
@click.argument("before", type=_RUN)
@click.argument("after", type=_RUN)
@click.option(
    "--fail-if-worse",
    "limits",
    multiple=True,
    metavar="METRIC:DELTA",
    help="Exit 1 if a method's mean is worse by more than DELTA, and that is more than noise.",
)
@click.option("--json", "as_json", is_flag=True)
def diff(before: Path, after: Path, limits: tuple[str, ...], as_json: bool) -> None:
    """Say what changed from run BEFORE to run AFTER, and whether it is more than noise."""
    with told():
        one, other = cam.Run.open(before), cam.Run.open(after)
        allowed = _limits(limits, one.metrics)
        table = compare(one, other)
    worse = []
    for metric, delta in allowed:
        rows = table[table["metric"] == metric]
        if rows.empty:
            raise click.UsageError(f"{str(after)!r} has no metric {metric!r} to compare")
        loss = -rows["difference"] * one.directions[metric]
        worse += [
            f"{row.method} is worse by {metric}: {row.before:.4g} → {row.after:.4g}, more than "
            f"{delta:g} (p = {row.holm:.2g})"
            for row in rows[(loss > delta) & (rows["verdict"] == "worse")].itertuples()
        ]
    facts = table.attrs
    if as_json:
        print_json({**facts, "changes": records(table), "worse": worse})
    else:
        for change in facts["configuration"]:
            click.echo(f"Changed: {change}")
        images = facts["images"]
        click.echo(
            f"{images['common']} images in both, {images['only_before']} only before, "
            f"{images['only_after']} only after; {images['predicted_differently']} are predicted "
            "differently"
        )
        for row in table.itertuples():
            click.echo(
                f"{row.metric}  {row.method}  {row.before:.4f} → {row.after:.4f}  "
                f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]  p = {row.holm:.2g}  "
                f"{row.verdict}  (n = {row.n})"
            )
    if worse:
        raise click.ClickException("; ".join(worse))


def _limits(texts: tuple[str, ...], metrics: list[str]) -> list[tuple[str, float]]:
    found = []
    for text in texts:
        metric, _, delta = text.rpartition(":")
        try:
            number = float(delta)
        except ValueError:
            number = math.nan
        if not metric or not number >= 0:
            raise click.UsageError(f"{text!r} is no limit; write it as METRIC:0.01")
        if metric not in metrics:
            raise click.UsageError(
                f"the run has no metric {metric!r}; {cam.errors.nearest(metric, metrics)}"
            )
        found.append((metric, number))
    return found


def records(table: "pandas.DataFrame") -> list[dict[str, Any]]:
    """Rows for JSON, which knows no NaN."""
    import pandas

    return [
        {key: None if pandas.isna(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def _print_board(run: cam.Run, board: "pandas.DataFrame", as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run": str(run.path),
                "done": run.done,
                "total": run.total,
                "leaderboard": records(board),
                "costs": records(run.costs()),
            }
        )
        return
    if run.done < run.total:
        click.echo(f"{run.done} of {run.total} images are done", err=True)
    groups = [one for one in board.columns if one in BY]
    wide = max((len(name) for name in run.methods), default=0)
    for keys, rows in board.groupby([*groups, "metric"], sort=False, observed=True):
        better = "higher" if run.directions[str(keys[-1])] > 0 else "lower"
        click.echo(f"{' · '.join(map(str, keys))} ({better} is better)")
        for row in rows.sort_values("rank").itertuples():
            missing = "".join(
                f", {count} {what}"
                for what, count in (
                    ("undefined", row.nan),
                    ("failed", row.failed),
                    ("skipped", row.skipped),
                )
                if count
            )
            place = "–" if math.isnan(row.rank) else f"{row.rank:g}"
            click.echo(
                f"  {place:>4}  {row.method:{wide}}  {row.mean:.4f} [{row.low:.4f}, {row.high:.4f}]"
                f"  median {row.median:.4f}  (n = {row.n}{missing})"
            )
    _print_costs(run, wide)


def _print_costs(run: cam.Run, wide: int) -> None:
    costs = run.costs()
    if costs.empty:
        return
    click.echo("cost (of each method's maps, and of measuring them)")
    for method, rows in costs.groupby("method", sort=False, observed=True):
        maps = rows[rows["metric"].isna()]
        peak = maps["peak_bytes"].fillna(0).max()
        click.echo(
            f"  {method:{wide}}  {maps['images'].sum()} images, "
            f"{int(maps['forwards'].sum())} forwards and {int(maps['backwards'].sum())} backwards "
            f"of batches, {maps['seconds'].sum():.3g} s; measuring "
            f"{rows.loc[rows['metric'].notna(), 'seconds'].sum():.3g} s"
            + (f"; at most {peak / 1e6:.0f} MB of the GPU" if peak > 0 else "")
        )


@click.command()
@click.argument("run", type=_RUN)
@click.option("--method", required=True, help="Whose maps; one of the run's methods.")
@click.option("--label", help="Only images that were explained for this class.")
@click.option("--count", type=click.IntRange(min=1), help="How many clusters; by default found.")
@click.option("--limit", type=click.IntRange(min=10), default=2000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def clusters(
    run: Path,
    method: str,
    label: str | None,
    count: int | None,
    limit: int,
    seed: int,
    as_json: bool,
) -> None:
    """Find groups of RUN's images whose maps are alike, as those with a watermark are.

    Beyond --limit images, a sample of them is looked at.
    """
    with told():
        stored = cam.Run.open(run)
        found = stored.clusters(method, label, count=count, limit=limit, seed=seed)
    names = dict(zip(found.items["item"], found.items["id"], strict=True))
    if as_json:
        print_json(
            {
                "method": method,
                "label": label,
                "total": found.total,
                "looked_at": len(found.items) + found.blank,
                "blank": found.blank,
                "eigenvalues": found.eigenvalues.tolist(),
                "clusters": [
                    {**one, "representatives": [names[item] for item in items]}
                    for one, items in zip(
                        records(found.table.drop(columns="representatives")),
                        found.table["representatives"],
                        strict=True,
                    )
                ],
                "items": records(found.items[["item", "id", "cluster"]]),
            }
        )
        return
    click.echo(clusters_told(found))
    for row in found.table.itertuples():
        typical = ", ".join(names[item] for item in row.representatives)
        apart = "" if math.isnan(row.apart) else f", {row.apart:.0%} of its heat elsewhere"
        correct = "" if math.isnan(row.correct) else f", {row.correct:.0%} correct"
        click.echo(
            f"  {row.cluster}  {row.size} images ({row.share:.0%}){correct}{apart}, highest at "
            f"{row.row:.0%} from the top and {row.column:.0%} from the left: {typical}"
        )


COMMANDS = (evaluate, leaderboard, report, clusters, diff, export)
