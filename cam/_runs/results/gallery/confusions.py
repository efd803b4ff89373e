"""Count which classes a model takes for which."""

from typing import TYPE_CHECKING

from cam._runs.results.run_tables import RunTables

if TYPE_CHECKING:
    import pandas


def count_confusions(run: RunTables) -> "pandas.DataFrame":
    """Count the images of each class and prediction, of those whose class the data give.

    Returns:
        A row a class, a column a prediction, int, both in the order of their images, classes first;
        a class that is never predicted is a column too. Empty where the data give no class.
    """
    import pandas

    rows = run.query(
        "SELECT label, predicted_label, count(*) AS images FROM items "
        "WHERE correct IS NOT NULL AND label IS NOT NULL GROUP BY ALL ORDER BY images DESC, label"
    )
    if rows.empty:
        return pandas.DataFrame()
    of_class = rows.groupby("label")["images"].sum()
    classes = sorted(of_class.index, key=lambda label: (-of_class[label], label))
    others = [label for label in dict.fromkeys(rows["predicted_label"]) if label not in of_class]
    table = rows.pivot(index="label", columns="predicted_label", values="images")
    return table.reindex(index=classes, columns=[*classes, *others]).fillna(0).astype(int)


def list_confused(run: RunTables, label: str, predicted: str) -> list[int]:
    """List the items of one class that are predicted as another, or as itself."""
    rows = run.query(
        "SELECT item FROM items WHERE correct IS NOT NULL AND label = ? AND predicted_label = ? "
        "ORDER BY item",
        [label, predicted],
    )
    return [int(item) for item in rows["item"]]
