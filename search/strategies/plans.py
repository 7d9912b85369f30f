"""Strategies that are written down as a plan: which trainings, in which order, and what follows from them.

A plan is a generator. It yields the trainings that it wants next, gets their results when all have ended,
and returns why it is done. It is run from its beginning for every decision, and finds in the study what was
trained already: so it needs no memory, and after a restart it makes the same choices and trains nothing
twice. A training is known again by its parent, the step it was forked at, and its schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.decision import Answer, Continue, Finish, Fork, Launch, Schedule
from search.space import ParamValue
from search.view import StudyView, TrialView


@dataclass(frozen=True, slots=True)
class Wanted:
    """A training that a plan asks for."""

    schedule: Schedule
    target: int
    """A step that is measured. Where the same training has come less far, it goes on."""
    reason: str
    parent: int | None = None
    """Number of the trial to fork; None: from the beginning."""
    forked_at: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a training."""

    trial: int
    loss: float
    """Lower is better. At the target; infinite if the training diverged, failed or was stopped before."""
    curve: tuple[tuple[int, float], ...]
    """(step, loss) up to the target, of its own steps only."""


Plan = Generator[Sequence[Wanted], Sequence[Result], str]


def carry_out(
    view: StudyView,
    slots: int,
    plan: Plan,
    params: Callable[[Schedule], Mapping[str, ParamValue]],
    diagnostics: dict[str, Any],
) -> Answer:
    """The next decisions of a plan. ``params`` gives the configuration of a training with a schedule.

    ``diagnostics``, to which the plan itself may add as it goes on, are given with the answer, and beside
    them the steps trained so far.
    """
    diagnostics["trained"] = sum(trial.step - trial.forked_at for trial in view.trials)
    known = {(t.parent, t.forked_at, t.schedule): t for t in view.trials if t.schedule}
    try:
        wanted = next(plan)
        while True:
            found = [known.get((w.parent, w.forked_at, w.schedule)) for w in wanted]
            results = [_result(view, trial, w) for trial, w in zip(found, wanted, strict=True)]
            ended = [result for result in results if result is not None]
            if len(ended) < len(wanted):
                due = [
                    (w, trial)
                    for w, trial, result in zip(wanted, found, results, strict=True)
                    if result is None and not (trial is not None and trial.active)
                ]
                return _start(view, slots, due, params, diagnostics)
            wanted = plan.send(ended)
    except StopIteration as done:
        active = any(trial.active for trial in view.trials)
        return Answer(() if active else (Finish(done.value),), diagnostics)


def _start(
    view: StudyView,
    slots: int,
    due: Sequence[tuple[Wanted, TrialView | None]],
    params: Callable[[Schedule], Mapping[str, ParamValue]],
    diagnostics: dict[str, Any],
) -> Answer:
    """What of ``due`` (with the trials that are to go on) the slots and the budget allow."""
    units, launches = view.budget.fidelity, view.budget.trials
    trials = {trial.number: trial for trial in view.trials}
    decisions: list[Launch | Fork | Continue] = []
    why_not = ""
    for wanted, trial in due:
        if len(decisions) == slots:
            break
        cost = wanted.target - (wanted.forked_at if trial is None else trial.step)
        if units is not None and cost > units:
            why_not = f"{units} {view.fidelity.unit} are left of the budget, the next training needs {cost}"
            break
        if trial is not None:
            decisions.append(Continue(trial.number, wanted.target, wanted.reason))
        else:
            if launches is not None and launches <= 0:
                why_not = "the budget of trials is spent"
                break
            if wanted.parent is None:
                start: Launch | Fork = Launch(
                    params(wanted.schedule), wanted.target, wanted.reason, wanted.schedule
                )
            elif wanted.forked_at not in trials[wanted.parent].checkpoints:
                why_not = (
                    f"the checkpoint of trial {wanted.parent} at step {wanted.forked_at} is gone, "
                    "from which the next training was to start"
                )
                break
            else:
                start = Fork(
                    wanted.parent,
                    wanted.forked_at,
                    params(wanted.schedule),
                    wanted.target,
                    wanted.reason,
                    wanted.schedule,
                )
            decisions.append(start)
            launches = None if launches is None else launches - 1
        units = None if units is None else units - cost
    if why_not and not decisions and not any(trial.active for trial in view.trials):
        return Answer((Finish(why_not),), diagnostics)
    return Answer(tuple(decisions), diagnostics)


def _result(view: StudyView, trial: TrialView | None, wanted: Wanted) -> Result | None:
    """None: it has not ended yet, or not begun."""
    if trial is None:
        return None
    losses = {step: view.loss(value) for step, value in zip(trial.steps, trial.values, strict=True)}
    curve = tuple((step, loss) for step, loss in losses.items() if step <= wanted.target)
    if trial.step >= wanted.target and not trial.active:
        return Result(trial.number, losses.get(wanted.target, float("inf")), curve)
    if trial.active or trial.resumable and trial.status == "paused":
        return None
    return Result(trial.number, float("inf"), curve)
