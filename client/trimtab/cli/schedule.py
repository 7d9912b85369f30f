"""The command ``schedule``: the learning-rate schedule that a study has found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from trimtab import schedule_plot
from trimtab.cli.output import Json, Study, Token, Url, out, print_json, sparkline
from trimtab.client import Client
from trimtab.errors import TrimtabError
from trimtab.figures import integer, number, spent
from trimtab.wire.views import ScheduleView

_BLOCKS = 60
"""Width of the picture."""


def schedule(
    study: Study,
    trial: Annotated[
        int | None, typer.Option("--trial", "-t", min=1, help="Of this trial; by default of the best.")
    ] = None,
    horizon: Annotated[
        int | None, typer.Option("--horizon", min=1, help="Lay it out over so many steps.")
    ] = None,
    python: Annotated[
        bool, typer.Option("--python", help="Print a Python file that makes a torch scheduler of it.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw it into this file: .svg or .html.", dir_okay=False)
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show the learning-rate schedule of a trial, over the whole line of its forks.

    Example: trimtab schedule lr-schedule --python > lr_schedule.py
    """
    if plot is not None and plot.suffix not in (".svg", ".html"):
        raise TrimtabError(f"{plot} cannot be drawn", "name a file that ends in .svg or .html")
    with Client(url, token) as client:
        found = client.study(client.find(study).id)
        answer = client.schedule(found.id, trial=trial, horizon=horizon)
    if plot is not None:
        plot.write_text(schedule_plot.draw(answer, found, html=plot.suffix == ".html"), encoding="utf-8")
    if as_json:
        print_json(answer)
        return
    if python:
        print(answer.torch, end="")
        return
    unit, metric = escape(found.spec.fidelity.unit), escape(found.spec.metric.name)
    line = " → ".join(str(each) for each in answer.line)
    out.print(
        f"[bold]{escape(found.name)}[/]  trial {line}, {number(answer.value)} {metric}", soft_wrap=True
    )
    laid_out = "" if horizon is None else f"  [dim]laid out over {integer(horizon)} {unit}[/]"
    cost = spent(answer.useful, answer.useful + answer.search, unit)
    out.print(f"{cost}{laid_out}", soft_wrap=True)
    out.print(sparkline(rates(answer, _BLOCKS), _BLOCKS))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", justify="right")
    table.add_column("learning rate", justify="right")
    for step, rate in answer.points:
        table.add_row(integer(step), number(rate))
    out.print(table)


def rates(schedule: ScheduleView, count: int) -> list[float]:
    """The rates at ``count`` steps, evenly from the first to the last."""
    points = schedule.points
    found, place = [], 0
    for at in range(count):
        step = at * max(0, schedule.steps - 1) / max(1, count - 1)
        while place + 1 < len(points) and points[place + 1][0] <= step:
            place += 1
        left, low = points[place]
        right, high = points[min(place + 1, len(points) - 1)]
        share = min(1.0, max(0.0, (step - left) / (right - left))) if right > left else 0.0
        found.append(low + share * (high - low))
    return found
