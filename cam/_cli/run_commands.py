"""Read runs: the commands leaderboard, advice, report, clusters, diff and export."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import cam
from cam._cli.shared_options import LibraryCommand, print_json
from cam._runs.results.gallery.clusters import describe_clusters
from cam._runs.results.report.report import write_report
from cam._runs.results.run_comparison import compare
from cam._runs.results.run_tables import BY
from cam._runs.statistics.intervals import FEWEST, describe_lack

if TYPE_CHECKING:
    import pandas

_RUN = click.Path(path_type=Path)


@click.command(cls=LibraryCommand)
@click.argument("run", type=_RUN)
@click.option("--by", type=click.Choice(list(BY)), help="Apart for groups of images.")
@click.option("--json", "as_json", is_flag=True)
def leaderboard(run: Path, by: str | None, as_json: bool) -> None:
    """Print RUN's methods by each metric, the best first."""
    stored = cam.Run.open(run)
    print_board(stored, stored.leaderboard(by), as_json)


@click.command(cls=LibraryCommand)
@click.argument("run", type=_RUN)
@click.option("--json", "as_json", is_flag=True)
def advice(run: Path, as_json: bool) -> None:
    """Say which method to use for RUN's model and data, how sure, and what would change it."""
    advised = cam.Run.open(run).advice()
    if as_json:
        facts = asdict(advised)
        sure = advised.confidence
        print_json(facts | {"confidence": sure if math.isfinite(sure) else None})
        return
    click.echo(str(advised))


@click.command(cls=LibraryCommand)
@click.argument("run", type=_RUN)
@click.option("--out", type=_RUN, required=True, help="A .html file.")
def report(run: Path, out: Path) -> None:
    """Write RUN as one page that opens without a network."""
    path = write_report(cam.Run.open(run), out)
    click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


@click.command(cls=LibraryCommand)
@click.argument("run", type=_RUN)
@click.option("--out", type=_RUN, required=True, help="A .csv or .parquet file.")
def export(run: Path, out: Path) -> None:
    """Write RUN's scores, a row an image, method and metric."""
    click.echo(str(cam.Run.open(run).export(out)))


@click.command(cls=LibraryCommand)
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
    """Say what changed from run BEFORE to AFTER beyond noise."""
    first, second = cam.Run.open(before), cam.Run.open(after)
    allowed = _parse_limits(limits, first.metrics)
    table = compare(first, second)
    worse, unsure = [], []
    for metric, delta in allowed:
        rows = table[table["metric"] == metric]
        if rows.empty:
            raise click.UsageError(f"{str(after)!r} has no metric {metric!r} to compare")
        unsure += [
            f"{metric} of {row.method}: {describe_lack(row.groups)}"
            for row in rows[rows["n"] > 0].itertuples()
            if row.groups < FEWEST
        ]
        loss = -rows["difference"] * first.directions[metric]
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
                f"{row.difference:+.4f} {_write_test(row)}  (n = {row.n})"
                + (f"  {row.remark}" if row.remark else "")
            )
    if unsure:
        raise click.ClickException(
            f"--fail-if-worse cannot tell worse from noise here, as {FEWEST} independent groups "
            f"are needed: {'; '.join(unsure)}"
        )
    if worse:
        raise click.ClickException("; ".join(worse))


def _write_test(row: Any) -> str:
    """Write the interval, p and verdict of a difference, or that there are too few groups."""
    if row.groups < FEWEST:
        return str(row.verdict)
    return f"[{row.low:+.4f}, {row.high:+.4f}]  p = {row.holm:.2g}  {row.verdict}"


def _parse_limits(texts: tuple[str, ...], metrics: list[str]) -> list[tuple[str, float]]:
    limits = []
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
        limits.append((metric, number))
    return limits


