"""Draw a heatmap whose values are read under the pointer.

Plotly is five megabytes of script in the browser, most of a second before it draws anything: it is
for what is looked into, and what everybody sees first is drawn without it.
"""

import numpy as np
import plotly.graph_objects as go
from PIL.Image import Image

from cam._output.explanation_files import data_uri
from cam.kernels.blending.colormaps import colormap_table

Box = tuple[int, int, int, int]
"""First and last column, first and last row."""


def draw_inspector(
    picture: Image,
    heatmap: np.ndarray,
    colormap: str,
    alpha: float,
    percentile: float,
    box: Box | None = None,
    signed: bool = False,
    threshold: float = 0.0,
    tall: int = 420,
) -> go.Figure:
    """Draw a heatmap over its picture, with the value at the pointer and a box.

    Args:
        picture: What the model sees, in any resolution.
        heatmap: (H, W) float32 in [0, 1], or in [-1, 1] if it is signed.
        colormap: One of ``kernels.COLORMAPS``.
        alpha: Opacity of the heatmap.
        percentile: Where the colours end, as for :func:`cam.overlay`.
        box: First and last column and row of a box that is drawn already.
        signed: Whether the heatmap has two signs.
        threshold: What is below it, after ``percentile``, is not coloured.
        tall: Height of the figure on the page, in pixels.
    """
    height, width = heatmap.shape
    table = colormap_table(colormap).tolist()
    scale = [[index / 255, f"rgb({r},{g},{b})"] for index, (r, g, b) in enumerate(table)]
    end = float(np.percentile(np.abs(heatmap), percentile)) or 1.0
    # Three digits are what the hover shows, and a third of the bytes.
    values = np.round(heatmap, 3)
    hidden = np.abs(heatmap) < threshold * end
    read = "customdata" if hidden.any() else "z"
    figure = go.Figure(
        go.Heatmap(
            z=np.where(hidden, np.nan, values) if hidden.any() else values,
            # A value is read off also where it is not coloured.
            customdata=values if hidden.any() else None,
            zmin=-end if signed else 0,
            zmax=end,
            colorscale=scale,
            opacity=alpha,
            showscale=False,
            hovertemplate=f"column %{{x}}, row %{{y}}: <b>%{{{read}:.3f}}</b><extra></extra>",
        )
    )
    figure.add_layout_image(
        source=data_uri(picture),
        xref="x",
        yref="y",
        x=-0.5,
        y=-0.5,
        sizex=width,
        sizey=height,
        sizing="stretch",
        layer="below",
    )
    figure.update_xaxes(visible=False, range=[-0.5, width - 0.5], constrain="domain")
    figure.update_yaxes(visible=False, range=[height - 0.5, -0.5], scaleanchor="x")
    if box is not None:
        left, right, top, bottom = box
        figure.add_shape(
            type="rect",
            x0=left - 0.5,
            x1=right + 0.5,
            y0=top - 0.5,
            y1=bottom + 0.5,
            line={"color": "#FFFFFF", "width": 2, "dash": "dot"},
        )
    figure.update_layout(
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        height=tall,
        dragmode="select",
        selectdirection="any",
    )
    return figure
