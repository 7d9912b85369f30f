"""Commands about studies: validate, submit, list, show, best."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trimtab import study_file, warm_start
from trimtab.cli import seeds, view
from trimtab.cli import watch as watching
from trimtab.cli.output import (
    Json,
    Study,
    Token,
    Url,
    err,
    out,
    print_json,
    styled,
)
from trimtab.client import Client
from trimtab.errors import TrimtabError
from trimtab.figures import duration, exact, number, parameter, percent, words
from trimtab.wire.states import StudyState
from trimtab.wire.study import StudySpec
from trimtab.wire.views import BestTrial, StudyDetail, TrialDetail

File = Annotated[Path, typer.Argument(metavar="FILE", help="A study file, YAML or JSON.")]


def validate(file: File, as_json: Json = False) -> None:
    """Check a study file without a server: every mistake, with its line and a suggestion.

    Example: trimtab validate study.yaml
    """
    try:
        spec = study_file.load(file)
    except study_file.InvalidStudyFileError as error:
        if not as_json:
            raise
        print_json({"valid": False, "file": str(file), "problems": study_file.to_json(error.mistakes)})
        raise typer.Exit(1) from error
    if as_json:
        print_json({"valid": True, "file": str(file), "problems": []})
        return
    out.print(
        f"[green]✓[/] {escape(str(file))}: study [bold]{escape(spec.name)}[/], "
        f"{len(spec.space)} parameter{'s' if len(spec.space) != 1 else ''}, "
        f"{spec.strategy.name}, {', '.join(_wanted(spec))}",
        soft_wrap=True,
    )
    _print_seeds(spec)


def _print_seeds(spec: StudySpec) -> None:
    if words := seeds.planned(spec):
        out.print(f"  {escape(words)}", style="dim", soft_wrap=True)


def _wanted(spec: StudySpec) -> list[str]:
    """What the study is after, in words."""
    goals = [f"{goal.direction} {goal.name}" for goal in spec.goals]
    return [*goals, *(f"keep {limit}" for limit in spec.limits)]


def submit(
    file: File,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch it until it ends.")] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Submit nothing if the warm-starter fails or anything is dropped."),
    ] = False,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Submit a study file to the server.

    Paths of a script of your own are meant relative to the study file. A warm-starter (a module beside the
    study file) runs here and now; what it names is checked and enqueued.

    Example: trimtab submit study.yaml --watch
    """
    spec = study_file.load(file)
    with Client(url, token) as client:
        if spec.warm_start.function is not None:
            spec = _with_first(client, spec, spec.warm_start.function, file.resolve().parent, strict)
        study = client.create(spec)
        if as_json and not watch:
            print_json(study)
            return
        if not as_json:
            out.print(f"submitted [bold]{escape(study.name)}[/], id {study.id}", soft_wrap=True)
            out.print(f"  {client.url}/studies/{study.id}", style="dim", soft_wrap=True)
            _print_seeds(study.spec)
        if watch:
            watching.run(client, study.id, as_json=as_json)
        else:
            out.print(f"  watch it with: trimtab watch {study.id}", style="dim", soft_wrap=True)


def _with_first(client: Client, spec: StudySpec, name: str, folder: Path, strict: bool) -> StudySpec:
    """The study with the first configurations that its warm-starter names; what is dropped is printed."""
    try:
        asked = client.first_configurations(spec, warm_start.load(name, folder))
    except warm_start.NotLoadedError as error:
        asked = warm_start.nothing(spec, f"{error} ({error.hint})")
    for dropped in asked.dropped:
        err.print(f"[yellow]{name} dropped[/] {escape(str(dropped))}", soft_wrap=True)
    if asked.error:
        err.print(f"[yellow]{name}:[/] {escape(asked.error)}", soft_wrap=True)
    if strict and asked.troubled:
        raise TrimtabError(
            f"nothing was submitted: {name} named what cannot be tried",
            "mend it, or submit without --strict",
        )
    count = f"{asked.added} configuration{'s' if asked.added != 1 else ''}"
    err.print(f"{name} named {count} to be tried first", style="dim", soft_wrap=True)
    return asked.spec


