"""Show all runs as a table with what each compared."""

from datetime import datetime
from html import escape
from typing import NamedTuple

import cam
from cam._formatting import duration
from cam._runs.results.run_states import measure_duration, read_state
from cam._runs.results.titles import title_method
from cam._runs.storage.run_edits import read_note
from cam.pages.ui.charts.elements import div, element
from cam.pages.ui.datasets import run_jobs
from cam.pages.ui.datasets.images.thumbnails import draw_thumbnails
from cam.pages.ui.datasets.opened_run import open_run, query
from cam.pages.ui.datasets.run_jobs import ObservedRun
from cam.pages.ui.datasets.run_list import WORDS, open_results
from cam.pages.ui.server.allowed_roots import EXAMPLE
from cam.pages.ui.server.resources import share
from cam.pages.ui.state import address
from cam.pages.ui.widgets.clickable import show_clickable
from cam.pages.ui.widgets.links import choose_number
from cam.pages.ui.widgets.prose import escape_markdown, write_small

HEADS = ("Run", "Images", "Model", "Data", "Methods", "Date", "Time", "Winner", "Note")
A_PAGE = 20
THUMBNAILS = 3
THUMBNAIL_SIDE = 64
DASH = "–"
METHODS_NAMED = 3
DATA_TITLES = {"photo-grid": "Photo grid", "known": "Known answers"}


class Summary(NamedTuple):
    """What a run compared, and what it found."""

    model: str
    data: str
    methods: str
    date: str
    time: str
    winner: str


def show_table(runs: list[ObservedRun], default: str) -> None:
    """Show a row a run, the latest first, and the example last; a name opens its results."""
    example = ObservedRun(read_state(open_run(EXAMPLE).path), run_jobs.FINISHED, None)
    named = [(run.state.name, run) for run in runs if run.state.done] + [(EXAMPLE, example)]
    pages = -(-len(named) // A_PAGE)
    page = choose_number(f"Runs, page of {pages}", 1, pages, "runs_page") if pages > 1 else 1
    opened = address.get_value("run") or default
    heads = element("tr", "", *(element("th", "", head, scope="col") for head in HEADS))
    rows = []
    for name, run in named[(page - 1) * A_PAGE : page * A_PAGE]:
        try:
            rows.append(_draw_row(name, run, name == opened))
        except cam.CamError:
            # What is wrong with it is said where it is opened.
            continue
    body = element("thead", "", heads), element("tbody", "", *rows)
    show_clickable(div("scroll", element("table", "runs", *body)), "runs_table", open_results)
    write_small(
        "The winner has the best median rank over the families of metrics and beats baselines; "
        "a dash stands where no method can be recommended."
    )


def _draw_row(name: str, run: ObservedRun, is_open: bool) -> str:
    opened = open_run(name)
    facts = summarise(opened)
    button = element("button", "", escape(name), type="button", data_pick=name)
    state, done, total = run.doing, run.state.done, run.state.total
    words = "" if state == run_jobs.FINISHED else f"{WORDS[state]}, {done:,} of {total:,}"
    cells = [
        button + (div("", escape(words)) if words else ""),
        _draw_images(opened),
        *map(escape, (facts.model, facts.data, facts.methods, facts.date, facts.time)),
        escape(facts.winner),
        escape(read_note(opened.path)),
    ]
    kinds = ["", "thumbnails", *[""] * (len(cells) - 2)]
    written = (element("td", kind, cell) for kind, cell in zip(kinds, cells, strict=True))
    return element("tr", "open" if is_open else "", *written)


def _draw_images(run: cam.Run) -> str:
    methods = run.methods
    items = tuple(int(item) for item in query(run, "items")["item"].head(THUMBNAILS))
    drawn = draw_thumbnails(run, methods[0], items, THUMBNAIL_SIDE)
    return "".join(
        f'<img src="{source}" alt="{escape(name)}" loading="lazy">'
        for name, source in drawn.values()
    )


@share(max_entries=256, show_spinner="Reading the runs …")
def summarise(run: cam.Run) -> Summary:
    """Sum up a run in words."""
    notes = run.notes
    facts = run.config["methods"]
    methods = [title_method(method["key"]) for method in facts if not method.get("baseline")]
    more = len(methods) - METHODS_NAMED
    text = ", ".join(methods[:METHODS_NAMED]) + (f" and {more} more" if more > 0 else "")
    source = str((notes.get("call") or {}).get("data", {}).get("source") or notes.get("data"))
    data = DATA_TITLES.get(source, source.rstrip("/").rpartition("/")[2])
    seconds = measure_duration(run.path)
    if seconds is None:
        seconds = float(run.costs()["seconds"].sum())
    return Summary(
        str(run.config["model"]["name"]),
        f"{data}, {run.total:,} image{'' if run.total == 1 else 's'}",
        text,
        _write_date(str(notes.get("started", ""))),
        duration(seconds),
        _name_winner(run),
    )


def _name_winner(run: cam.Run) -> str:
    if not run.leaderboard()["n"].sum():
        return DASH
    method = run.advice().method
    return DASH if method is None else title_method(method)


def _write_date(started: str) -> str:
    try:
        return datetime.fromisoformat(started).strftime("%-d %b %Y")
    except ValueError:
        return DASH


def describe_run(run: cam.Run) -> str:
    """Describe a run in one line of Markdown."""
    facts = summarise(run)
    parts = (facts.model, facts.data, facts.methods, facts.date)
    return " · ".join(escape_markdown(part) for part in parts if part != DASH)
