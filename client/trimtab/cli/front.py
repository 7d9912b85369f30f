"""The command ``front``: the best trials of a study with several objectives."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trimtab.cli.output import Json, Study, Token, Url, out, print_json
from trimtab.client import Client
from trimtab.errors import TrimtabError
from trimtab.figures import number, parameter
from trimtab.wire.study import Direction
from trimtab.wire.views import FrontResponse


def front(study: Study, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """Show the Pareto front: the trials that no other dominates.

    A trial dominates another if it is worse in no objective and better in one.
    Completed trials are compared, by their last measurement; those that break
    a limit are left out.

    Example: trimtab front digits-small
    """
    with Client(url, token) as client:
        found = client.find(study)
        answer = client.front(found.id)
    if as_json:
        print_json(answer)
        return
    if not answer.trials:
        kept = " that keeps its limits" if answer.limits else ""
        raise TrimtabError(
            f"{found.name} has no completed trial{kept} yet", f"watch it with: trimtab watch {found.id}"
        )
    out.print(f"[bold]{escape(found.name)}[/]  {counted(answer)}", soft_wrap=True)
    if answer.limits:
        out.print(
            f"[dim]limits: {escape(', '.join(str(limit) for limit in answer.limits))}[/]", soft_wrap=True
        )
    out.print(_table(answer))


def counted(answer: FrontResponse) -> str:
    """How many trials are on the front, and why the others are not."""
    count = len(answer.trials)
    parts = [f"{count} trial{'s' if count != 1 else ''} on the Pareto front"]
    if answer.dominated:
        parts.append(f"{answer.dominated} dominated")
    if answer.over_limits:
        parts.append(f"{answer.over_limits} over a limit")
    return ", ".join(parts)


def _table(answer: FrontResponse) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", justify="right", no_wrap=True)
    goals = {goal.name: "↑" if goal.direction is Direction.MAXIMIZE else "↓" for goal in answer.objectives}
    names = list(dict.fromkeys([*goals, *(limit.metric for limit in answer.limits)]))
    for name in names:
        heading = Text(f"{name} {goals.get(name, '')}".rstrip(), no_wrap=True, overflow="ellipsis")
        table.add_column(heading, justify="right", no_wrap=True, max_width=22)
    table.add_column("parameters")
    for trial in answer.trials:
        params = Text("", no_wrap=True, overflow="ellipsis")
        if trial.label:
            params.append(f"({trial.label})  ", style="bold")
        for name, value in trial.params.items():
            params.append(f"{name} ", style="dim").append(f"{parameter(value)}  ")
        table.add_row(str(trial.number), *(number(trial.outcomes.get(name)) for name in names), params)
    return table
