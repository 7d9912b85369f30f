"""``decide`` refuses what a strategy must not answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.decide import IllegalDecisionError, decide, verify
from search.decision import Answer, Continue, Decision, Finish, Fork, Launch, Stop
from search.view import BudgetLeft, StudyView
from tests.search.support import trial, view

PAUSED = trial(1, steps=(1,), values=(0.5,))
RUNNING = trial(2, status="running", target=3)
DONE = trial(3, steps=(9,), values=(0.5,), status="completed")
SAVED = trial(6, steps=(3, 5), values=(0.5, 0.4), checkpoints=(3, 5))
STUDY = view(PAUSED, RUNNING, DONE, SAVED, budget=BudgetLeft(trials=1, fidelity=8))


@pytest.mark.parametrize(
    ("decisions", "words"),
    [
        ([Launch({"lr": 2.0}, 1, "x")], "illegal configuration"),
        ([Launch({}, 1, "x")], "illegal configuration"),
        ([Launch({"lr": 0.5}, 0, "x")], "target 0"),
        ([Launch({"lr": 0.5}, 10, "x")], "target 10"),
        ([Launch({"lr": 0.5}, 9, "x")], "9 steps promised, but 8 are left"),
        ([Launch({"lr": 0.5}, 1, "x"), Launch({"lr": 0.6}, 1, "x")], "2 launches, but 1 trials are left"),
        ([Launch({"lr": 0.5}, 1, "")], "no reason"),
        ([Continue(1, 1, "x")], "target 1"),
        ([Continue(2, 9, "x")], "trial 2 is running"),
        ([Continue(3, 9, "x")], "trial 3 is completed"),
        ([Continue(4, 9, "x")], "trial 4 does not exist"),
        ([Continue(1, 3, "x"), Stop(1, "x")], "decided on twice"),
        ([Stop(3, "x")], "cannot be stopped"),
        ([Launch({"lr": 0.5}, 1, "x"), Finish("x")], "finishes in one answer"),
        ([Launch({"lr": n / 10}, 1, "x") for n in range(4)], "4 trials started for 3 slots"),
        ([Fork(6, 5, {"lr": 2.0}, 9, "x")], "illegal configuration"),
        ([Fork(6, 4, {"lr": 0.5}, 9, "x")], "trial 6 has no checkpoint at step 4"),
        ([Fork(7, 5, {"lr": 0.5}, 9, "x")], "trial 7 has no checkpoint"),
        ([Fork(6, 5, {"lr": 0.5}, 5, "x")], "target 5"),
        ([Fork(6, 3, {"lr": 0.5}, 9, "x"), Continue(1, 9, "x")], "14 steps promised"),
        ([Fork(6, 5, {"lr": 0.5}, 6, "x"), Launch({"lr": 0.5}, 1, "x")], "2 launches, but 1 trials"),
        ([Fork(6, 5, {"lr": 0.5}, 6, "x", ((3, 0.1), (3, 0.2)))], "steps of a schedule must grow"),
        ([Fork(6, 5, {"lr": 0.5}, 6, "x", ((3, -0.1),))], "not negative"),
    ],
)
def test_an_illegal_answer_is_refused(decisions: list[Decision], words: str) -> None:
    with pytest.raises(IllegalDecisionError, match=words):
        verify(STUDY, 3, Answer(tuple(decisions)))


def test_a_fork_inherits_what_a_checkpoint_does_not_fit_otherwise() -> None:
    fork = Fork(6, 5, {"lr": 0.5}, 6, "x")
    verify(STUDY, 3, Answer((fork,)))
    with pytest.raises(IllegalDecisionError, match="a fork of trial 6 cannot change lr"):
        verify(replace(STUDY, inherited=frozenset({"lr"})), 3, Answer((fork,)))


def test_waiting_for_nothing_is_refused() -> None:
    idle: StudyView = view(PAUSED)
    with pytest.raises(IllegalDecisionError, match="nothing is running"):
        verify(idle, 1, Answer(()))
    verify(idle, 0, Answer(()))
    verify(STUDY, 1, Answer(()))


def test_a_legal_answer_passes() -> None:
    verify(STUDY, 3, Answer((Continue(1, 3, "x"), Launch({"lr": 0.5}, 1, "x"), Stop(2, "x"))))


def test_negative_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="slots"):
        decide(STUDY, -1, 0)


INTERRUPTED = trial(4, steps=(1, 2), values=(0.5, 0.4), target=9)
FURTHER = trial(5, steps=(1, 4), values=(0.5, 0.4), target=20)


@pytest.mark.parametrize("strategy", ["random", "sobol", "asha", "hyperband"])
def test_what_was_interrupted_goes_on_first(strategy: str) -> None:
    study = replace(view(PAUSED, INTERRUPTED, FURTHER), strategy=strategy)
    answer = decide(study, 3, 0)
    # Trial 5 was to go beyond the full fidelity: a person had said so.
    assert [(d.trial, d.target) for d in answer.decisions if isinstance(d, Continue)] == [(5, 20), (4, 9)]
    short = decide(replace(study, budget=BudgetLeft(fidelity=7)), 3, 0)
    assert [d.trial for d in short.decisions if isinstance(d, Continue)] == [4]
