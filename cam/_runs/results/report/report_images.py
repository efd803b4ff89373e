"""Choose and draw the images of a report."""

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cam._media.rendering import overlay
from cam._methods.base.method_registry import methods as known_methods
from cam._output.viewer.payload import ViewerOptions
from cam._runs.results.gallery.clusters import describe_clusters
from cam._runs.results.image_view import ImageViews
from cam._runs.results.run import Run
from cam._runs.results.run_images import RunImage
from cam._runs.results.titles import title_method, title_metric, word_sentences
from cam.kernels.blending.colormaps import colormap_table
from cam.polarity import DIVERGING

if TYPE_CHECKING:
    import pandas

# As pages colour maps: its lightness rises steadily.
COLOURS = "inferno"
OPACITY = ViewerOptions.alpha
# Best and worst images of each method by each metric.
EXTREMES = 3
# Pictures of about 8 kB each; beyond these, metrics have none.
MOST_PICTURES = 600
# Mean maps and clusters: of how many methods and classes, of at least and at most how many images.
WHERE_METHODS = 3
WHERE_CLASSES = 5
WHERE_IMAGES = 16
WHERE_LIMIT = 1000
WHERE_TYPICAL = 2
SIDE = 144
# Of a legend's gradient.
STOPS = 8


def choose_highlights(run: Run, views: ImageViews, method: str, metric: str) -> dict[str, Any]:
    """Return the best and the worst images of one method by one metric."""
    rows = run.extremes(metric, EXTREMES)
    rows = rows[rows["method"].astype(str) == method]
    images = run.pictures(rows["item"].tolist())
    return {
        "title": f"{title_method(method)}, by {title_metric(metric)}",
        "ends": _list_ends(rows, images, views, method),
        "alike": rows["value"].nunique() == 1,
    }


def _list_ends(
    rows: "pandas.DataFrame", images: Mapping[int, RunImage], views: ImageViews, method: str
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return ("Best" or "Worst", images) of one method."""
    return [
        (
            str(end).capitalize(),
            [
                {
                    **_embed(
                        draw_map(images[row.item], method),
                        f"{title_method(method)} of {row.id}",
                        _caption(row),
                    ),
                    "view": views.add(images[row.item]),
                    "method": method,
                }
                for row in group.itertuples()
            ],
        )
        for end, group in rows.groupby("end", observed=True)
    ]


def choose_extremes(run: Run, views: ImageViews) -> list[tuple[str, list[dict[str, Any]] | None]]:
    """Return rows of the best and worst images of each metric; None where there are too many."""
    rows_of: list[tuple[str, list[dict[str, Any]] | None]] = []
    count = 0
    for metric in run.metrics:
        rows = run.extremes(metric, EXTREMES)
        if count + len(rows) > MOST_PICTURES:
            rows_of.append((title_metric(metric), None))
            continue
        count += len(rows)
        images = run.pictures(rows["item"].tolist())
        by_method = [
            {
                "method": title_method(str(method)),
                "ends": _list_ends(group, images, views, str(method)),
                "alike": group["value"].nunique() == 1,
            }
            for method, group in rows.groupby("method", observed=True)
        ]
        rows_of.append((title_metric(metric), by_method))
    return rows_of


def _caption(row: Any) -> list[str]:
    """Caption an image with its score, its class and its id."""
    label = str(row.label)
    if row.label != row.predicted_label:
        label += f", predicted {row.predicted_label}"
    return [f"{row.value:.4g}", label, str(row.id)]


def average_maps(run: Run, views: ImageViews, explained: list[str]) -> list[dict[str, Any]]:
    """Return rows with the mean maps of the largest classes, and their clusters."""
    rows = []
    # The classes' pictures have nothing in common to be shown under a mean map.
    grey = Image.new("RGB", (SIDE, SIDE), "#808080")
    for method in explained[:WHERE_METHODS]:
        averages = run.class_averages(method)
        large = averages.table["images"] >= WHERE_IMAGES
        for number in np.flatnonzero(large)[:WHERE_CLASSES]:
            row = averages.table.iloc[number]
            mean = overlay(grey, averages.maps[number], COLOURS)
            images = [_embed(mean, f"mean of {row['images']:,} images")]
            grouping = run.clusters(method, row["label"], limit=WHERE_LIMIT)
            groups = list(zip(grouping.maps, grouping.table.itertuples(), strict=True))
            for mean, group in groups if len(groups) > 1 else []:
                share = f"{group.size:,} ({group.share:.0%}), apart {group.apart:.2f}"
                images.append(_embed(overlay(grey, mean, COLOURS), f"mean of a group of {share}"))
                for image in run.pictures(group.representatives[:WHERE_TYPICAL]).values():
                    text = f"typical of it: {image.facts['id']}"
                    embedded = _embed(draw_map(image, method), text)
                    images.append({**embedded, "view": views.add(image), "method": method})
            (note,) = word_sentences([describe_clusters(grouping)], run.methods, ())
            rows.append({"note": note, "images": images})
    return rows


def _embed(
    picture: Image.Image | None, text: str, caption: list[str] | None = None
) -> dict[str, Any]:
    """Return a picture as a data URI, its alternative text, the lines below it, and no viewer."""
    source = ""
    if picture is not None:
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=80)
        source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"source": source, "text": text, "caption": caption, "view": None, "method": ""}


def draw_map(image: RunImage, method: str) -> Image.Image | None:
    """Draw the map of an image over it; None where one of them was not kept.

    Every map of the report over an image is drawn here.
    """
    if image.picture is None or method not in image.heatmaps:
        return None
    picture = image.picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    info = known_methods().get(method.partition("(")[0])
    signed = method in image.signed
    colours, percentile = DIVERGING if signed else COLOURS, info.percentile if info else 100
    heatmap = image.heatmaps[method]
    # As the viewer opens: what has no evidence stays as it was photographed.
    return overlay(picture, heatmap, colours, OPACITY, percentile, signed=signed, fade=True)


def draw_legend(method: str) -> str:
    """Draw what the colours of a method's maps mean."""
    from markupsafe import Markup

    info = known_methods().get(method.partition("(")[0])
    signed = info is not None and info.kind == "contribution"
    table = colormap_table(DIVERGING if signed else COLOURS)
    stops = [table[round(part * (len(table) - 1) / STOPS)] for part in range(STOPS + 1)]
    colours = ", ".join(f"rgb({', '.join(str(int(level)) for level in stop)})" for stop in stops)
    ends = ("against", "for the class") if signed else ("low", "high attribution")
    bar = Markup('<i style="background:linear-gradient(90deg, {})"></i>').format(colours)
    return Markup('<div class="legend">{}{}{}</div>').format(ends[0], bar, ends[1])
