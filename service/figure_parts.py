"""What all pictures of laws are made of: traces, axes and colours as plotly reads them.

Colours are translucent or of middle lightness, so that they stand on a light and on a dark ground.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

Point = tuple[float, float]

INK, _GRID = "#6b7683", "rgba(128,138,150,0.25)"
BLUE, ORANGE, GREEN, PURPLE, GREY = "#2f7fb8", "#d9722e", "#2a9d74", "#8d6bd1", "#8a94a1"
LINES = ("#2f7fb8", "#2a9d74", "#8d6bd1", "#c2588c", "#b08a2e")


class Ends(Protocol):
    """An interval."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def scatter(name: str, x: Iterable[float], y: Iterable[float | None], **more: Any) -> dict[str, Any]:
    """A trace in our colours; ``more`` is plotly's."""
    return {"type": "scatter", "name": name, "x": list(x), "y": list(y), **more}


def band(name: str, x: Sequence[float], found: Sequence[Ends], colour: str) -> dict[str, Any]:
    """The area between the ends of intervals, in a pale ``colour`` (``#rrggbb``)."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    ends = [*(each.high for each in found), *(each.low for each in reversed(found))]
    return scatter(
        name,
        [*x, *reversed(x)],
        ends,
        mode="lines",
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.16)",
        line={"width": 0},
        hoverinfo="skip",
    )


def points(
    name: str,
    x: Sequence[float],
    y: Sequence[float],
    bars: Sequence[Point],
    colours: Sequence[str],
    texts: Sequence[str],
) -> dict[str, Any]:
    """Marks at values with their bars, each in its colour."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "text": list(texts),
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [max(high - value, 0.0) for value, (_, high) in zip(y, bars, strict=True)],
            "arrayminus": [max(value - low, 0.0) for value, (low, _) in zip(y, bars, strict=True)],
            "thickness": 1.2,
            "width": 3,
            "color": GREY,
        },
        "marker": {"size": 8, "color": list(colours), "line": {"color": "#ffffff", "width": 1}},
        "hovertemplate": "%{text}<br>%{y:.4g}<extra></extra>",
    }


def layout(x: str, y: str, *, legend: bool = True, log: bool = True) -> dict[str, Any]:
    """Axes and legend as all pictures have them."""
    kind = {"type": "log"} if log else {}
    return {
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "hovermode": "closest",
        "showlegend": legend,
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": -0.17,
            "yanchor": "top",
            "font": {"size": 11},
            "itemwidth": 30,
        },
        "xaxis": {**axis(x), **kind},
        "yaxis": {**axis(y), **kind},
    }


def fine(axes: dict[str, Any]) -> None:
    """Ticks at 1, 2 and 5 of each decade, for axes that span few."""
    for each in ("xaxis", "yaxis"):
        axes[each]["dtick"] = "D2"


def axis(title: str) -> dict[str, Any]:
    """One axis."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": _GRID,
        "linecolor": _GRID,
        "zeroline": False,
        "automargin": True,
        "exponentformat": "e" if "rate" in title else "B",
        "tickfont": {"size": 11},
        "minor": {"showgrid": False},
    }
