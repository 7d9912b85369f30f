"""How fits of scaling laws, and what they say, look in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trimtab.cli.output import out, styled
from trimtab.figures import NOTHING, count, integer, number, span
from trimtab.laws import summary_rows
from trimtab.wire.laws import (
    Caution,
    FitCounts,
    FitDetail,
    FitItem,
    PlanResponse,
    PredictionResponse,
    Range,
)


def print_list(fits: Sequence[FitItem]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("name", min_width=12, overflow="fold")
    table.add_column("family", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("runs", justify="right")
    table.add_column("cells", justify="right")
    table.add_column("cautions", justify="right")
    for fit in fits:
        counts = fit.counts
        cautions = NOTHING if fit.cautions is None else integer(fit.cautions)
        table.add_row(
            fit.id,
            escape(fit.name),
            escape(fit.family),
            styled(fit.state),
            integer(counts.runs),
            integer(counts.cells),
            f"[red]{cautions}, grave[/]" if fit.grave else cautions,
        )
    out.print(table)


def print_fit(fit: FitDetail) -> None:
    out.print(
        f"[bold]{escape(fit.name)}[/]  {fit.id}  {escape(fit.family)}  {styled(fit.state)}", soft_wrap=True
    )
    out.print(f"[dim]{counted(fit.counts)}[/]", soft_wrap=True)
    if fit.error:
        out.print(f"[red]{escape(fit.error)}[/]", soft_wrap=True)
    if fit.summary:
        _print_summary(fit.summary)
    print_cautions(fit.found)


def print_prediction(name: str, found: PredictionResponse) -> None:
    out.print(f"[bold]{escape(name)}[/]  at N {count(found.n)}, D {count(found.d)}", soft_wrap=True)
    if not found.confident:
        out.print("[bold red]The runs cannot carry a number here; only how wide the guess is is shown.[/]")
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for label, value, unit in (
        ("learning rate", found.lr, ""),
        ("batch", found.batch, " tokens"),
        ("loss", found.loss, ""),
        ("best N for the compute", found.best_n, " "),
        ("best D for the compute", found.best_d, " tokens"),
        ("best share", found.best_share, ""),
    ):
        if value is not None:
            table.add_row(label, *_range(value, unit, found.confident))
    out.print(table)
    if found.excess is not None:
        cost = found.excess
        low, middle, high = (100 * share for share in (cost.low, cost.value, cost.high))
        out.print(
            f"your learning rate and batch cost [bold]{middle:.2f} %[/] over the least loss  "
            f"[dim]90 %: {low:.2f} to {high:.2f} %[/]",
            soft_wrap=True,
        )
    if found.plateau and found.confident:
        plateau = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("within", "learning rate", "batch"):
            plateau.add_column(heading, no_wrap=True)
        for each in found.plateau:
            lr, batch = each.lr, each.batch
            plateau.add_row(
                f"{100 * each.excess:g} %",
                f"{number(lr[0])} to {number(lr[1])}",
                f"{count(batch[0])} to {count(batch[1])}",
            )
        out.print(plateau)
    if found.forms:
        forms = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        told = ("learning rate", "batch") if found.lr is not None else ("loss",)
        for heading in ("other forms", *told):
            forms.add_column(heading, no_wrap=True)
        for form in found.forms:
            values = (number(form.lr), count(form.batch)) if found.lr is not None else (number(form.loss),)
            forms.add_row(escape(form.name), *values)
        out.print(forms)
    print_cautions(found.cautions)


def print_plan(name: str, plan: PlanResponse) -> None:
    out.print(
        f"[bold]{escape(name)}[/]  runs to add, for N {count(plan.n)}, D {count(plan.d)}", soft_wrap=True
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("N", "D", "learning rate", "batch", "FLOP"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in plan.runs:
        table.add_row(count(run.n), count(run.d), number(run.lr), count(run.batch), f"{run.flops:.3g}")
    out.print(table)
    out.print(f"{len(plan.runs)} runs, {plan.flops:.3g} FLOP in all; 90 % intervals at the target:")
    for label, now, then in (
        ("learning rate", plan.lr_now, plan.lr_then),
        ("batch", plan.batch_now, plan.batch_then),
        ("loss", plan.loss_now, plan.loss_then),
    ):
        if now is not None and then is not None:
            show = count if label == "batch" else number
            out.print(
                f"  {label}: {show(now.low)} to {show(now.high)} now, "
                f"[bold]{show(then.low)} to {show(then.high)}[/] expected after them",
                soft_wrap=True,
            )


def print_cautions(cautions: Sequence[Caution]) -> None:
    for caution in sorted(cautions, key=lambda each: not each.grave):
        style = "bold red" if caution.grave else "yellow"
        out.print(
            f"[{style}]{'!!' if caution.grave else '!'} {caution.code}:[/] {escape(caution.message)}",
            soft_wrap=True,
        )


def counted(counts: FitCounts) -> str:
    """``120 runs in 9 cells, 3 diverged; N 60M to 1.1B, D 2B to 100B``."""
    parts = [f"{integer(counts.runs)} runs in {integer(counts.cells)} cells"]
    if counts.diverged:
        parts.append(f"{integer(counts.diverged)} diverged")
    if counts.left_out:
        parts.append(f"{integer(counts.left_out)} trials left out")
    return f"{', '.join(parts)}; N {span(counts.n)}, D {span(counts.d)}"


def _range(value: Range, unit: str, confident: bool) -> tuple[Text, str]:
    show = count if unit else number
    between = f"90 %: {show(value.low)} to {show(value.high)}"
    if not confident:
        return Text("unsure", style="red"), between
    return Text(f"{show(value.value)}{unit}", style="bold"), f"[dim]{between}[/]"


def _print_summary(summary: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name, text in summary_rows(summary):
        table.add_row(f"[dim]{escape(name)}[/]", escape(text))
    out.print(table)
