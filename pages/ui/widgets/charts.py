"""Draw the charts that more than one page shows.

Plotly is five megabytes of script in the browser, most of a second before it draws anything: it is
for what is looked into, and what everybody sees first is drawn without it.
"""

import numpy as np
import plotly.graph_objects as go
from PIL.Image import Image

from cam._output.explanation_files import data_uri
from cam.kernels.blending.colormaps import colormap_table

# From Okabe and Ito's palette, which readers with any colour vision tell apart.
CHOSEN = "#E69F00"
OTHERS = "#56B4E9"

Box = tuple[int, int, int, int]


def bar(probability: float, chosen: bool) -> str:
    """One horizontal bar with its figure, as HTML; the chosen class in another colour."""
    colour = CHOSEN if chosen else OTHERS
    return (
        '<div style="display:flex;align-items:center;gap:.5rem;height:2.5rem;font-size:.875rem">'
        '<div style="flex:1;min-width:3rem"><div style="height:1.25rem;border-radius:.25rem;'
        f'background:{colour};width:max(2px,{100 * probability:.2f}%)"></div></div>'
        f'<span style="width:3.5rem;text-align:right">{probability:.1%}</span></div>'
    )


def color_bar(colormap: str, ends: tuple[str, str] = ("no evidence", "most evidence")) -> str:
    """A legend from one end of the colours to the other, as HTML."""
    stops = ", ".join(f"rgb({r},{g},{b})" for r, g, b in colormap_table(colormap)[::15].tolist())
    return (
        '<div style="display:flex;gap:.75rem;align-items:center;font-size:.875rem">'
        f"<span>{ends[0]}</span>"
        f'<div style="flex:1;height:.75rem;border-radius:.375rem;background:'
        f'linear-gradient(to right, {stops})"></div><span>{ends[1]}</span></div>'
    )


def inspector(
    seen: Image,
    heatmap: np.ndarray,
    colormap: str,
    alpha: float,
    percentile: float,
    box: Box | None = None,
    signed: bool = False,
    threshold: float = 0.0,
    tall: int = 420,
) -> go.Figure:
    """The picture under its heatmap, with the value at the pointer; a box can be drawn over it.

    Args:
        seen: What the model sees, in any resolution.
        heatmap: (H, W) float32 in [0, 1], or in [-1, 1] if it is signed.
        colormap: One of ``kernels.COLORMAPS``.
        alpha: Opacity of the heatmap.
        percentile: Where the colours end, as for :func:`cam.overlay`.
        box: First and last column and row of a box that is drawn already.
        signed: Whether the heatmap has two signs.
        threshold: What is below it, after ``percentile``, is not coloured, as for
            :func:`cam.overlay`.
        tall: Height of the figure on the page, in pixels.
    """
    height, width = heatmap.shape
    table = colormap_table(colormap).tolist()
    scale = [[place / 255, f"rgb({r},{g},{b})"] for place, (r, g, b) in enumerate(table)]
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
        source=data_uri(seen),
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
