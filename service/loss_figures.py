"""The pictures of a fitted law of the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from search.laws.base import Runs
from search.laws.loss import LossFit, lowest_of_cells
from service.figure_parts import BLUE, GREY, LINES, ORANGE, band, layout, scatter
from trimtab.figures import count
from trimtab.wire.laws import FitFigure


def pictures(law: LossFit, runs: Runs, target: tuple[float, float] | None) -> list[FitFigure]:
    """Losses over compute beside the law's best, the best N and D for a compute, and residuals."""
    return [_frontier(law, runs, target), _best_size(law, runs, target), _residuals(law, runs)]


def _frontier(law: LossFit, runs: Runs, target: tuple[float, float] | None) -> FitFigure:
    flops = 6 * runs.n * runs.d
    grid = np.geomspace(flops.min() / 2, _top(flops, target) * 2, 40)
    sizes = [law.compute_optimal(float(c))[0].value for c in grid]
    best = [law.predict(n, float(c) / 6 / n).loss for n, c in zip(sizes, grid, strict=True)]
    data = [
        band("90 % interval", grid.tolist(), best, BLUE),
        scatter(
            "best at its compute",
            grid,
            [b.value for b in best],
            mode="lines",
            line={"color": BLUE, "width": 2.2},
        ),
        scatter(
            "runs",
            flops,
            runs.loss.tolist(),
            mode="markers",
            marker={"size": 6, "color": GREY, "opacity": 0.7},
            text=[f"N {count(n)}, D {count(d)}" for n, d in zip(runs.n, runs.d, strict=True)],
            hovertemplate="%{text}<br>%{x:.3g} FLOP, loss %{y:.4f}<extra></extra>",
        ),
    ]
    if target is not None:
        loss = law.predict(*target).loss
        data.append(
            _target(
                [6 * target[0] * target[1]], [loss.value], loss.high - loss.value, loss.value - loss.low
            )
        )
    return _figure(
        "loss",
        "Loss against compute",
        "The law at the best split of each compute, and the runs.",
        data,
        "FLOP",
        "loss",
    )


def _best_size(law: LossFit, runs: Runs, target: tuple[float, float] | None) -> FitFigure:
    flops = 6 * runs.n * runs.d
    grid = np.geomspace(flops.min() / 2, _top(flops, target) * 2, 30)
    found = [law.compute_optimal(float(c)) for c in grid]
    data = []
    for at, (name, colour) in enumerate((("best N", BLUE), ("best D", LINES[1]))):
        own = [pair[at] for pair in found]
        data.append({**band(f"{name}, 90 %", grid.tolist(), own, colour), "showlegend": False})
        data.append(
            scatter(name, grid, [o.value for o in own], mode="lines", line={"color": colour, "width": 2.2})
        )
    if target is not None:
        data.append(_target([6 * target[0] * target[1]] * 2, list(target)))
    caption = "Parameters and tokens on which each compute is best spent, with 90 % intervals."
    return _figure("best-size", "Best N and D for a compute", caption, data, "FLOP", "N, D")


def _residuals(law: LossFit, all_runs: Runs) -> FitFigure:
    runs = lowest_of_cells(all_runs)
    expected = np.array([float(law.loss(n, d)[0]) for n, d in zip(runs.n, runs.d, strict=True)])
    off = 100 * np.log(runs.loss / expected)
    data = [
        scatter(
            "runs",
            runs.n,
            off.tolist(),
            mode="markers",
            marker={"size": 6, "color": BLUE, "opacity": 0.75},
            text=[f"D {count(d)}" for d in runs.d],
            hovertemplate="N %{x:.3s}, %{text}<br>%{y:.2f} %<extra></extra>",
        )
    ]
    figure = _figure(
        "residuals",
        "What runs differ from the law by",
        "The lowest loss of each cell over what the law expects; a bend over N says that it does not hold.",
        data,
        "parameters N",
        "% over the law",
        log_y=False,
    )
    # Runs that the fit passes over, being robust, must not flatten the others.
    reach = float(np.quantile(np.abs(off), 0.98)) * 1.3 + 0.05
    figure.layout["yaxis"]["range"] = [-reach, reach]
    return figure


def _figure(
    key: str, title: str, caption: str, data: list[dict[str, Any]], x: str, y: str, *, log_y: bool = True
) -> FitFigure:
    axes = layout(x, y)
    if not log_y:
        axes["yaxis"]["type"] = "linear"
    return FitFigure(id=key, group="laws", title=title, caption=caption, data=data, layout=axes, height=400)


def _target(x: list[float], y: list[float], above: float = 0.0, below: float = 0.0) -> dict[str, Any]:
    bars = {"type": "data", "symmetric": False, "array": [above] * len(x), "arrayminus": [below] * len(x)}
    marker = {"size": 10, "color": ORANGE, "line": {"color": "#ffffff", "width": 1}}
    return scatter("target", x, y, mode="markers", marker=marker, error_y={**bars, "color": ORANGE})


def _top(flops: Any, target: tuple[float, float] | None) -> float:
    return max(float(flops.max()), 0.0 if target is None else 6 * target[0] * target[1])
