"""Strategies that search the schedule of one learning rate."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search import simulator
from search.decide import decide
from search.decision import Answer, Finish, Fork, Launch, Schedule
from search.errors import SearchError
from search.schedules import constant, decay, joined, lineage, rates
from search.simulator import Budget, History, Segment, simulate
from search.space import ParamValue
from search.stopping import Divergence
from search.strategies import create
from search.strategies.autolrs import stages
from search.strategies.autolrs_model import forecast
from search.strategies.lr_schedule import Cooled, next_rate, vertex
from search.strategies.plans import Result
from search.strategies.rate import Rate
from search.view import Fidelity, StudyView, TrialView
from tests.search.support import SCHEDULES, space

SPACE: dict[str, Any] = {"lr": {"type": "float", "low": 1e-3, "high": 5.0, "log": True}}
STEPS = 400
FIDELITY = Fidelity(10, STEPS, 10)
CURVATURES = (1.0, 0.1, 0.01)
START = (1.0, 1.0, 1.0)

every_strategy = pytest.mark.parametrize("strategy", SCHEDULES)


Square = tuple[float, ...]
"""The mean square of each coordinate."""


def descend(v: Square, schedule: Schedule, first: int, until: int) -> Square:
    """Gradient descent on a noisy quadratic: v becomes (1 - rate h)^2 v + rate^2 / 100 with each step."""
    for rate in rates(schedule, first, until):
        v = tuple(
            min(1e30, (1 - rate * h) ** 2 * x + rate**2 * 0.01) for x, h in zip(v, CURVATURES, strict=True)
        )
    return v


def loss_of(v: Square) -> float:
    """The expected loss: exact, and infinite where it diverged."""
    loss = sum(h * x / 2 for h, x in zip(CURVATURES, v, strict=True))
    return loss if loss < 1e6 else math.inf


def after(schedule: Schedule, until: int) -> float:
    """The loss of a training with a schedule."""
    return loss_of(descend(START, schedule, 0, until))


class Quadratic:
    """The same for trainings that are forked on their way; every step is made once."""

    def __init__(self) -> None:
        self.known: dict[tuple[tuple[tuple[int, Schedule], ...], int], Square] = {}

    def __call__(self, line: Sequence[Segment], step: int) -> float:
        return loss_of(self.at(tuple((part.start, part.schedule) for part in line), step))

    def at(self, line: tuple[tuple[int, Schedule], ...], step: int) -> Square:
        if not line:
            return START
        if (line, step) not in self.known:
            start, schedule = line[-1]
            before = max(start, (step - 1) // 10 * 10)
            v = self.at(line[:-1], start) if before == start else self.at(line, before)
            self.known[line, step] = descend(v, schedule, before, step)
        return self.known[line, step]


def run(strategy: str, document: Mapping[str, Any] = SPACE, **wanted: Any) -> History:
    wanted.setdefault("line_curve", Quadratic())
    wanted.setdefault("budget", Budget())
    fidelity = wanted.pop("fidelity", FIDELITY)
    return simulate(
        space(document), fidelity, lambda p, s: math.nan, wanted.pop("budget"), strategy=strategy, **wanted
    )


def best(history: History) -> TrialView:
    return min((t for t in history.trials if math.isfinite(t.values[-1])), key=lambda t: t.values[-1])


def test_lr_schedule_comes_near_the_best_of_its_family() -> None:
    history = run("lr-schedule")
    found = best(history)
    assert history.units <= 2.02 * STEPS
    grid = [float(rate) for rate in np.geomspace(1e-3, 5.0, 30)]
    best_constant = min(after(constant(rate, 12), STEPS) for rate in grid)
    best_decay = min(
        after(joined(constant(rate, 12), at, decay(rate, at, STEPS)), STEPS)
        for rate in grid
        for at in (320, 360)
    )
    assert found.values[-1] < 0.92 * best_constant
    assert found.values[-1] < 1.3 * best_decay
    # What is exported is what was trained.
    schedule = lineage(history.trials, found.number)
    assert after(schedule, found.step) == pytest.approx(found.values[-1])


def test_the_vertex_of_a_parabola_in_the_log_of_the_rate() -> None:
    tried = [Cooled(rate, (math.log10(rate) + 1.8) ** 2) for rate in (0.001, 0.01, 0.1, 1.0)]
    assert vertex(tried) == pytest.approx(10**-1.8)
    assert vertex(tried[2:]) is None
    assert vertex(tried[1:]) == pytest.approx(10**-1.8)
    assert vertex([*tried[:2], replace(tried[2], loss=math.inf)]) is None
    assert vertex([replace(one, loss=-one.loss) for one in tried[:3]]) is None


@pytest.mark.parametrize(
    ("tried", "wanted"),
    [
        ({0.1: 1.0}, 0.05),
        ({0.1: 1.0, 0.05: 2.0}, 0.2),
        ({0.1: 2.0, 0.05: 1.0}, 0.025),
        ({0.1: 1.0, 0.05: 2.0, 0.2: 1.5}, 0.1 * 2 ** (1 / 6)),  # the vertex, too near to what was tried
        ({0.1: 1.0, 0.05: 2.0, 0.2: 1.1}, 0.1 * 2 ** (9 / 22)),
        ({0.1: 1.1, 0.05: 1.0, 0.2: 2.0}, 0.05 * 2 ** (3 / 8)),
        ({0.1: 2.0, 0.05: 1.0, 0.2: 3.1}, 0.025),  # the vertex is far below
        ({0.1: 1.0, 0.05: 2.0, 0.2: math.inf}, math.sqrt(0.1 * 0.05)),
        ({0.1: math.inf, 0.05: math.inf}, 0.025),
        ({0.015: 1.0, 0.03: 2.0}, 0.01),  # the end of the range is nearer than half of it
        ({0.01: 1.0, 0.02: 2.0}, math.sqrt(0.01 * 0.02)),
        ({0.01: math.inf, 0.02: math.inf}, None),
    ],
)
def test_the_next_peak(tried: Mapping[float, float], wanted: float | None) -> None:
    got = next_rate([Cooled(rate, loss) for rate, loss in tried.items()], Rate("lr", 0.01, 1.0))
    near = wanted is not None and any(max(wanted / rate, rate / wanted) < 1.15 for rate in tried)
    assert got == (None if wanted is None or near else pytest.approx(wanted))


def test_a_range_of_one_rate_only_is_trained_with_it() -> None:
    history = run("lr-schedule", {"lr": {"type": "float", "low": 0.5, "high": 0.51, "log": True}})
    peaks = {max(rate for _, rate in trial.schedule) for trial in history.trials}
    assert all(0.5 <= peak <= 0.51 + 1e-9 for peak in peaks)
    assert best(history).step == STEPS


@every_strategy
def test_what_it_cost_is_said(strategy: str) -> None:
    history = run(strategy)
    useful = best(history).step
    assert f"{history.units} steps trained: {useful} by the best" in history.reason
    assert f"{history.units - useful} by the search" in history.reason


@every_strategy
def test_a_rate_that_diverges_costs_its_steps_and_nothing_else(strategy: str) -> None:
    wide = {"lr": {"type": "float", "low": 1e-3, "high": 500.0, "log": True}}
    history = run(strategy, wide, rules=(Divergence(bound=1e4),))
    failed = [trial for trial in history.trials if trial.status == "failed"]
    assert failed
    assert all(trial.failure == "diverged" for trial in failed)
    assert math.isfinite(best(history).values[-1])
    assert max(trial.step for trial in history.trials) == STEPS


@every_strategy
def test_when_everything_diverges_it_says_so(strategy: str) -> None:
    history = run(strategy, line_curve=lambda line, step: math.nan)
    assert history.reason.startswith("every rate diverged")
    assert history.units < STEPS


@every_strategy
def test_a_restart_in_the_middle_changes_nothing(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bytes, int, Answer]] = []

    def recorded(view: StudyView, slots: int, seed: int) -> Answer:
        answer = decide(view, slots, seed)
        asked.append((pickle.dumps(view), slots, answer))
        return answer

    monkeypatch.setattr(simulator, "decide", recorded)
    history = run(strategy, workers=2)
    starts = sum(len(answer.decisions) for _, _, answer in asked)
    assert starts > 20
    for data, slots, answer in asked[:: 1 if strategy == "lr-schedule" else 5]:
        assert decide(pickle.loads(data), slots, 987).decisions == answer.decisions
    # No training was begun twice.
    keys = [(t.parent, t.forked_at, t.schedule) for t in history.trials]
    assert len(set(keys)) == len(keys)


def test_candidates_train_side_by_side() -> None:
    alone, three = run("lr-schedule"), run("lr-schedule", workers=3)
    assert three.units == alone.units
    assert three.seconds < 0.8 * alone.seconds
    assert best(three).schedule == best(alone).schedule


def test_autolrs_tries_ten_rates_in_each_of_four_stages() -> None:
    history = run("autolrs", fidelity=Fidelity(2, 600, 2))
    assert stages(Fidelity(2, 600, 2)) == [40, 120, 280, 600]
    assert len(history.trials) == 40
    assert history.units == pytest.approx(2 * 600 - sum(0.1 * n for n in (40, 80, 160, 320)), rel=0.03)
    assert {trial.forked_at for trial in history.trials} == {0, 40, 120, 280}
    assert all(len(trial.schedule) == 1 for trial in history.trials)


def test_the_forecaster_finds_an_exponential() -> None:
    curve = tuple((step, 3 * math.exp(-0.02 * step) + 1) for step in range(1, 41))
    assert forecast(Result(1, curve[-1][1], curve), 400) == pytest.approx(1.0, abs=0.15)
    assert forecast(Result(1, 2.5, ((2, 3.0), (4, 2.5))), 400) == 2.5
    assert forecast(Result(1, math.inf, curve), 400) == 1e6


@every_strategy
def test_other_parameters_must_be_fixed(strategy: str) -> None:
    fixed = {**SPACE, "width": {"type": "fixed", "value": 64}}
    view = StudyView(space(fixed), FIDELITY, False, strategy)
    (launch, *_) = decide(view, 1, 0).decisions
    assert isinstance(launch, Launch)
    assert launch.params["width"] == 64
    with pytest.raises(SearchError) as caught:
        create(
            strategy, {}, space({**SPACE, "beta2": {"type": "float", "low": 0.9, "high": 1.0}}), FIDELITY
        )
    (mistake,) = caught.value.mistakes
    assert mistake.pointer == "/space"
    assert "the space has beta2" in mistake.message


@pytest.mark.parametrize(
    ("document", "options", "words"),
    [
        ({"rate": SPACE["lr"]}, {}, "no parameter lr"),
        (SPACE, {"parameter": "learning_rate"}, "no parameter learning_rate"),
        ({"lr": {"type": "int", "low": 1, "high": 9}}, {}, "lr is not a positive number with a range"),
        (
            {"lr": {"type": "float", "low": 0.0, "high": 1.0}},
            {},
            "lr is not a positive number with a range",
        ),
    ],
)
@every_strategy
def test_the_rate_must_be_there(
    strategy: str, document: dict[str, Any], options: Mapping[str, ParamValue], words: str
) -> None:
    with pytest.raises(SearchError) as caught:
        create(strategy, options, space(document), FIDELITY)
    (mistake,) = caught.value.mistakes
    assert mistake.pointer == "/strategy/options/parameter"
    assert words in mistake.message


def test_the_parameter_may_have_another_name() -> None:
    history = run("lr-schedule", {"rate": SPACE["lr"]}, options={"parameter": "rate"})
    assert best(history).step == STEPS


def test_measurements_that_are_too_far_apart_are_refused() -> None:
    with pytest.raises(SearchError, match="needs 20 measurements") as caught:
        create("lr-schedule", {}, space(SPACE), Fidelity(50, 400, 50))
    assert caught.value.mistakes[0].suggestion == "set report_every to 20 or less, or train longer"


@every_strategy
@pytest.mark.parametrize("left", [Budget(trials=5), Budget(fidelity=200)])
def test_a_budget_that_is_too_small_ends_it_with_words(strategy: str, left: Budget) -> None:
    history = run(strategy, budget=left, workers=2)
    assert "the budget" in history.reason
    assert not any(trial.active for trial in history.trials)


def test_a_checkpoint_that_is_gone_ends_it_with_words() -> None:
    trunk: Schedule = constant(0.001, 4)
    view = StudyView(space(SPACE), FIDELITY, False, "lr-schedule")
    launches = [d for d in decide(view, 5, 0).decisions if isinstance(d, Launch)]
    assert launches[0].schedule == trunk
    trials = tuple(
        TrialView(
            n,
            d.params,
            "paused",
            (d.target,),
            (1.0,),
            d.target,
            d.target,
            d.target,
            True,
            schedule=d.schedule,
        )
        for n, d in enumerate(launches, start=1)
    )
    (finish,) = decide(replace(view, trials=trials), 1, 0).decisions
    assert isinstance(finish, Finish)
    assert "the checkpoint of trial 1 at step 10 is gone" in finish.reason
    kept = tuple(replace(trial, checkpoints=(10,)) for trial in trials)
    assert all(isinstance(d, Fork) for d in decide(replace(view, trials=kept), 5, 0).decisions)
