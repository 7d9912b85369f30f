"""What every strategy needs: what can still be paid for, and the words for being done."""

from __future__ import annotations

from collections.abc import Iterable

from search.decision import Answer, Continue, Finish
from search.view import StudyView


def launches_left(view: StudyView, target: int, units: int | None, made: int = 0) -> int | None:
    """How many new trials can still be paid for, each trained to ``target``. None: no limit.

    ``units`` is what is left of the fidelity budget (None: no limit), ``made`` the launches of this answer.
    """
    limits = []
    if view.budget.trials is not None:
        limits.append(view.budget.trials - made)
    if units is not None:
        limits.append(units // target)
    return max(0, min(limits)) if limits else None


def affordable(
    view: StudyView, candidates: Iterable[Continue], slots: int, units: int | None
) -> tuple[list[Continue], int | None]:
    """The first candidates that the slots and the budget of ``units`` pay for, and the units then left."""
    steps = {trial.number: trial.step for trial in view.everything}
    chosen: list[Continue] = []
    for candidate in candidates:
        if len(chosen) >= slots:
            break
        cost = candidate.target - steps[candidate.trial]
        if units is None or cost <= units:
            chosen.append(candidate)
            units = None if units is None else units - cost
    return chosen, units


def wait_or_finish(view: StudyView, target: int, exhausted: bool) -> Answer:
    """The answer when nothing can be started: wait for active trials, or say why all is done.

    ``target`` is what a new trial would be trained to, ``exhausted`` whether every configuration is tried.
    """
    if any(trial.active for trial in view.trials):
        return Answer(())
    return Answer((Finish(why_done(view, target, exhausted)),))


def why_done(view: StudyView, target: int, exhausted: bool) -> str:
    """Why no trial can be started any more, in words."""
    if exhausted:
        count = view.space.cardinality
        if count is None:
            return "every configuration that the constraints leave has been tried"
        if count == 1:
            return "the only configuration of the space has been tried"
        return f"all {count} configurations of the space have been tried"
    if view.budget.trials is not None and view.budget.trials <= 0:
        return "the budget of trials is spent"
    return f"{view.budget.fidelity} {view.fidelity.unit} are left of the budget, a new trial needs {target}"


def percent(chance: float) -> str:
    """A probability in words."""
    if chance < 0.01:
        return "under 1 %"
    return "over 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"
