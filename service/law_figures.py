"""Pictures of a fitted law of the optimum: the same on the page, in a notebook, in an exported file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from service.figure_parts import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LINES,
    ORANGE,
    PURPLE,
    Point,
    axis,
    band,
    fine,
    layout,
    points,
)
from trimtab.figures import count
from trimtab.wire.laws import FitFigure

Quantity = Literal["lr", "batch"]
Variable = Literal["n", "d"]

LEVELS = (0.001, 0.0025, 0.01, 0.02)
"""Contours are drawn at these excesses."""
_SCALE = ((1e-5, 0.0), (0.001, 1.0), (0.0025, 2.0), (0.01, 3.0), (0.02, 4.0), (0.06, 5.0))
"""Plotly draws contours at even distances: excesses are drawn by their place among the levels."""
_HEAT = [
    [0.0, "rgba(25,110,170,0.95)"],
    [0.2, "rgba(47,127,184,0.75)"],
    [0.4, "rgba(84,156,204,0.52)"],
    [0.6, "rgba(128,176,210,0.32)"],
    [0.8, "rgba(150,180,205,0.18)"],
    [1.0, "rgba(150,170,190,0.07)"],
]
_DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
QUANTITIES: dict[Quantity, str] = {"lr": "learning rate", "batch": "batch (tokens)"}
VARIABLES: dict[Variable, str] = {"n": "parameters N", "d": "training tokens D"}


@dataclass(frozen=True, slots=True)
class Optimum:
    """A best value with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Surface:
    """The law's loss over its least, as shares: ``excess[i][j]`` at ``batch[i]`` and ``lr[j]``."""

    lr: Sequence[float]
    batch: Sequence[float]
    excess: Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Cell:
    """All runs of one N and D, and what is thought of them."""

    n: float
    d: float
    lr: Sequence[float]
    batch: Sequence[float]
    loss: Sequence[float]
    own: Mapping[Quantity, Optimum] | None
    """The optimum of this cell's own runs; None where they do not tell it."""
    law: Mapping[Quantity, float]
    surface: Surface | None
    diverged: Sequence[Point] = ()
    """Learning rate and batch of the runs that diverged."""

    @property
    def name(self) -> str:
        return f"N {count(self.n)}, D {count(self.d)}"


