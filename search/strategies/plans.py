"""Strategies that are written down as a plan: which trainings, in which order, what follows from them.

A plan is a generator. It yields what it wants next, trainings or further plans that go on side by side,
gets their results when all have ended, and returns a result of its own. It is run from its beginning for
every decision, and finds in the study what was trained already: so it needs no memory, and after a restart
it makes the same choices and trains nothing twice. A training is known again by its parent, the step it
was forked at, and its schedule.
"""

from __future__ import annotations

import math
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


Plan = Generator["Sequence[Wanted | Plan]", Sequence[Any], Any]
"""Yields several things at once; is sent a :class:`Result` for each training, and for each plan what it
returned. What the outermost plan returns is why the study is done, in words."""


def carry_out(
    view: StudyView,
    slots: int,
    plan: Plan,
    params: Callable[[Schedule], Mapping[str, ParamValue]],
    diagnostics: dict[str, Any],
) -> Answer:
    """The next decisions of a plan. ``params`` gives the configuration of a training with a schedule.

    ``diagnostics``, to which the plan itself may add as it goes on, are given with the answer, and beside
    them what the search cost so far.
    """
    diagnostics["steps"] = cost = _cost(view)
    known = {(t.parent, t.forked_at, t.schedule): t for t in view.trials if t.schedule}
    done, value, due = _advance(view, plan, known)
    if not done:
        return _start(view, slots, due, params, diagnostics)
    if any(trial.active for trial in view.trials):
        return Answer((), diagnostics)
    why = (
        f"{value}; {cost['total']} {view.fidelity.unit} trained: {cost['useful']} by the best training and "
        f"those it was forked from, {cost['search']} by the search"
    )
    return Answer((Finish(why),), diagnostics)


def _cost(view: StudyView) -> dict[str, int]:
    """Steps trained: those of the best training so far, from its beginning, and all others."""
    total = sum(trial.step - trial.forked_at for trial in view.trials)
    ends = [(view.loss(trial.values[-1]), trial.step) for trial in view.trials if trial.values]
    loss, useful = min(ends, default=(math.inf, 0))
    useful = useful if math.isfinite(loss) else 0
    return {"useful": useful, "search": total - useful, "total": total}


_Due = tuple[Wanted, TrialView | None]
"""A training that can start now, and the trial that is to go on for it."""


def _advance(view: StudyView, plan: Plan, known: Mapping[Any, TrialView]) -> tuple[bool, Any, list[_Due]]:
    """Run a plan as far as the study goes: whether it is done, its value, and what is due if it is not."""
    sent: list[Any] | None = None
    while True:
        try:
            items = next(plan) if sent is None else plan.send(sent)
        except StopIteration as stop:
            return True, stop.value, []
        sent, due, waits = [], [], False
        for item in items:
            if not isinstance(item, Wanted):
                done, value, more = _advance(view, item, known)
                sent.append(value)
                due += more
                waits |= not done
                continue
            trial = known.get((item.parent, item.forked_at, item.schedule))
            result = _result(view, trial, item)
            sent.append(result)
            if result is None:
                waits = True
                if trial is None or not trial.active:
                    due.append((item, trial))
        if waits:
            return False, None, due


def _start(
    view: StudyView,
    slots: int,
    due: Sequence[_Due],
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
        return Result(trial.number, losses.get(wanted.target, math.inf), curve)
    if trial.active or (trial.resumable and trial.status == "paused"):
        return None
    return Result(trial.number, math.inf, curve)
