"""The command ``stops``: early stops seen again."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trimtab.cli.output import Json, Study, Token, Url, out, print_json
from trimtab.client import Client
from trimtab.figures import number, percent
from trimtab.wire.views import Stop, StopsReplay, StudyDetail

RISKY = 0.05
"""From this chance of having been the best on, a stop is shown as doubtful."""


def stops(study: Study, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """Show every early stop: why, what it saved, and what it would have cost.

    Example: trimtab stops gpt-lr
    """
    with Client(url, token) as client:
        found = client.study(client.find(study).id)
        replay = client.stops(found.id)
    if as_json:
        print_json(replay)
        return
    if not replay.items:
        out.print(f"no trial of {escape(found.name)} has been stopped early")
        return
    out.print(_totals(replay, found), soft_wrap=True)
    out.print(_cost(replay), soft_wrap=True)
    out.print(_table(replay.items, found))


def _totals(replay: StopsReplay, study: StudyDetail) -> str:
    unit = escape(study.spec.fidelity.unit)
    count = len(replay.items)
    if study.savings.useful is not None:
        were = "trials were" if count != 1 else "trial was"
        return f"{count} {were} stopped early: others, mostly forks, were trained in their place"
    saved = f"{count} trial{'s' if count != 1 else ''} stopped early saved [bold]{replay.saved:,}[/] {unit}"
    if replay.factor is None:
        return saved
    share = percent(1 - 1 / replay.factor)
    return f"{saved}, [bold]{share}[/]  [dim]without them {replay.factor:.1f} times as much training[/]"


def _cost(replay: StopsReplay) -> str:
    if replay.expected_loss is None:
        return "[dim]too few trials were trained to the end to say what they would have reached[/]"
    lost = replay.expected_loss
    style = "red" if lost >= 0.5 else "yellow" if lost >= RISKY else "green"
    text = f"expected number of best trials lost: [{style}]{lost:.2g}[/]"
    left_out = ""
    if replay.unpredicted:
        left_out = f", {replay.unpredicted} stop{'s' if replay.unpredicted != 1 else ''} left out"
    return f"{text}  [dim]as {replay.learned_from} finished trials say now{left_out}[/]"


def _table(items: list[Stop], study: StudyDetail) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("trial", study.spec.fidelity.unit, "best", "would end at", "90 %", "chance"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for item in items:
        table.add_row(
            str(item.trial),
            number(item.step),
            number(item.best_value),
            number(item.predicted),
            "" if item.low is None else f"{number(item.low)} to {number(item.high)}",
            _chance(item.chance),
            Text(item.reason, style="dim", no_wrap=True, overflow="ellipsis"),
        )
    return table


def _chance(chance: float | None) -> Text:
    """Of having been the best; in colour where it is not small."""
    if chance is None:
        return Text("–")
    return Text(percent(chance) if chance >= 1e-6 else "0%", style="yellow" if chance >= RISKY else "")
