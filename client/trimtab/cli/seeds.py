"""How tuning seeds and final scores look in a terminal."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trimtab.cli.output import sparkline, styled
from trimtab.figures import NOTHING, number, parameter
from trimtab.wire.study import StudySpec
from trimtab.wire.views import BestTrial, Finals, FinalScore, SeedValue, TrialDetail


def planned(spec: StudySpec) -> str:
    """What the seeds of a study will cost, in words; empty if it names none."""
    seeds, unit = spec.seeds, spec.fidelity.unit
    words = []
    if seeds.several:
        words.append(f"up to {len(seeds.tuning)} tuning seeds per configuration, paid from the budget")
    if seeds.test:
        words.append(
            f"then up to {seeds.finalists} finalists on {_count(len(seeds.test), 'test seed')}: up to "
            f"{number(seeds.test_runs * spec.fidelity.max)} {unit} beside the budget"
        )
    return "; ".join(words)


def over(best: BestTrial) -> str:
    """What a best value is the mean over, behind a blank; empty for one seed."""
    if best.seeds < 2:
        return ""
    spread = "" if best.spread is None else f" ± {number(best.spread)}"
    return f"{spread} over {best.seeds} tuning seeds"


def final(score: FinalScore) -> str:
    """A final score with its interval, as markup."""
    if score.mean is None:
        return f"[dim]{NOTHING}[/]"
    measured = sum(seed.value is not None for seed in score.seeds)
    interval = "" if score.low is None else f" (95 %: {number(score.low)} to {number(score.high)})"
    return f"[bold green]{number(score.mean)}[/]{interval}, mean over {_count(measured, 'test seed')}"


def progress(finals: Finals, spec: StudySpec) -> str:
    """How the test runs stand, or how they ended, as markup."""
    if finals.best is not None:
        return f"{final(finals.best)}  [dim]trial {finals.best.trial}[/]"
    done = sum(seed.value is not None for score in finals.scores for seed in score.seeds)
    runs = sum(len(score.seeds) for score in finals.scores)
    return f"{done} of {_count(runs, 'test run')} done  [dim]{number(finals.trained)} of " + (
        f"{number(finals.planned)} {escape(spec.fidelity.unit)}, beside the budget[/]"
    )


def table(finals: Finals, metric: str) -> Table:
    """The final scores of all finalists, the best first."""
    title = Text(f"{metric} on test seeds", no_wrap=True, overflow="ellipsis")
    shown = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold"
    )
    shown.add_column("trial", justify="right", no_wrap=True)
    shown.add_column("mean", justify="right", no_wrap=True)
    shown.add_column("95 % interval", no_wrap=True)
    shown.add_column("seeds", justify="right", no_wrap=True)
    shown.add_column("tuning", justify="right", no_wrap=True, style="dim")
    shown.add_column("parameters", style="dim")  # cut first where the terminal is narrow
    for score in finals.scores:
        measured = sum(seed.value is not None for seed in score.seeds)
        best = score.trial == finals.winner
        shown.add_row(
            f"[bold green]{score.trial}[/]" if best else str(score.trial),
            number(score.mean),
            NOTHING if score.low is None else f"{number(score.low)} to {number(score.high)}",
            f"{measured}/{len(score.seeds)}",
            number(score.tuning),
            Text(
                "  ".join(f"{name} {parameter(value)}" for name, value in score.params.items()),
                no_wrap=True,
                overflow="ellipsis",
            ),
        )
    return shown


def of_trial(trial: TrialDetail) -> Table | None:
    """Each seed of a trial's configuration with its value and curve; None if there is one seed alone."""
    rows = [("tuning", seed) for seed in trial.tuning_seeds] + [("test", seed) for seed in trial.test_seeds]
    if not rows:
        return None
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("seed", "trial", "value"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("state", no_wrap=True)
    shown.add_column("curve", no_wrap=True, style="cyan")
    for kind, seed in rows:
        shown.add_row(
            f"{kind} {seed.seed}", str(seed.trial), number(seed.value), styled(seed.state), _line(seed)
        )
    return shown


def _line(seed: SeedValue) -> str:
    return sparkline([float(value) for value in seed.values], 24)


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
