"""From a fitted law and its runs to its pictures (:mod:`service.law_figures`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from search.laws import published
from search.laws.base import Runs
from search.laws.cells import Cells, gather
from search.laws.loss import LossFit
from search.laws.mixture import MixtureFit
from search.laws.optimum_law import CellFit, OptimumLaw
from service import law_figures, loss_figures, mixture_figures
from service.law_figures import Cell, HeldOut, Optimum, Published, Quantity, Surface
from trimtab.figures import count
from trimtab.wire.laws import FitFigure

MOST_CELLS = 36
"""More cells than that are not drawn one by one."""
_GRID = 33
_SAME = 0.02
"""Runs whose N and D differ from a cell's by less, as a share, are its own."""
_DEVIATIONS = 1.645
TITLES = {
    "ours": "this law",
    "step-law": "Step Law",
    "deepseek": "DeepSeek LLM",
    "square-root": "square-root rule",
    "linear": "linear rule",
}


def pictures(
    law: object, runs: Runs, summary: Mapping[str, Any], target: tuple[float, float] | None
) -> list[FitFigure]:
    """All pictures of a law; those of families that are not ours are not known here."""
    if isinstance(law, OptimumLaw):
        return _optimum(law, runs, summary, target)
    if isinstance(law, LossFit):
        return loss_figures.pictures(law, runs, target)
    if isinstance(law, MixtureFit):
        return mixture_figures.pictures(law, runs, target)
    return []


def _optimum(
    law: OptimumLaw, runs: Runs, summary: Mapping[str, Any], target: tuple[float, float] | None
) -> list[FitFigure]:
    cells, swept = [_cell(law, runs, cell) for cell in law.cells], gather(runs)

    def says(n: float, d: float) -> Mapping[Quantity, Optimum]:
        lr, batch = law.optimum(n, d)
        return {
            "lr": Optimum(lr.value, lr.low, lr.high),
            "batch": Optimum(batch.value, batch.low, batch.high),
        }

    others = [Published(TITLES[name], _form(name)) for name in ("step-law", "deepseek")]
    others += [Published(TITLES[name], _rule(name, swept)) for name in ("square-root", "linear")]
    figures = [
        law_figures.against(quantity, variable, cells, says, others, target)
        for quantity in ("lr", "batch")
        for variable in ("n", "d")
    ]
    held = [
        HeldOut(
            f"N {count(each['n'])}, D {count(each['d'])}",
            {TITLES.get(name, name): share for name, share in each["excess"].items()},
        )
        for each in summary.get("held_out", {}).get("cells", ())
    ]
    if held:
        means = {TITLES.get(name, name): share for name, share in summary["held_out"]["mean"].items()}
        figures.append(law_figures.held_out(held, means=means))
    figures += [law_figures.cell_figure(cell, at) for at, cell in enumerate(cells[:MOST_CELLS])]
    return figures


def _cell(law: OptimumLaw, runs: Runs, cell: CellFit) -> Cell:
    mine = _near(runs.n, cell.n) & _near(runs.d, cell.d)
    best_lr, best_batch = (found.value for found in law.optimum(cell.n, cell.d))
    surface = None
    if law.has_surface:
        lr = np.geomspace(*_wide([*runs.lr[mine], best_lr]), _GRID)
        batch = np.geomspace(*_wide([*runs.batch[mine], best_batch]), _GRID)
        grid_lr, grid_batch = np.meshgrid(lr, batch)
        excess = law.surface(cell.n, cell.d, grid_lr, grid_batch)
        surface = Surface(_rounded(lr), _rounded(batch), [_rounded(row) for row in excess])
    own: dict[Quantity, Optimum] = {
        "lr": _spread(cell.lr, cell.lr_error),
        "batch": _spread(cell.batch, cell.batch_error),
    }
    gone = runs.diverged
    lost = (
        _near(gone["n"], cell.n) & _near(gone["d"], cell.d)
        if len(gone.get("n", ()))
        else np.zeros(0, dtype=bool)
    )
    return Cell(
        n=cell.n,
        d=cell.d,
        lr=_rounded(runs.lr[mine]),
        batch=_rounded(runs.batch[mine]),
        loss=runs.loss[mine].tolist(),
        own=own,
        law={"lr": best_lr, "batch": best_batch},
        surface=surface,
        diverged=[
            (float(lr), float(batch))
            for lr, batch in zip(gone["lr"][lost], gone["batch"][lost], strict=True)
        ]
        if lost.any()
        else (),
    )


def _form(name: str) -> Callable[[float, float], Mapping[Quantity, float | None]]:
    def at(n: float, d: float) -> Mapping[Quantity, float | None]:
        found = next(form for form in published.laws(n, d) if form.name == name)
        return {"lr": found.lr, "batch": found.batch}

    return at


def _rule(name: str, cells: Cells) -> Callable[[float, float], Mapping[Quantity, float | None]]:
    """A rule of thumb, carried over from the cell nearest to each place."""

    def at(n: float, d: float) -> Mapping[Quantity, float | None]:
        found = next(form for form in published.rules(cells, n, d) if form.name == name)
        return {"lr": found.lr, "batch": found.batch}

    return at


def _spread(value: float, error: float) -> Optimum:
    factor = float(np.exp(_DEVIATIONS * min(error, 3.0)))
    return Optimum(value, value / factor, value * factor)


def _near(values: Any, wanted: float) -> Any:
    return np.abs(np.log(values / wanted)) < _SAME


def _wide(values: list[float]) -> tuple[float, float]:
    return min(values) / 1.25, max(values) * 1.25


def _rounded(values: Any) -> list[float]:
    """Five digits: nobody sees more, and the answer is half as long."""
    return [float(f"{value:.5g}") for value in values]
