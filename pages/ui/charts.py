"""Charts that more than one page draws."""

import plotly.graph_objects as go

# From Okabe and Ito's palette, which readers with any colour vision tell apart.
CHOSEN = "#E69F00"
OTHERS = "#56B4E9"


def predictions(labels: list[str], probabilities: list[float], chosen: int | None) -> go.Figure:
    """Horizontal bars of the top classes, the explained one in another colour.

    Args:
        labels: From the most probable down.
        probabilities: 0 to 1, in the same order.
        chosen: Which bar is explained, or None if it is not among them.
    """
    colours = [CHOSEN if place == chosen else OTHERS for place in range(len(labels))]
    figure = go.Figure(
        go.Bar(
            x=probabilities,
            y=[str(place) for place in range(len(labels))],
            orientation="h",
            marker_color=colours,
            text=[
                f"{label}  {value:.1%}" for label, value in zip(labels, probabilities, strict=True)
            ],
            textposition="auto",
            insidetextanchor="start",
            insidetextfont={"color": "#111111"},
            cliponaxis=False,
            hovertemplate="%{text}<br>click to explain this class<extra></extra>",
        )
    )
    figure.update_layout(
        height=36 * len(labels) + 24,
        margin={"l": 0, "r": 0, "t": 8, "b": 8},
        xaxis={"visible": False, "range": [0, max(1.0, max(probabilities))], "fixedrange": True},
        yaxis={"visible": False, "autorange": "reversed", "fixedrange": True},
        dragmode=False,
        bargap=0.15,
    )
    return figure
