"""The command ``profile``: the performance profile of a cross-workload study."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from trimtab.cli.output import Json, Study, Token, Url, out, print_json
from trimtab.client import Client
from trimtab.figures import NOTHING, duration, number
from trimtab.wire.profiles import ProfileBy, ProfileResponse


def profile(
    study: Study,
    by_seconds: Annotated[
        bool, typer.Option("--seconds", help="Compare seconds of training; by default steps.")
    ] = False,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="Trials shown, the best first.")] = 20,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Compare the trials of a cross-workload study by their times to the targets.

    A trial's profile says on which share of the workloads it takes at most
    tau times as long as the fastest trial. Its score is the area below, as in
    AlgoPerf: 1 is the fastest everywhere, 0 is nowhere within a factor of 4.

    Example: trimtab profile suite
    """
    by: ProfileBy = "seconds" if by_seconds else "steps"
    with Client(url, token) as client:
        found = client.find(study)
        answer = client.profile(found.id, by=by)
    if as_json:
        print_json(answer)
        return
    out.print(f"[bold]{escape(found.name)}[/]  times to the targets in {by}", soft_wrap=True)
    for workload in answer.workloads:
        reached = f"reached by {workload.reached} of {len(answer.trials)} trials"
        fastest = ""
        if workload.fastest is not None:
            fastest = f", first by trial {workload.fastest_trial} after {time(workload.fastest, by)}"
        out.print(
            f"  {escape(workload.name)}  [dim]{escape(str(workload.target))} within {workload.steps:,} "
            f"steps:[/] {reached}{fastest}",
            soft_wrap=True,
        )
    out.print(_table(answer, rows))
    hidden = len(answer.trials) - rows
    if hidden > 0:
        out.print(f"[dim]and {hidden} more: --rows {len(answer.trials)}[/]")


def time(value: float, by: ProfileBy) -> str:
    """A time to a target."""
    return duration(value) if by == "seconds" else f"{number(value)} steps"


def _table(answer: ProfileResponse, rows: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names = [workload.name for workload in answer.workloads]
    for heading in ("trial", "score", "reached", *names):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for trial in answer.trials[:rows]:
        label = f" ({escape(trial.label)})" if trial.label else ""
        table.add_row(
            f"{trial.number}{label}",
            f"{trial.score:.3f}",
            f"{trial.reached}/{len(names)}",
            *(
                NOTHING
                if name not in trial.times
                else duration(trial.times[name])
                if answer.by == "seconds"
                else number(trial.times[name])
                for name in names
            ),
        )
    return table