def list_studies(
    state: Annotated[StudyState | None, typer.Option("--state", help="Only studies in this state.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only studies with this tag.")] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """List studies, newest first.

    Example: trimtab list --state running
    """
    with Client(url, token) as client:
        items = list(client.studies(state=state, tag=tag))
    if as_json:
        print_json([item.model_dump(mode="json") for item in items])
        return
    if not items:
        out.print("no studies yet; submit one with: trimtab submit FILE")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("id", no_wrap=True)
    table.add_column("name")
    table.add_column("state", no_wrap=True)
    table.add_column("trials", justify="right", no_wrap=True)
    table.add_column("best", justify="right", no_wrap=True)
    table.add_column("metric", max_width=16)
    table.add_column("budget", justify="right", no_wrap=True)
    for item in items:
        table.add_row(
            item.id,
            _giving_way(item.name),
            styled(item.state),
            str(item.trials.total),
            number(item.best_value if item.final_value is None else item.final_value),
            _giving_way(item.metric),
            percent(item.budget_fraction),
        )
    out.print(table)


def _giving_way(text: str) -> Text:
    """A cell that is cut where the terminal is narrow, in a column that is not ``no_wrap``: rich narrows
    such columns before all others."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def show(
    study: Study,
    trial: Annotated[
        int | None, typer.Option("--trial", "-t", min=1, help="Show this trial instead.")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show a study with its best trials, or one trial with its runs and decisions.

    Example: trimtab show gpt-lr --trial 12
    """
    with Client(url, token) as client:
        found = client.find(study)
        if trial is not None:
            detail = client.trial(found.id, trial)
            if as_json:
                print_json(detail)
            else:
                _print_trial(detail, client.study(found.id))
            return
        summary = client.summary(found.id)
        if as_json:
            print_json(summary)
            return
        out.print(view.render(view.look(client, found.id), out.width))
        _print_trials(client, summary.study)


def best(study: Study, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """Print a study's best configuration: with several objectives, by the first.

    Example: trimtab best gpt-lr --json
    """
    with Client(url, token) as client:
        found = client.study(client.find(study).id)
    if found.best is None:
        raise TrimtabError(
            f"{found.name} has no measurement{view.what_counts(found.spec)} yet",
            "watch it with: trimtab watch " + found.id,
        )
    if as_json:
        print_json(found.best)
        return
    label = f" ({escape(found.best.label)})" if found.best.label else ""
    at = f"trial {found.best.number}{label} at {number(found.best.step)} {escape(found.spec.fidelity.unit)}"
    tuned = f"{number(found.best.value)}{seeds.over(found.best)}"
    if found.best.final is not None:
        out.print(f"{found.metric} {seeds.final(found.best.final)}  {at}", soft_wrap=True)
        out.print(
            f"[dim]it was chosen by {tuned}{' on the tuning seed' if found.best.seeds < 2 else ''}, which "
            "flatters it[/]",
            soft_wrap=True,
        )
    else:
        out.print(
            f"{found.metric} [bold green]{number(found.best.value)}[/]{seeds.over(found.best)}  {at}",
            soft_wrap=True,
        )
        if found.spec.seeds.test:
            out.print("[dim]a tuning score; the final one comes when the test seeds are trained[/]")
    for name, value in found.best.params.items():
        out.print(f"  {name}: {escape(exact(value))}{_trained_with(found.best, name)}", soft_wrap=True)
    if found.best.parent is not None:
        out.print(
            f"[dim]from step {number(found.best.forked_at)} on: it was forked from trial "
            f"{found.best.parent}; see trimtab show {found.id} --trial {found.best.parent}[/]",
            soft_wrap=True,
        )
    if found.best.front is not None:
        out.print(
            f"[dim]by {escape(found.metric)} alone, the first of {len(found.spec.goals)} objectives; "
            f"by all of them: trimtab front {found.id}[/]",
            soft_wrap=True,
        )


def _print_trials(client: Client, study: StudyDetail, most: int = 10) -> None:
    maximize = study.direction == "maximize"
    if study.finals is not None and study.finals.scores:
        out.print(seeds.table(study.finals, study.metric))
    every = list(client.trials(study.id, replicas=False))
    failed = collections.Counter(t.failure_kind for t in every if t.failure_kind)
    if failed:
        kinds = ", ".join(f"{count} {words(kind)}" for kind, count in failed.most_common())
        first = next(t.number for t in every if t.failure_kind)
        out.print(f"[red]failed trials:[/] {kinds}  [dim]why: trimtab show {study.id} --trial {first}[/]")
    over = [t.number for t in every if t.over_limits]
    if over:
        count = f"{len(over)} trial{'s' if len(over) != 1 else ''}"
        out.print(
            f"[yellow]over a limit:[/] {count}  [dim]by how much: trimtab show {study.id} "
            f"--trial {over[0]}[/]"
        )
    trials = [t for t in every if t.best_value is not None]
    trials.sort(key=lambda t: _rank(t.best_value, maximize))
    if not trials:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    metric = Text(study.metric, no_wrap=True, overflow="ellipsis")
    table.add_column(metric, justify="right", no_wrap=True, max_width=20)
    others = [name for name in study.spec.watched if name != study.metric]
    for name in others:
        heading = Text(name, no_wrap=True, overflow="ellipsis")
        table.add_column(heading, justify="right", no_wrap=True, max_width=20)
    several = study.spec.seeds.several
    if several:
        table.add_column("seeds", justify="right", no_wrap=True)
    table.add_column(study.spec.fidelity.unit, justify="right", no_wrap=True)
    table.add_column("parameters")
    for trial in trials[:most]:
        params = _giving_way("")
        for name, value in trial.params.items():
            params.append(f"{name} ", style="dim").append(f"{parameter(value)}  ")
        table.add_row(
            str(trial.number),
            styled(trial.state),
            number(trial.best_value),
            *(number(trial.outcomes.get(name)) for name in others),
            *([f"{trial.seeds_measured or 0}/{len(study.spec.seeds.tuning)}"] if several else []),
            number(trial.step),
            params,
        )
    out.print(table)


def _rank(value: float | None, maximize: bool) -> float:
    if value is None or value != value:
        return float("inf")
    return -value if maximize else value


def _trained_with(trial: BestTrial | TrialDetail, name: str) -> str:
    """What the trainer gets instead of a tied parameter's value."""
    return f"  [dim](trained with {escape(exact(trial.scaled[name]))})[/]" if name in trial.scaled else ""


def _print_trial(trial: TrialDetail, study: StudyDetail) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    reason = f"  {escape(trial.state_reason)}" if trial.state_reason else ""
    grid.add_row("trial", f"{trial.number}  {styled(trial.state)}{reason}")
    if trial.label:
        grid.add_row("label", escape(trial.label))
    unit = escape(study.spec.fidelity.unit)
    best = "[dim]nothing measured yet[/]"
    if trial.best_value is not None:
        best = f"[bold]{number(trial.best_value)}[/] {escape(study.metric)}"
        best += f" at {number(trial.best_step)} {unit}"
        if trial.seeds_measured is not None and trial.seeds_measured > 1:
            best += f", mean over {trial.seeds_measured} tuning seeds"
            best += f" [dim](± {number(trial.spread)})[/]"
    grid.add_row("best", best)
    for name, outcome in trial.outcomes.items():
        grid.add_row(escape(name), f"{number(outcome)} [dim]at {number(trial.step)} {unit}[/]")
    if trial.over_limits:
        grid.add_row("over limit", f"[yellow]{escape(', '.join(trial.over_limits))}[/]")
    steps = f"{number(trial.step)} of {number(trial.target_step)} {unit}"
    grid.add_row("trained", f"{steps} in {duration(trial.seconds)}")
    if trial.parent is not None:
        grid.add_row("forked", f"from trial {trial.parent} at {number(trial.forked_at)} {unit}")
    if trial.children:
        forks = ", ".join(f"trial {child.number} at {number(child.forked_at)}" for child in trial.children)
        grid.add_row("forks of it", forks)
    if trial.can_fork:
        grid.add_row("checkpoints", f"at {', '.join(number(step) for step in trial.can_fork)} {unit}")
    if trial.schedule:
        points = [f"{number(step)}: {exact(rate)}" for step, rate in trial.schedule]
        grid.add_row("schedule", ", ".join(points))
    if trial.replica_of is not None:
        kind = "test" if trial.test else "tuning"
        grid.add_row("repeats", f"trial {trial.replica_of} with {kind} seed {trial.seed}")
    elif trial.seed is not None:
        grid.add_row("seed", str(trial.seed))
    if trial.spared is not None:
        grid.add_row("other seeds", f"spared: {escape(trial.spared)}")
    for name, value in trial.params.items():
        grid.add_row(name, f"{escape(exact(value))}{_trained_with(trial, name)}")
    out.print(grid)
    if (tested := seeds.of_trial(trial)) is not None:
        out.print(tested)
    for run in trial.runs_detail:
        steps = f"{number(run.start_step)} → {number(run.target_step)}"
        out.print(f"\n[bold]run {run.number}[/]  {styled(run.state)}  {steps}")
        _print_indented(f"[dim]{escape(run.reason)}[/]")
        for attempt in run.attempts:
            failure = (
                f" ({words(attempt.failure.kind)}): {escape(attempt.failure.message)}"
                if attempt.failure
                else ""
            )
            _print_indented(
                f"attempt {attempt.token} on {escape(attempt.worker)}  {styled(attempt.state)}{failure}"
            )
    if trial.decisions:
        out.print("\n[bold]decisions[/]")
    for decision in trial.decisions:
        target = "" if decision.target_step is None else f" to {number(decision.target_step)}"
        _print_indented(f"{decision.kind}{target}: {escape(decision.reason)}")
    if trial.failure is not None:
        out.print(f"\n[bold red]failed: {words(trial.failure.kind)}[/]")
        _print_indented(escape(trial.failure.message))
        if trial.failure.output_tail:
            out.print("\n[bold]last lines of its output[/]")
            out.print(escape(trial.failure.output_tail), style="dim", soft_wrap=True)


def _print_indented(text: str) -> None:
    out.print(Padding(text, (0, 0, 0, 2)))
