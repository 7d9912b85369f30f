"""The pictures of a fitted mixture law."""

from __future__ import annotations

from typing import Any

import numpy as np

from search.laws.base import Runs
from search.laws.mixture import MixtureFit, best_share
from service.figure_parts import BLUE, LINES, ORANGE, band, layout, points, scatter
from trimtab.figures import count
from trimtab.wire.laws import FitFigure

_GRID = 61


def pictures(law: MixtureFit, runs: Runs, target: tuple[float, float] | None) -> list[FitFigure]:
    """Losses against the share, the best share against compute, and residuals."""
    assert runs.share is not None
    return [_losses(law, runs, runs.share, target), _best(law, target), _residuals(law, runs, runs.share)]


def _losses(law: MixtureFit, runs: Runs, share: Any, target: tuple[float, float] | None) -> FitFigure:
    grid = np.linspace(*law.shares, _GRID)
    data: list[dict[str, Any]] = []
    for (n, d), colour in zip(_shown(law), LINES, strict=False):
        name, best = f"N {count(n)}, D {count(d)}", best_share([(law, 1.0)], n, d).value
        mine = (runs.n == n) & (runs.d == d)
        line = {"color": colour, "width": 1.6}
        data.append(scatter(name, grid, law.losses(n, d, grid)[0].tolist(), mode="lines", line=line))
        data.append(
            {
                **scatter(name, share[mine], runs.loss[mine].tolist(), mode="markers"),
                "marker": {"size": 7, "color": colour, "line": {"color": "#ffffff", "width": 1}},
                "showlegend": False,
                "hovertemplate": f"{name}<br>share %{{x:.3g}}, loss %{{y:.4f}}<extra></extra>",
            }
        )
        data.append(_star(best, float(law.losses(n, d, np.array([best]))[0, 0]), colour, name))
    if target is not None:
        here = [law.predict(*target, share=float(at)).loss for at in grid]
        best = best_share([(law, 1.0)], *target).value
        middle = float(law.losses(*target, np.array([best]))[0, 0])
        line = {"color": ORANGE, "width": 2.2}
        data.append(band("target, 90 %", grid.tolist(), here, ORANGE))
        data.append(scatter("target", grid, [each.value for each in here], mode="lines", line=line))
        data.append(_star(best, middle, ORANGE, "target"))
    return _figure(
        "share",
        "Loss against the share",
        "Lines: the law at some of the sizes that were run, with their runs; stars: the best share "
        "between those that were run.",
        data,
        "share of the domain",
        "loss",
    )


def _best(law: MixtureFit, target: tuple[float, float] | None) -> FitFigure:
    cells = np.unique(law.cells[:, :2], axis=0)
    cells = cells[np.argsort(cells.prod(axis=1), kind="stable")]
    found = [best_share([(law, 1.0)], n, d) for n, d in cells]
    data = [
        points(
            "sizes that were run",
            (6 * cells.prod(axis=1)).tolist(),
            [each.value for each in found],
            [(each.low, each.high) for each in found],
            [BLUE] * len(cells),
            [f"N {count(n)}, D {count(d)}" for n, d in cells],
        )
    ]
    if target is not None:
        there = best_share([(law, 1.0)], *target)
        told = f"N {count(target[0])}, D {count(target[1])}"
        flops = 6 * target[0] * target[1]
        data.append(points("target", [flops], [there.value], [(there.low, there.high)], [ORANGE], [told]))
    figure = _figure(
        "best-share",
        "Best share against compute",
        "The share with the lowest loss, with its 90 % interval, between the shares that were run.",
        data,
        "FLOP",
        "best share",
    )
    figure.layout["xaxis"]["type"] = "log"
    room = 0.05 * (law.shares[1] - law.shares[0])
    figure.layout["yaxis"]["range"] = [law.shares[0] - room, law.shares[1] + room]
    return figure


def _residuals(law: MixtureFit, runs: Runs, share: Any) -> FitFigure:
    expected = np.array(
        [law.losses(n, d, np.array([r]))[0, 0] for n, d, r in zip(runs.n, runs.d, share, strict=True)]
    )
    data = [
        scatter(
            "runs",
            share,
            (100 * np.log(runs.loss / expected)).tolist(),
            mode="markers",
            marker={"size": 6, "color": BLUE, "opacity": 0.75},
            text=[f"N {count(n)}, D {count(d)}" for n, d in zip(runs.n, runs.d, strict=True)],
            hovertemplate="%{text}<br>share %{x:.3g}: %{y:.2f} %<extra></extra>",
        )
    ]
    return _figure(
        "residuals",
        "What runs differ from the law by",
        "A bend over the share says that the law does not hold.",
        data,
        "share of the domain",
        "% over the law",
    )


def _shown(law: MixtureFit) -> list[tuple[float, float]]:
    """At most so many (N, D) as there are colours, evenly by compute."""
    cells = np.unique(law.cells[:, :2], axis=0)
    cells = cells[np.argsort(cells.prod(axis=1), kind="stable")]
    places = np.linspace(0, len(cells) - 1, min(len(cells), len(LINES))).round().astype(int)
    return [(float(n), float(d)) for n, d in cells[places]]


def _star(x: float, y: float, colour: str, name: str) -> dict[str, Any]:
    marker = {"size": 12, "symbol": "star", "color": colour, "line": {"color": "#ffffff", "width": 1}}
    told = f"{name}<br>best share %{{x:.3g}}, loss %{{y:.4f}}<extra></extra>"
    more = {"showlegend": False, "hovertemplate": told}
    return scatter("best share", [x], [y], mode="markers", marker=marker, **more)


def _figure(key: str, title: str, caption: str, data: list[dict[str, Any]], x: str, y: str) -> FitFigure:
    axes = layout(x, y, log=False)
    return FitFigure(id=key, group="laws", title=title, caption=caption, data=data, layout=axes, height=400)