@dataclass(frozen=True, slots=True)
class Published:
    """A law that others have published; None where it says nothing of a quantity."""

    name: str
    at: Callable[[float, float], Mapping[Quantity, float | None]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What a cell would have lost by following a law, as shares of its least loss."""

    cell: str
    excess: Mapping[str, float]
    """By the name of the law."""


def cell_figure(cell: Cell, at: int) -> FitFigure:
    """Runs of one cell on the law's surface, its own optimum and the law's point."""
    data: list[dict[str, Any]] = []
    if cell.surface is not None:
        data.append(_contours(cell.surface))
    least = min(cell.loss)
    excess = [loss / least - 1 for loss in cell.loss]
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "runs",
            "x": list(cell.lr),
            "y": list(cell.batch),
            "customdata": [[loss, 100 * over] for loss, over in zip(cell.loss, excess, strict=True)],
            "marker": {
                "size": 7,
                "color": [_place(over) for over in excess],
                "colorscale": _HEAT,
                "cmin": 0,
                "cmax": 5,
                "line": {"color": INK, "width": 1},
            },
            "hovertemplate": "lr %{x:.3g}, batch %{y:.4s}<br>loss %{customdata[0]:.4f}, "
            "%{customdata[1]:.2f} % over the lowest<extra></extra>",
        }
    )
    if cell.diverged:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "diverged",
                "x": [lr for lr, _ in cell.diverged],
                "y": [batch for _, batch in cell.diverged],
                "marker": {"size": 7, "symbol": "x-thin", "line": {"color": ORANGE, "width": 1.5}},
                "hovertemplate": "lr %{x:.3g}, batch %{y:.4s}<br>diverged<extra></extra>",
            }
        )
    if cell.own is not None:
        data.append(
            _mark("cell's own optimum", cell.own["lr"].value, cell.own["batch"].value, "diamond", GREEN)
        )
    data.append(_mark("the law", cell.law["lr"], cell.law["batch"], "star", ORANGE))
    axes = layout(QUANTITIES["lr"], QUANTITIES["batch"], legend=False)
    fine(axes)
    axes["xaxis"]["range"] = _span([*cell.lr, cell.law["lr"]])
    axes["yaxis"]["range"] = _span([*cell.batch, cell.law["batch"]])
    return FitFigure(
        id=f"cell-{at}",
        group="cells",
        title=cell.name,
        caption=f"{len(cell.loss)} runs; lines where the law expects 0.1, 0.25, 1 and 2 % over the "
        "least loss. Star: the law's optimum, diamond: the cell's own"
        + (", crosses: diverged." if cell.diverged else "."),
        data=data,
        layout=axes,
        height=300,
    )


def against(
    quantity: Quantity,
    variable: Variable,
    cells: Sequence[Cell],
    law: Callable[[float, float], Mapping[Quantity, Optimum]],
    published: Sequence[Published],
    target: Point | None,
) -> FitFigure:
    """The best ``quantity`` over one of N and D, with what cells differ from the law by below it."""
    other: Variable = "d" if variable == "n" else "n"
    held = _spread(sorted({_of(cell, other) for cell in cells}))
    xs = [_of(cell, variable) for cell in cells]
    wide = [*xs] if target is None else [*xs, target[0 if variable == "n" else 1]]
    grid = np.geomspace(min(wide) / 1.6, max(wide) * 1.6, 25).tolist()
    middle = held[len(held) // 2]
    data: list[dict[str, Any]] = []

    def at(x: float, fixed: float) -> Optimum:
        return law(*((x, fixed) if variable == "n" else (fixed, x)))[quantity]

    through = [at(x, middle) for x in grid]
    data.append(band("90 % interval", grid, through, BLUE))
    symbol = "D" if other == "d" else "N"
    for fixed, colour in zip(held, LINES, strict=False):
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{symbol} {count(fixed)}",
                "x": grid,
                "y": [o.value for o in through] if fixed == middle else [at(x, fixed).value for x in grid],
                "line": {"color": colour, "width": 2.4 if fixed == middle else 1.4},
                "hovertemplate": f"{symbol} {count(fixed)}<br>%{{x:.3s}}: %{{y:.3g}}<extra></extra>",
            }
        )
    for each, dash in zip(published, _DASHES, strict=False):
        ys = [each.at(*((x, middle) if variable == "n" else (middle, x)))[quantity] for x in grid]
        if all(y is None for y in ys):
            continue
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": each.name,
                "x": grid,
                "y": ys,
                "line": {"color": GREY, "width": 1.4, "dash": dash},
                "hovertemplate": f"{each.name}, {symbol} {count(middle)}<br>%{{x:.3s}}: %{{y:.3g}}"
                "<extra></extra>",
            }
        )
    told = [cell for cell in cells if cell.own is not None]
    colours = [LINES[_nearest(held, _of(cell, other))] for cell in told]
    owns = [cell.own[quantity] for cell in told if cell.own is not None]
    x = [_of(cell, variable) for cell in told]
    data.append(
        points(
            "cells",
            x,
            [o.value for o in owns],
            [(o.low, o.high) for o in owns],
            colours,
            [c.name for c in told],
        )
    )
    laws = [cell.law[quantity] for cell in told]
    ratios = [o.value / y for o, y in zip(owns, laws, strict=True)]
    bars = [(o.low / y, o.high / y) for o, y in zip(owns, laws, strict=True)]
    residuals = points("cell / law", x, ratios, bars, colours, [c.name for c in told])
    data.append({**residuals, "yaxis": "y2", "showlegend": False})
    if target is not None:
        there = law(*target)[quantity]
        data.append(
            {
                **points("target", [target[0 if variable == "n" else 1]], [there.value],
                          [(there.low, there.high)], [ORANGE],
                          [f"N {count(target[0])}, D {count(target[1])}"]),
                "name": "target",
            }
        )  # fmt: skip
    axes = layout(VARIABLES[variable], QUANTITIES[quantity], legend=True)
    fine(axes)
    axes["yaxis"]["domain"] = [0.3, 1.0]
    axes["xaxis"]["anchor"] = "y2"
    axes["yaxis2"] = {
        **axis("cell / law"),
        "type": "log",
        "domain": [0.0, 0.22],
        "range": _ratio_span(ratios),
        "tickvals": [0.2, 0.5, 0.8, 1, 1.25, 2, 5],
    }
    axes["shapes"] = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": 1, "y1": 1,
         "line": {"color": GREY, "width": 1}}
    ]  # fmt: skip
    return FitFigure(
        id=f"{quantity}-{variable}",
        group="laws",
        title=f"Best {QUANTITIES[quantity].partition(' (')[0]} against {symbol_of(variable)}",
        caption=f"Lines: the law at each {symbol}; grey: published laws at {symbol} {count(middle)}, "
        "rules from the best run of the nearest cell. "
        "Below: each cell's own optimum over the law's.",
        data=data,
        layout=axes,
        height=430,
    )


def held_out(cells: Sequence[HeldOut], *, means: Mapping[str, float]) -> FitFigure:
    """What each cell would lose by a law that never saw it, beside what the published laws lose."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.excess))
    data = [
        {
            "type": "bar",
            "name": f"{name} (mean {100 * means[name]:.3f} %)" if name in means else name,
            "x": [cell.cell.replace(", ", "<br>") for cell in cells],
            "y": [None if name not in cell.excess else 100 * cell.excess[name] for cell in cells],
            "marker": {"color": colour},
            "hovertemplate": f"{name}<br>%{{x}}: %{{y:.3f}} %<extra></extra>",
        }
        for name, colour in zip(names, (BLUE, GREY, PURPLE, ORANGE, GREEN), strict=False)
    ]
    axes = layout("", "% over the least loss", legend=True, log=False)
    axes["xaxis"] |= {"type": "category", "tickangle": -35 if len(cells) > 4 else 0}
    axes["barmode"] = "group"
    return FitFigure(
        id="held-out",
        group="checks",
        title="Excess in cells left out",
        caption="Each cell is left out, the law fitted to the others, its answer read off the cell's runs.",
        data=data,
        layout=axes,
        height=380,
    )


def symbol_of(variable: Variable) -> str:
    return "N" if variable == "n" else "D"


def _contours(surface: Surface) -> dict[str, Any]:
    return {
        "type": "contour",
        "x": list(surface.lr),
        "y": list(surface.batch),
        "z": [[_place(value) for value in row] for row in surface.excess],
        "customdata": [[100 * value for value in row] for row in surface.excess],
        "colorscale": _HEAT,
        "zmin": 0,
        "zmax": 5,
        "showscale": False,
        "contours": {"start": 1, "end": 4, "size": 1, "coloring": "heatmap"},
        "line": {"color": INK, "width": 1},
        "hovertemplate": "lr %{x:.3g}, batch %{y:.4s}<br>%{customdata:.2f} % over the least<extra></extra>",
        "name": "law",
        "showlegend": False,
    }


def _place(excess: float) -> float:
    shares, places = zip(*_SCALE, strict=True)
    return float(np.interp(math.log(max(excess, shares[0])), np.log(shares), places))


def _mark(name: str, x: float, y: float, symbol: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x],
        "y": [y],
        "marker": {
            "size": 13,
            "symbol": symbol,
            "color": colour,
            "line": {"color": "#ffffff", "width": 1.2},
        },
        "hovertemplate": f"{name}<br>lr %{{x:.3g}}, batch %{{y:.4s}}<extra></extra>",
    }


def _span(values: Sequence[float]) -> list[float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    room = 0.06 * (high - low) + 0.05
    return [low - room, high + room]


def _ratio_span(ratios: Sequence[float]) -> list[float]:
    reach = max([abs(math.log10(ratio)) for ratio in ratios] + [math.log10(1.25)]) * 1.3
    return [-reach, reach]


def _spread(values: Sequence[float]) -> list[float]:
    """At most five of them, evenly."""
    if len(values) <= len(LINES):
        return list(values)
    return [values[round(at)] for at in np.linspace(0, len(values) - 1, len(LINES))]


def _nearest(values: Sequence[float], wanted: float) -> int:
    return min(range(len(values)), key=lambda at: abs(math.log(values[at] / wanted)))


def _of(cell: Cell, variable: Variable) -> float:
    return cell.n if variable == "n" else cell.d
