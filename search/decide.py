"""One decision: what the service calls, in a worker process."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from search import replicas
from search.decision import Answer, Continue, Decision, Finish, Fork, Launch, Repeat, Schedule, Spare, Stop
from search.strategies import create
from search.strategies.base import Strategy
from search.strategies.common import affordable, launches_left
from search.view import StudyView, TrialView, unforked


class IllegalDecisionError(RuntimeError):
    """A strategy broke its contract: a defect of the strategy, not of the study."""


def decide(view: StudyView, slots: int, seed: int) -> Answer:
    """What to do next in the study: at most ``slots`` launches and continuations.

    Trials that were interrupted when the study's budget was spent go on before anything else, whatever the
    strategy: what was begun is finished first. Then completed trials go on to their next tuning seeds, if
    there are several (:mod:`search.replicas`), and if the view names earlier studies, what is due of the
    best of them starts (:mod:`search.transfer`). The strategy is asked when they are under way; it is told
    means over seeds.

    The same view, slots and seed give the same answer, in any process. Raises
    :class:`~search.errors.SearchError` if the view's strategy or options are not valid, and
    :class:`IllegalDecisionError` if the strategy answers what it must not.
    """
    if slots < 0:
        raise ValueError(f"slots must not be negative, not {slots}")
    going_on, _ = affordable(view, _interrupted(view), slots, view.budget.fidelity)
    if going_on:
        answer = Answer(tuple(going_on))
        verify(view, slots, answer)
        return answer
    repeats = replicas.due(view, slots)
    if repeats:
        answer = Answer(repeats)
        verify(view, slots, answer)
        return answer
    strategy = create(view.strategy, view.options, view.space, view.fidelity)
    means = replicas.told(view)
    seen = means if strategy.forks else unforked(means)
    told = _WarmStart((), seen, {}) if not view.sources else _warm_start(seen, strategy, slots)
    if told.due:
        answer = Answer(told.due, told.diagnostics)
    else:
        # The number of trials is mixed in, so that a caller that gives the same seed twice does not get the
        # same draws twice.
        rng = np.random.default_rng([seed, len(told.view.trials) + len(view.trials) - len(seen.trials)])
        answer = _pruned(told.view, slots, rng) if view.prune else strategy.decide(told.view, slots, rng)
        answer = replace(answer, diagnostics={**answer.diagnostics, **told.diagnostics})
    verify(view, slots, answer)
    return answer


def _whole(view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
    return create(view.strategy, view.options, view.space, view.fidelity).decide(view, slots, rng)


def _pruned(view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
    """The strategy's answer in what is left of the space; now and then, in the whole of it."""
    from search import pruning  # its models are heavy: only where a study prunes

    changed = pruning.prune(view, rng) if pruning.due(view) else None
    left = changed or view.pruning
    if left is None or not left.prunes:
        return replace(_whole(view, slots, rng), pruning=changed)
    if not pruning.whole_turn(view):
        answer = _whole(pruning.inside(view, left), min(slots, pruning.until_whole(view)), rng)
        # What is left may be exhausted long before the whole.
        if not any(isinstance(decision, Finish) for decision in answer.decisions):
            return replace(answer, pruning=changed)
    turn = pruning.whole_turn(view)
    why = f"one in {pruning.WHOLE_EVERY}" if turn else "what is left of it has been tried"
    answer = _whole(view, min(slots, 1), rng)
    marked = (
        replace(d, reason=f"{d.reason}; from the whole space, {why}") if isinstance(d, Launch) else d
        for d in answer.decisions
    )
    return replace(answer, decisions=tuple(marked), pruning=changed)


