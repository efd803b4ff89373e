"""Draw a heatmap whose values are read under the pointer.

Plotly is five megabytes of script in the browser, most of a second before it draws anything: it is
for what is looked into, and what everybody sees first is drawn without it.
"""

import numpy as np
import plotly.graph_objects as go
from PIL.Image import Image

from cam._output.explanation_files import data_uri
from cam.kernels.blending.colormaps import colormap_table
from cam.pages.ui.charts.display import Display
from cam.polarity import DIVERGING

Box = tuple[int, int, int, int]
"""First and last column, first and last row."""


def draw_inspector(
    picture: Image,
    heatmap: np.ndarray,
    display: Display,
    percentile: float,
    box: Box | None = None,
    signed: bool = False,
    tall: int = 420,
) -> go.Figure:
    """Draw a heatmap over its picture, with the value at the pointer and a box.

    Args:
        picture: What the model sees, in any resolution.
        heatmap: (H, W) float32 in [0, 1], or in [-1, 1] if it is signed.
        display: Opacity, colours, and the threshold below which, after ``percentile``, nothing is
            coloured, as for :func:`cam.overlay`.
        percentile: Where the colours end, as for :func:`cam.overlay`.
        box: First and last column and row of a box that is drawn already.
        signed: Whether the heatmap has two signs.
        tall: Height of the figure on the page, in pixels.
    """
    height, width = heatmap.shape
    table = colormap_table(DIVERGING if signed else display.colormap).tolist()
    scale = [[index / 255, f"rgb({r},{g},{b})"] for index, (r, g, b) in enumerate(table)]
    end = float(np.percentile(np.abs(heatmap), percentile)) or 1.0
    # Three digits are what the hover shows, and a third of the bytes.
    values = np.round(heatmap, 3)
    hidden = np.abs(heatmap) < display.threshold * end
    read = "customdata" if hidden.any() else "z"
    figure = go.Figure(
        go.Heatmap(
            z=np.where(hidden, np.nan, values) if hidden.any() else values,
            # A value is read off also where it is not coloured.
            customdata=values if hidden.any() else None,
            zmin=-end if signed else 0,
            zmax=end,
            colorscale=scale,
            opacity=display.alpha,
            showscale=False,
            hovertemplate=f"column %{{x}}, row %{{y}}: <b>%{{{read}:.3f}}</b><extra></extra>",
        )
    )
    below = {"xref": "x", "yref": "y", "sizing": "stretch", "layer": "below"}
    size = {"x": -0.5, "y": -0.5, "sizex": width, "sizey": height}
    figure.add_layout_image(source=data_uri(picture), **below, **size)
    figure.update_xaxes(visible=False, range=[-0.5, width - 0.5], constrain="domain")
    figure.update_yaxes(visible=False, range=[height - 0.5, -0.5], scaleanchor="x")
    if box is not None:
        left, right, top, bottom = box
        sides = {"x0": left - 0.5, "x1": right + 0.5, "y0": top - 0.5, "y1": bottom + 0.5}
        line = {"color": "#FFFFFF", "width": 2, "dash": "dot"}
        figure.add_shape(type="rect", line=line, **sides)
    margin = dict.fromkeys("lrtb", 0)
    figure.update_layout(margin=margin, height=tall, dragmode="select", selectdirection="any")
    return figure