def records(table: "pandas.DataFrame") -> list[dict[str, Any]]:
    """Return a table's rows for JSON, which knows no NaN."""
    import pandas

    return [
        {key: None if pandas.isna(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def print_board(run: cam.Run, board: "pandas.DataFrame", as_json: bool) -> None:
    """Print methods by each metric, the ranks under its variants, and the cost."""
    groups = [column for column in board.columns if column in BY]
    stability = run.rank_stability(None if groups else board)
    if as_json:
        print_json(
            {
                "run": str(run.path),
                "done": run.done,
                "total": run.total,
                "caution": run.notes.get("caution", ""),
                "polarity": run.polarity,
                "leaderboard": records(board),
                "rank_stability": records(stability),
                "remarks": stability.attrs["remarks"],
                "notes": records(run.remarks()),
                "costs": records(run.costs()),
            }
        )
        return
    if run.done < run.total:
        click.echo(f"{run.done} of {run.total} images are done", err=True)
    wide = max((len(name) for name in run.methods), default=0)
    for keys, rows in board.groupby([*groups, "metric"], sort=False, observed=True):
        better = "higher" if run.directions[str(keys[-1])] > 0 else "lower"
        click.echo(f"{' · '.join(map(str, keys))} ({better} is better)")
        for row in rows.sort_values("rank").itertuples():
            counts = {"undefined": row.nan, "failed": row.failed, "skipped": row.skipped}
            missing = "".join(f", {count} {what}" for what, count in counts.items() if count)
            rank = "–" if math.isnan(row.rank) else f"{row.rank:g}"
            few = row.groups < FEWEST
            interval = row.interval if few else f"[{row.low:.4f}, {row.high:.4f}]"
            several = "" if few or row.groups == row.n else f" in {row.groups} groups"
            click.echo(
                f"  {rank:>4}  {row.method:{wide}}  {row.mean:.4f} {interval}"
                f"  median {row.median:.4f}  (n = {row.n}{several}{missing})"
            )
    if run.polarity:
        click.echo(run.polarity)
    _print_stability(stability, run.methods)
    _print_costs(run, wide)
    for row in records(run.remarks()):
        of = f"{row['metric']} of {row['method']}" if row["metric"] else row["method"]
        others = "; the figures are those of the first" if row["wordings"] > 1 else ""
        click.echo(
            f"Note: {of}, {row['images']} of {run.done} images, first {row['example']}: "
            f"{row['remark']}{others}",
            err=True,
        )
    if run.notes.get("caution"):
        click.echo(f"Note: {run.notes['caution']}", err=True)


def _print_stability(stability: "pandas.DataFrame", methods: list[str]) -> None:
    """Print the ranks under the variants of each metric, where there are any."""
    for metric, rows in stability.groupby("metric", sort=False):
        concordance = rows["concordance"].iloc[0]
        click.echo(f"ranks by the variants of {metric} (Kendall's W = {concordance:.2f})")
        for row in rows.to_dict("records"):
            ranks = ", ".join(f"{method} {row[method]:g}" for method in methods)
            click.echo(f"  {row['variant']}: {ranks}")
    for remark in stability.attrs["remarks"]:
        click.echo(f"  {remark}")


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


@click.command(cls=LibraryCommand)
@click.argument("run", type=_RUN)
@click.option("--method", required=True, help="Whose maps; one of the run's methods.")
@click.option("--label", help="Only images that were explained for this class.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="How many; by default chosen from the maps.",
)
@click.option("--limit", type=click.IntRange(min=10), default=2000)
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option("--json", "as_json", is_flag=True)
def clusters(run: Path, method: str, label: str | None, as_json: bool, **options: Any) -> None:
    """Find groups of RUN's images whose maps are alike.

    Images with a watermark may be such a group.

    Beyond --limit images, a sample of them is looked at.
    """
    grouping = cam.Run.open(run).clusters(method, label, **options)
    names = dict(zip(grouping.items["item"], grouping.items["id"], strict=True))
    if as_json:
        print_json(
            {
                "method": method,
                "label": label,
                "total": grouping.total,
                "looked_at": len(grouping.items) + grouping.blank,
                "blank": grouping.blank,
                "eigenvalues": grouping.eigenvalues.tolist(),
                "clusters": [
                    {**cluster, "representatives": [names[item] for item in items]}
                    for cluster, items in zip(
                        records(grouping.table.drop(columns="representatives")),
                        grouping.table["representatives"],
                        strict=True,
                    )
                ],
                "items": records(grouping.items[["item", "id", "cluster"]]),
            }
        )
        return
    click.echo(describe_clusters(grouping))
    for row in grouping.table.itertuples():
        typical = ", ".join(names[item] for item in row.representatives)
        apart = "" if math.isnan(row.apart) else f", {row.apart:.0%} of its heat elsewhere"
        correct = "" if math.isnan(row.correct) else f", {row.correct:.0%} correct"
        click.echo(
            f"  {row.cluster}  {row.size} images ({row.share:.0%}){correct}{apart}, highest at "
            f"{row.row:.0%} from the top and {row.column:.0%} from the left: {typical}"
        )


COMMANDS = (leaderboard, advice, report, clusters, diff, export)
