"""How a study looks in a terminal while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from trimtab.cli import seeds
from trimtab.cli.front import counted
from trimtab.cli.output import sparkline, styled
from trimtab.client import ENDED, Client
from trimtab.errors import NotFoundError
from trimtab.figures import NOTHING, count, duration, number, parameter, percent, spent
from trimtab.strategy_check import ALONG
from trimtab.wire.importances import Pruning
from trimtab.wire.laws import Range, ScalingProgress
from trimtab.wire.states import StudyState
from trimtab.wire.study import StudySpec
from trimtab.wire.views import BudgetUse, DecisionView, FrontResponse, StudyDetail, StudySummary

LABEL_WIDTH = 12
MOST_DECISIONS = 5
MOST_PARAMETERS = 12


@dataclass(frozen=True)
class Snapshot:
    """All that the view shows."""

    summary: StudySummary
    curve_steps: list[int] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    """The best trial's curve of the tuned metric."""
    decisions: list[DecisionView] = field(default_factory=list)
    """Newest first."""
    front: FrontResponse | None = None
    """Of a study with several objectives."""

    @property
    def study(self) -> StudyDetail:
        return self.summary.study


def look(client: Client, study: str) -> Snapshot:
    """The study as it stands now."""
    summary = client.summary(study)
    steps: list[int] = []
    values: list[float] = []
    if summary.study.best is not None:
        try:
            points = client.trial(study, summary.study.best.number).curve
        except NotFoundError:
            points = []
        measured = [
            (p.step, p.metrics[summary.study.metric]) for p in points if summary.study.metric in p.metrics
        ]
        steps, values = [step for step, _ in measured], [value for _, value in measured]
    decisions = client.decisions(study, limit=MOST_DECISIONS).items
    front = client.front(study) if summary.study.spec.objectives else None
    return Snapshot(summary, steps, values, decisions, front)