def verify(view: StudyView, slots: int, answer: Answer) -> None:
    """Raise :class:`IllegalDecisionError` if the answer breaks the contract of a strategy."""
    starts = [d for d in answer.decisions if isinstance(d, Launch | Fork | Continue | Repeat)]
    if len(starts) > slots:
        _refuse(view, f"{len(starts)} trials started for {slots} slots")
    trials = {trial.number: trial for trial in view.everything}
    touched: set[int] = set()
    units = 0
    for decision in answer.decisions:
        if not decision.reason:
            _refuse(view, f"no reason given for {decision}")
        if isinstance(decision, Launch | Fork):
            mistakes = view.space.check(decision.params)
            if mistakes:
                _refuse(view, f"illegal configuration: {'; '.join(m.message for m in mistakes)}")
            _check_schedule(view, decision.schedule)
            start = 0
            if isinstance(decision, Fork):
                parent = trials.get(decision.parent)
                if parent is None or decision.step not in parent.checkpoints:
                    _refuse(view, f"trial {decision.parent} has no checkpoint at step {decision.step}")
                start = decision.step
                _check_inherited(view, decision, parent)
            _check_target(view, decision, start, decision.target)
            units += decision.target - start
        elif not isinstance(decision, Finish):
            trial = trials.get(decision.trial)
            if trial is None or decision.trial in touched:
                _refuse(view, f"trial {decision.trial} does not exist or is decided on twice")
            touched.add(decision.trial)
            if isinstance(decision, Repeat | Spare):
                if isinstance(decision, Repeat):
                    _check_repeat(view, decision, trial)
                    units += decision.target
                continue
            if isinstance(decision, Stop):
                if not trial.active and trial.status != "paused":
                    _refuse(view, f"trial {trial.number} is {trial.status} and cannot be stopped")
                continue
            if trial.status != "paused" or not trial.resumable:
                _refuse(view, f"trial {trial.number} is {trial.status} and cannot go on")
            _check_target(view, decision, trial.step, decision.target, trial.target)
            units += decision.target - trial.step
    launches = sum(isinstance(d, Launch | Fork) for d in starts)
    if view.budget.trials is not None and launches > max(0, view.budget.trials):
        _refuse(view, f"{launches} launches, but {view.budget.trials} trials are left")
    if view.budget.fidelity is not None and units > max(0, view.budget.fidelity):
        _refuse(view, f"{units} {view.fidelity.unit} promised, but {view.budget.fidelity} are left")
    idle = not answer.decisions and slots > 0 and not any(trial.active for trial in view.everything)
    if idle:
        _refuse(view, "waits, but nothing is running that could end")
    if starts and any(isinstance(d, Finish) for d in answer.decisions):
        _refuse(view, "starts trials and finishes in one answer")


def _interrupted(view: StudyView) -> Iterator[Continue]:
    """The trials that were paused on their way, the furthest first, each to the target it had."""
    waiting = [trial for trial in view.everything if trial.interrupted and trial.resumable]
    for trial in sorted(waiting, key=lambda trial: (-trial.step, trial.number)):
        yield Continue(
            trial.number,
            trial.target,
            f"it was interrupted at {trial.step} when the budget was spent: "
            f"on to its target, {trial.target} {view.fidelity.unit}",
        )


@dataclass(frozen=True, slots=True)
class _WarmStart:
    due: tuple[Launch, ...]
    """As far as slots and budget go."""
    view: StudyView
    """What the strategy is to see."""
    diagnostics: Mapping[str, Any]


def _warm_start(view: StudyView, strategy: Strategy, slots: int) -> _WarmStart:
    from search.threads import one_thread  # heavy: only where there are earlier studies
    from search.transfer import start

    with one_thread():
        begun = start(view, strategy.first_target(view.fidelity))
    due: list[Launch] = []
    units = view.budget.fidelity
    for launch in begun.due:
        if len(due) < slots and launches_left(view, launch.target, units, len(due)) != 0:
            due.append(launch)
            units = None if units is None else units - launch.target
    return _WarmStart(
        tuple(due),
        begun.view,
        {"warm_start": [{"source": name, "standing": standing} for name, standing in begun.standings]},
    )


def _check_target(view: StudyView, decision: Decision, step: int, target: int, promised: int = 0) -> None:
    """``promised`` is the target that a person may have given it, beyond the full fidelity."""
    if not step < target <= max(view.fidelity.max, promised):
        _refuse(view, f"target {target} is not between {step} and {view.fidelity.max}: {decision}")


def _check_inherited(view: StudyView, fork: Fork, parent: TrialView) -> None:
    changed = sorted(name for name in view.inherited if fork.params.get(name) != parent.params.get(name))
    if changed:
        _refuse(view, f"a fork of trial {parent.number} cannot change {', '.join(changed)}")


def _check_repeat(view: StudyView, decision: Repeat, trial: TrialView) -> None:
    tried = (
        {view.tuning_seeds[0], *(replica.seed for replica in trial.replicas)}
        if view.tuning_seeds
        else set()
    )
    if trial.status != "completed" or decision.seed not in set(view.tuning_seeds) - tried:
        _refuse(view, f"trial {trial.number} is {trial.status} and cannot be repeated with {decision.seed}")
    _check_target(view, decision, 0, decision.target)


def _check_schedule(view: StudyView, schedule: Schedule) -> None:
    steps = [step for step, _ in schedule]
    if steps != sorted(set(steps)) or not all(rate >= 0 and math.isfinite(rate) for _, rate in schedule):
        _refuse(view, f"steps of a schedule must grow and its rates be finite, not negative: {schedule}")


def _refuse(view: StudyView, what: str) -> NoReturn:
    raise IllegalDecisionError(f"strategy {view.strategy}: {what}")
