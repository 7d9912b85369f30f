"""The command ``trimtab importances``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trimtab.cli.output import Json, Study, Token, Url, out, print_json
from trimtab.client import Client
from trimtab.figures import integer, percent
from trimtab.wire.importances import (
    Importance,
    ImportanceBasis,
    ImportanceMethod,
    Ranking,
)

TITLES = {
    ImportanceMethod.PED_ANOVA: "PED-ANOVA",
    ImportanceMethod.FANOVA: "fANOVA",
    ImportanceMethod.SOBOL: "Sobol",
}
MEANINGS = {
    ImportanceMethod.PED_ANOVA: "what tells the best trials from all",
    ImportanceMethod.FANOVA: "share of the variance over the whole space",
    ImportanceMethod.SOBOL: "the same by a Gaussian process; ░ with interactions",
}
NAME_WIDTH = 24
SHORTEST_BAR, LONGEST_BAR = 4, 30
EIGHTHS = " ▏▎▍▌▋▊▉"


def importances(
    study: Study,
    method: Annotated[
        ImportanceMethod | None, typer.Option("--method", "-m", help="One method alone.")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show how much each parameter matters, from the trials so far.

    Example: trimtab importances gpt-lr --method sobol
    """
    with Client(url, token) as client:
        found = client.find(study)
        answer = client.importances(found.id, method)
    if as_json:
        print_json(answer)
        return
    out.print(f"[bold]{escape(found.name)}[/]  what matters for {escape(found.metric)}", soft_wrap=True)
    out.print(f"[dim]from {_basis(answer.basis)}[/]\n")
    rankings = [ranking for ranking in answer.rankings if ranking.importances]
    if rankings:
        out.print(_table(rankings, out.width))
        out.print()
    for ranking in answer.rankings:
        title = TITLES[ranking.method]
        if ranking.importances:
            out.print(f"[bold]{title}[/] [dim]{MEANINGS[ranking.method]}{_explained(ranking)}[/]")
        for note in ranking.notes:
            out.print(f"[yellow]{title}: {escape(note)}[/]")


def prune(
    study: Study,
    undo: Annotated[bool, typer.Option("--undo", help="Search the whole space again.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Let a study leave out parts of its space, or take that back.

    As `prune: true` in its file: parameters that do not matter are frozen,
    ranges narrowed to the good region. `trimtab show STUDY` says which; the
    study's page says why, too.

    Example: trimtab prune gpt-lr --undo
    """
    with Client(url, token) as client:
        found = client.find(study)
        detail = client.unprune(found.id) if undo else client.prune(found.id)
    if as_json:
        print_json(detail)
    elif undo:
        out.print(f"{escape(detail.name)} searches its whole space", soft_wrap=True)
    else:
        out.print(f"{escape(detail.name)} may leave out parts of its space", soft_wrap=True)


def _table(rankings: list[Ranking], width: int) -> Table:
    """A row for each parameter, the most important first; a column of bars for each method."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    names = [row.parameter for row in rankings[0].importances]
    by_method = [{row.parameter: row for row in ranking.importances} for ranking in rankings]
    names.sort(key=lambda name: -sum(_weight(rows[name]) for rows in by_method))
    longest = min(NAME_WIDTH, width // 4, max(len(name) for name in names))
    figures = (max(len(_figures(row)) for row in ranking.importances) for ranking in rankings)
    room = (width - longest - sum(figures)) // len(rankings) - 3
    bars = max(SHORTEST_BAR, min(LONGEST_BAR, room))
    table.add_column("", width=longest, no_wrap=True, overflow="ellipsis")
    for ranking in rankings:
        table.add_column(Text(TITLES[ranking.method], style="bold"), no_wrap=True)
    for name in names:
        table.add_row(Text(name), *(_cell(rows[name], bars) for rows in by_method))
    return table


def _cell(row: Importance, width: int) -> Text:
    return Text.assemble((bar(row.importance, row.total, width), "cyan"), f" {_figures(row)}")


def _figures(row: Importance) -> str:
    alone = f"{percent(row.importance):>4}"
    return alone if row.total is None else f"{alone} /{percent(row.total):>4}"


def bar(alone: float, total: float | None, width: int) -> str:
    """A bar of ``width`` columns: full blocks for ``alone``, pale ones from there to ``total``."""
    eighths = round(alone * width * 8)
    drawn = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
    pale = max(0, round((total or 0.0) * width) - len(drawn))
    return (drawn + "░" * pale).ljust(width)


def _weight(row: Importance) -> float:
    return row.importance if row.total is None else row.total


def _basis(basis: ImportanceBasis) -> str:
    parts = [f"{integer(basis.measured)} trial{'' if basis.measured == 1 else 's'} trained to the end"]
    if basis.predicted:
        parts.append(f"{integer(basis.predicted)} whose end is predicted")
    if basis.worst:
        parts.append(f"{integer(basis.worst)} that failed or broke a limit and count as the worst")
    if basis.left_out:
        parts.append(f"{integer(basis.left_out)} without a result left out")
    return ", ".join(parts)


def _explained(ranking: Ranking) -> str:
    if ranking.explained is None:
        return ""
    return f"; it predicts {percent(ranking.explained)} of the differences between unseen trials"
