"""Show a confusion matrix whose cells open their images."""

from html import escape

import pandas

import cam
from cam.pages.ui.charts.elements import div, element
from cam.pages.ui.datasets.images.gallery import ARROW, CELL
from cam.pages.ui.datasets.opened_run import query
from cam.pages.ui.state import address
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.clickable import show_clickable
from cam.pages.ui.widgets.prose import write_small

# More rows are no table to read: then only the confused classes.
MOST = 20


def show_confusions(run: cam.Run) -> None:
    """Show the matrix: a row a class, a column a prediction."""
    table = query(run, "confusions")
    if table.empty:
        view_record.info("The data give no classes, so nothing can be confused.")
        return
    total = int(table.to_numpy().sum())
    right = sum(int(table.loc[label, label]) for label in table.index if label in table)
    view_record.markdown(
        f"**{right:,} of {total:,} images predicted right** ({right / total:.0%}). A row a class, "
        "a column a prediction; a number opens its images."
    )
    part = select_classes(table)
    show_clickable(_draw(part), "confusions", open_cell)
    if part.shape != table.shape:
        write_small(
            f"The {len(part)} classes with the most confusions, of {len(table):,}; columns without "
            "any of their images are left out."
        )


def select_classes(table: pandas.DataFrame) -> pandas.DataFrame:
    """Select the rows that are confused most where there are many, and the columns they have."""
    if max(table.shape) <= MOST:
        return table
    right = pandas.Series(
        {label: table.loc[label, label] if label in table else 0 for label in table.index}
    )
    wrong = table.sum(1) - right
    rows = wrong.sort_values(ascending=False, kind="stable").index[:MOST]
    part = table.loc[rows]
    columns = [label for label in rows if label in part]
    columns += [label for label in part if label not in columns and part[label].any()]
    return part[columns].loc[:, lambda some: some.any()]


def _draw(table: pandas.DataFrame) -> str:
    heads = [element("th", "", "class \\ predicted", scope="col")]
    heads += [element("th", "", escape(str(name)), scope="col") for name in table]
    rows = [element("tr", "", *heads)]
    most = max(1, int(table.to_numpy().max()))
    body = []
    for label, counts in table.iterrows():
        cells = [element("th", "", escape(str(label)), scope="row", title=str(label))]
        cells += [
            _draw_cell(str(label), str(predicted), int(count), most)
            for predicted, count in counts.items()
        ]
        body.append(element("tr", "", *cells))
    inside = element("thead", "", *rows), element("tbody", "", *body)
    return div("scroll", element("table", "confusions", *inside))


def _draw_cell(label: str, predicted: str, count: int, most: int) -> str:
    if not count:
        return element("td")
    # Right ones blue, wrong ones orange, as in the plane; the ink of the page stays legible.
    ink = "0, 114, 178" if label == predicted else "230, 159, 0"
    words = f"{count} of {label} predicted as {predicted}"
    button = element(
        "button",
        "",
        f"{count:,}",
        type="button",
        data_pick=f"{label}{ARROW}{predicted}",
        aria_label=words,
        title=words,
        style=f"background:rgba({ink},{0.15 + 0.4 * count / most:.2f})",
    )
    return element("td", "", button)


def open_cell(cell: str) -> None:
    """Open the images of a cell in the gallery."""
    address.write({"view": ["Gallery"], CELL: [cell], "item": None, "page": None})