def render(snapshot: Snapshot, width: int, *, notice: str = "") -> RenderableType:
    """The view for a terminal ``width`` columns wide; ``notice`` is a line about the view itself."""
    study = snapshot.study
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(style="dim", width=LABEL_WIDTH, no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    inner = max(20, width - LABEL_WIDTH - 2)
    grid.add_row("trials", _trials(study, inner))
    grid.add_row("best", _best(snapshot, inner))
    if study.finals is not None:
        grid.add_row("final score", seeds.progress(study.finals, study.spec))
    if snapshot.front is not None:
        grid.add_row("front", counted(snapshot.front))
    if snapshot.curve:
        grid.add_row("curve", _curve(snapshot, inner))
    if len(snapshot.summary.best_so_far) > 1:
        points = [point.value for point in snapshot.summary.best_so_far]
        ends = f"  {number(points[0])} → {number(points[-1])}"
        line = sparkline(points, max(8, min(48, inner - len(ends))))
        grid.add_row("best so far", Text.assemble((line, "green"), (ends, "dim")))
    for at, use in enumerate(study.budget):
        grid.add_row("budget" if at == 0 else "", _budget(use, study, inner))
    if study.savings.trained:
        grid.add_row("early stops" if study.savings.useful is None else "training", _savings(study))
    if study.scaling is not None:
        for at, told in enumerate(_law(study.scaling)):
            grid.add_row("law" if at == 0 else "", told)
    if study.pruning is not None and (pruned := _pruned(study.pruning, inner)):
        grid.add_row("pruned", pruned)
    grid.add_row("time", _time(study))
    if study.sources:
        names = [source.name or f"{source.id} (deleted)" for source in study.sources]
        grid.add_row("learns from", escape(", ".join(names)))
    for at, decision in enumerate(snapshot.decisions[:MOST_DECISIONS]):
        grid.add_row("decisions" if at == 0 else "", _decision(decision))
    parts: list[RenderableType] = [_title(study, width), Rule(style="dim"), grid]
    if study.state == StudyState.FAILED and study.state_reason:
        parts.append(Text.from_markup(f"[bold red]failed:[/] {escape(study.state_reason)}"))
    if study.decide_error:
        parts.append(Text.from_markup(f"[bold red]search:[/] {escape(study.decide_error)}"))
    if study.waiting_for:
        parts.append(Text(f"waiting: {study.waiting_for}", style="yellow"))
    if notice:
        parts.append(Text(notice, style="yellow"))
    return Group(*parts)


def line(study: StudyDetail) -> str:
    """The study in one line, for logs."""
    counts = ", ".join(f"{count} {name}" for name, count in study.trials.model_dump().items() if count)
    best = "" if study.best is None else f" | best {number(study.best.value)} (trial {study.best.number})"
    if study.finals is not None:
        tested = study.finals.best
        done = sum(seed.value is not None for score in study.finals.scores for seed in score.seeds)
        runs = sum(len(score.seeds) for score in study.finals.scores)
        best += f" | {done} of {runs} tested" if tested is None else f" | final {number(tested.mean)}"
    used = f" | budget {percent(max((use.fraction for use in study.budget), default=0.0))}"
    left = f" | left {duration(study.eta_seconds)}" if study.eta_seconds is not None else ""
    total = study.trials.total
    trials = f"{total} trial{'s' if total != 1 else ''}" + (f" ({counts})" if counts else "")
    waiting = f" | {study.waiting_for}" if study.waiting_for else ""
    progress = f"{trials}{best}{used}{left}{waiting}"
    return f"{duration(study.elapsed_seconds):>9} | {study.name} {study.state} | {progress}"


def _title(study: StudyDetail, width: int) -> Table:
    """On one line where there is room, else on two: neither the state nor the metric may be cut off."""
    shown = study.state_reason and study.state != StudyState.FAILED
    reason = f" [dim]{escape(study.state_reason)}[/]" if shown else ""
    goals = [f"{goal.name} {'↓' if goal.direction == 'minimize' else '↑'}" for goal in study.spec.goals]
    wanted = ", ".join([*goals, *(str(limit) for limit in study.spec.limits)])
    trainer = escape(study.trainer.rpartition("/")[2])
    name = f"[bold]{escape(study.name)}[/]  {styled(study.state)}{reason}"
    about = f"[dim]{study.strategy} · {trainer} · {escape(wanted)}[/]"
    title = Table.grid(expand=True, padding=(0, 2))
    title.add_column(ratio=1, overflow="fold")
    if _length(name) + _length(about) + 2 <= width:
        title.add_column(no_wrap=True, justify="right")
        title.add_row(name, about)
    else:
        title.add_row(name)
        title.add_row(about)
    return title


def _length(markup: str) -> int:
    return Text.from_markup(markup).cell_len


def _flow(items: list[str], width: int) -> str:
    """Pieces of markup two spaces apart, with line breaks between pieces only."""
    lines: list[str] = []
    for item in items:
        if lines and _length(lines[-1]) + 2 + _length(item) <= width:
            lines[-1] += f"  {item}"
        else:
            lines.append(item)
    return "\n".join(lines)


def _trials(study: StudyDetail, inner: int) -> str:
    counts = study.trials.model_dump()
    parts = [f"[bold]{count}[/] {styled(name)}" for name, count in counts.items() if count]
    return _flow([f"[bold]{study.trials.total}[/]", *parts], inner)


def what_counts(spec: StudySpec) -> str:
    """What a measurement must be to be the study's best, behind a blank; empty if any can be."""
    along = spec.strategy.options.get(ALONG)
    if along is not None:
        return f" at the highest {escape(str(along))}"
    if spec.seeds.several:
        return f" with all {len(spec.seeds.tuning)} tuning seeds"
    return " that keeps the limits" if spec.limits else ""


def _best(snapshot: Snapshot, inner: int) -> str:
    best, study = snapshot.study.best, snapshot.study
    if best is None:
        return f"[dim]nothing measured{what_counts(study.spec)} yet[/]"
    label = f" ({escape(best.label)})" if best.label else ""
    text = f"[bold green]{number(best.value)}[/] {study.metric}  [dim]trial {best.number}{label} at "
    text += f"{number(best.step)} {escape(study.spec.fidelity.unit)}{seeds.over(best)}[/]"
    default = snapshot.summary.default
    if default is not None and default.number != best.number:
        text += f"  [dim]default {number(default.value)}[/]"
    params = [
        f"[dim]{name}[/] {escape(parameter(v))}" for name, v in list(best.params.items())[:MOST_PARAMETERS]
    ]
    more = len(best.params) - len(params)
    if more:
        params.append(f"[dim]and {more} more[/]")
    return "\n".join([text, _flow(params, inner)]) if params else text


def _curve(snapshot: Snapshot, inner: int) -> Text:
    ends = f"  {number(snapshot.curve[0])} → {number(snapshot.curve[-1])}"
    blocks = sparkline(snapshot.curve, max(8, min(48, inner - len(ends))))
    return Text.assemble((blocks, "cyan"), (ends, "dim"))


def _budget(use: BudgetUse, study: StudyDetail, inner: int) -> Table:
    units = {
        "trials": ("trials", number),
        "fidelity": (study.spec.fidelity.unit, number),
        "gpu_hours": ("GPU hours", number),
        "wall_clock_seconds": ("", duration),
        "target": (f"target {study.metric}", number),
    }
    unit, form = units[use.name]
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=max(10, min(30, inner - 45)))
    row.add_column(justify="right", width=5)
    row.add_column(no_wrap=True, overflow="ellipsis")
    used = NOTHING if use.used is None else form(use.used)
    # A limit is as somebody wrote it: 0.5, not 0.5000.
    limit = parameter(use.limit) if form is number else form(use.limit)
    row.add_row(
        ProgressBar(total=1.0, completed=use.fraction, complete_style="cyan", finished_style="green"),
        percent(use.fraction),
        f"{used} of {limit} {escape(unit)}".rstrip(),
    )
    return row


def _savings(study: StudyDetail) -> str:
    savings, unit = study.savings, escape(study.spec.fidelity.unit)
    if savings.useful is not None:
        return spent(savings.useful, savings.trained, unit)
    return (
        f"[bold]{percent(savings.fraction_saved)}[/] saved  "
        f"[dim]{savings.trained:,} {unit} trained instead of {savings.full:,}[/]"
    )


def _pruned(pruning: Pruning, inner: int) -> str:
    """What is frozen or narrowed; empty if nothing is."""
    frozen = [f"[dim]{name} =[/] {escape(parameter(value))}" for name, value in pruning.frozen.items()]
    ranges = [
        f"[dim]{name}[/] {escape(parameter(low))} [dim]to[/] {escape(parameter(high))}"
        for name, (low, high) in pruning.ranges.items()
    ]
    return _flow([*ranges, *frozen], inner)


def _law(progress: ScalingProgress) -> list[str]:
    """What a scaling study knows of its target, and how to ask for more."""
    target = f"at N {count(progress.n)}, D {count(progress.d)}"
    if not progress.rounds:
        return [f"{target}: [dim]fitted when the first sweep has ended[/]"]
    last, lines = progress.rounds[-1], []
    style = "dim" if last.cautions else "bold"  # what is not known does not stand out
    for name, show in (("lr", number), ("batch", count)):
        now: Range = getattr(last, name)
        shrank = " → ".join(f"{getattr(each, name).factor:.3g}" for each in progress.rounds[-5:])
        unit = " tokens" if name == "batch" else ""
        lines.append(
            f"{target}: {name} [{style}]{show(now.value)}[/]{unit}  {show(now.low)} to {show(now.high)}  "
            f"[dim]within a factor of {shrank}[/]"
        )
    if last.cautions:
        lines.append(f"[red]not to be taken for known:[/] {escape(', '.join(last.cautions))}")
    lines += [
        f"[dim]trimtab law predict {fit.id} --n {progress.n:.3g} --d {progress.d:.3g}[/]"
        for fit in progress.fits[:1]
    ]
    return lines


def _time(study: StudyDetail) -> str:
    text = duration(study.elapsed_seconds)
    if study.state not in ENDED and study.eta_seconds is not None and not study.waiting_for:
        text += f"  [dim]about[/] {duration(study.eta_seconds)} [dim]left[/]"
    return text


def _decision(decision: DecisionView) -> Text:
    trial = "" if decision.trial is None else f" trial {decision.trial}"
    target = "" if decision.target_step is None else f" to {decision.target_step:,}"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{decision.kind}{trial}{target}", style="bold")
    text.append(f"  {decision.reason}", style="dim")
    return text
