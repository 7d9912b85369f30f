"""``mf-bo``: the best at the highest value of a parameter, found on lower ones too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from search.along import Along
from search.decide import decide
from search.decision import Finish, Launch
from search.errors import SearchError
from search.simulator import Budget, History, Params, simulate
from search.space import ParamValue, SearchSpace
from search.strategies import create
from search.view import BudgetLeft, Fidelity, StudyView, TrialView
from tests.search.support import CONDITIONAL, space

FIDELITY = Fidelity(1, 1, 1)
WIDTH: dict[str, Any] = {"type": "int", "low": 64, "high": 1024, "log": True}
SIZED: dict[str, Any] = {
    "x": {"type": "float", "low": 0.0, "high": 1.0},
    "y": {"type": "float", "low": 0.0, "high": 1.0},
    "width": WIDTH,
}
MIXTURE: dict[str, Any] = {
    "mix": {"type": "simplex", "parts": ["web", "code", "math"]},
    "million": {"type": "ordered", "values": [10, 100, 1000]},
}
OPTIONS: Mapping[str, ParamValue] = {"along": "width", "initial_trials": 4}


def bowl(params: Params, step: int) -> float:
    """The best x moves from 0.4 to 0.6 with the width, and wider is better."""
    small = 1 - math.log(float(params["width"]) / 64) / math.log(16)
    return (float(params["x"]) - 0.6 + 0.2 * small) ** 2 + (float(params["y"]) - 0.3) ** 2 + small


def share(params: Params) -> float:
    return float(params["width"]) / 1024


def _simulate(document: dict[str, Any] = SIZED, **wanted: Any) -> History:
    return simulate(
        SearchSpace.from_json(document, wanted.pop("constraints", ())),
        FIDELITY,
        wanted.pop("curve", bowl),
        wanted.pop("budget", Budget(seconds=4.0)),
        strategy="mf-bo",
        options=wanted.pop("options", OPTIONS),
        seconds_per_unit=wanted.pop("cost", share),
        **wanted,
    )


def _view(*trials: TrialView, document: dict[str, Any] = SIZED, **known: Any) -> StudyView:
    return StudyView(
        space(document),
        FIDELITY,
        known.pop("maximize", False),
        "mf-bo",
        known.pop("options", OPTIONS),
        trials,
        **known,
    )


def _done(number: int, width: int, x: float, value: float | None = None, **known: Any) -> TrialView:
    params = {"x": x, "y": 0.3, "width": width}
    found = bowl(params, 1) if value is None else value
    return TrialView(number, params, "completed", (1,), (found,), 1, 1, 1, **known)


@pytest.fixture(scope="module")
def history() -> History:
    return _simulate(seed=2)


def test_it_opens_with_proxies_and_trains_what_it_recommends_at_the_target(history: History) -> None:
    assert [trial.params["width"] for trial in history.trials[:4]] == [64] * 4
    widths = [int(trial.params["width"]) for trial in history.trials]
    assert widths.count(1024) >= 2
    assert len(set(widths)) >= 3
    assert all(trial.first_target == FIDELITY.max for trial in history.trials)


def test_only_trainings_at_the_target_are_the_best(history: History) -> None:
    assert history.best
    assert all(history.trials[point.trial - 1].params["width"] == 1024 for point in history.best)
    assert history.best[-1].value < 0.03


def test_it_costs_less_than_training_at_the_target_only(history: History) -> None:
    """Four trainings' worth: to find this at random takes some thirty."""
    assert history.seconds <= 4.0
    assert history.best_by_seconds(4.0) == history.best[-1].value


def test_at_most_a_trainings_worth_is_spent_below_the_target_between_two_there(history: History) -> None:
    spent = 0.0
    for trial in history.trials:
        if trial.params["width"] == 1024:
            spent = 0.0
        else:
            # What is decided when nearly all is spent may cost half as much again.
            assert spent < 1.05
            spent += share(trial.params)


def test_reasons_are_words_and_numbers(history: History) -> None:
    reasons = [event.reason for event in history.events if event.kind == "launch"]
    assert reasons[0] == "Sobol design, 1 of 4, at width 64"
    modelled = [reason for reason in reasons if "predicted at width 1024" in reason]
    assert len(modelled) == len(reasons) - 4
    assert all("90 %" in reason and "; trained at width" in reason for reason in modelled)
    proxies = [reason for reason in modelled if "of the cost at 1024" in reason]
    assert proxies
    assert any("chance to beat the best there" in reason for reason in modelled)
    assert any(
        reason.startswith("it is time for one that counts, the best predicted") for reason in modelled
    )


def test_a_mixture_is_chosen_on_small_models() -> None:
    wanted = np.array([0.5, 0.3, 0.2])

    def loss(params: Params, step: int) -> float:
        mix = np.array([float(params[f"mix/{part}"]) for part in ("web", "code", "math")])
        size = math.log10(float(params["million"]) / 10) / 2
        moved = wanted + (1 - size) * np.array([0.1, -0.1, 0.0])
        return float(((np.sqrt(mix) - np.sqrt(moved)) ** 2).sum()) + 2 - size

    history = _simulate(
        MIXTURE,
        curve=loss,
        cost=lambda params: float(params["million"]) / 1000,
        budget=Budget(seconds=3.0),
        options={"along": "million"},
    )
    best = history.trials[history.best[-1].trial - 1]
    assert best.params["million"] == 1000
    assert sum(float(best.params[f"mix/{part}"]) for part in ("web", "code", "math")) == pytest.approx(1)
    assert history.best[-1].value < 1.02, "the mean over random mixtures is about 1.3"


def test_conditions_and_constraints_hold_at_every_value() -> None:
    document = {**CONDITIONAL, "width": WIDTH}
    constraints = [{"terms": {"depth": 100, "width": 1}, "relation": "<=", "bound": 1424}]
    history = _simulate(
        document,
        curve=lambda params, step: float(int(params["depth"])) + 64 / float(params["width"]),
        budget=Budget(trials=9),
        constraints=constraints,
    )
    # Illegal launches are refused by decide(); at the target depths up to 4 are legal.
    assert all(int(trial.params["depth"]) <= 4 for trial in history.trials)
    assert any(trial.params["width"] == 1024 for trial in history.trials)


def test_costs_are_taken_for_the_parameters_value_before_any_was_timed() -> None:
    along = Along.read({"along": "width"}, space(SIZED))
    assert along is not None
    assert along.expected_cost(256) == 0.25
    assert along.levels[0] == 64
    assert along.levels[-1] == along.target == 1024
    words = Along.read(
        {"along": "size"}, space({"size": {"type": "ordered", "values": ["s", "m", "l", "xl"]}})
    )
    assert words is not None
    assert [words.expected_cost(value) for value in words.levels] == [0.25, 0.5, 0.75, 1.0]
    assert [words.progress(value) for value in words.levels] == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_measured_seconds_replace_what_was_expected() -> None:
    """Proxies that cost nearly as much as the target are not worth their while."""

    def widths(cost: Any) -> list[int]:
        return [int(t.params["width"]) for t in _simulate(cost=cost, budget=Budget(trials=10)).trials[4:]]

    assert widths(lambda params: 50 + share(params)).count(1024) > widths(share).count(1024)


def test_what_fails_at_the_target_is_not_recommended_again_and_again() -> None:
    """Small models bear any x, the large one only half of them; the best of the small ones is beyond."""

    def curve(params: Params, step: int) -> float:
        if int(params["width"]) > 600 and float(params["x"]) > 0.5:
            return math.nan
        return (float(params["x"]) - 0.7) ** 2

    history = _simulate(curve=curve, budget=Budget(seconds=4.6))
    diverged = [trial for trial in history.trials if trial.status == "failed"]
    assert 1 <= len(diverged) <= 2
    assert history.best
    assert history.best[-1].value < 0.15


def test_pending_trials_are_known() -> None:
    trials = [_done(n, 64, n / 6) for n in range(1, 6)]
    pending = TrialView(6, {"x": 0.5, "y": 0.3, "width": 1024}, "running", first_target=1, target=1)
    answer = decide(_view(*trials, pending), 3, 0)
    params = [d.params for d in answer.decisions if isinstance(d, Launch)]
    assert len({tuple(p.items()) for p in (*params, pending.params)}) == 4
    assert answer.diagnostics["levels"]["1024"] == 1


def test_the_last_that_is_paid_for_counts() -> None:
    trials = [_done(n, 64, n / 6) for n in range(1, 6)]
    for left in (BudgetLeft(trials=1), BudgetLeft(fidelity=1)):
        (launch,) = decide(_view(*trials, budget=left), 3, 0).decisions
        assert isinstance(launch, Launch)
        assert launch.params["width"] == 1024
        assert launch.params["x"] in [trial.params["x"] for trial in trials]
    (first,) = decide(_view(budget=BudgetLeft(trials=1)), 3, 0).decisions
    assert isinstance(first, Launch)
    assert first.params["width"] == 1024


@pytest.mark.parametrize("workers", [1, 2])
def test_a_budget_of_time_leaves_enough_for_one_that_counts(workers: int) -> None:
    """The design alone would take 250 seconds, one that counts takes 100."""
    options = {"along": "width", "initial_trials": 40}
    history = _simulate(
        cost=lambda params: 100 * share(params),
        budget=Budget(seconds=170.0),
        options=options,
        workers=workers,
    )
    assert history.best
    reasons = [event.reason for event in history.events if event.kind == "launch"]
    assert any("the time left is kept for" in reason for reason in reasons)


def _timed(*widths: int, seconds: float = 100.0) -> tuple[TrialView, ...]:
    """Trainings that take as long as was expected."""
    return tuple(
        _done(n, width, n / 9, seconds=seconds * width / 1024) for n, width in enumerate(widths, start=1)
    )


@pytest.mark.parametrize("initial_trials", [2, 20])
@pytest.mark.parametrize("limit", ["seconds", "clock"])
def test_time_is_kept_for_a_training_at_the_target(limit: str, initial_trials: int) -> None:
    """One there takes 100 s, the smallest 6; 25 s more are kept in reserve."""

    def started(left: float, *more: TrialView) -> list[ParamValue]:
        budget = BudgetLeft(**{limit: left})
        options = {"along": "width", "initial_trials": initial_trials}
        view = _view(*trials, *more, options=options, budget=budget, parallelism=3)
        launches = [d for d in decide(view, 3, 0).decisions if isinstance(d, Launch)]
        assert len(launches) == 3
        kept = [launch for launch in launches if "the time left is kept" in launch.reason]
        assert all(launch.params["width"] == 1024 for launch in kept)
        return [launch.params["width"] for launch in kept]

    trials = _timed(64, 128, 256, 64, 128, 256)
    assert started(10_000.0) == []
    assert started(100.0) == [1024] * 3
    assert started(10.0) == [1024] * 3, "what it measures by then counts"
    pending = TrialView(7, {"x": 0.95, "y": 0.3, "width": 1024}, "running", first_target=1, target=1)
    assert started(180.0, pending) == ([1024] * 3 if limit == "seconds" else []), "it pays from one purse"


def test_half_of_the_time_at_most_is_spent_before_anything_counts() -> None:
    """However cheap the large one is predicted to be."""
    trials = tuple(_done(n, 64, n / 50, seconds=10.0) for n in range(1, 41))
    options = {"along": "width", "initial_trials": 90}
    for left, kept in ((401.0, False), (399.0, True)):
        view = _view(*trials, options=options, budget=BudgetLeft(seconds=left))
        (launch,) = decide(view, 1, 0).decisions
        assert isinstance(launch, Launch)
        assert (launch.params["width"] == 1024) is kept
    assert decide(_view(*trials, budget=BudgetLeft(trials=9)), 1, 0).decisions


def test_without_timings_a_budget_of_time_changes_nothing() -> None:
    trials = [_done(n, 64, n / 6) for n in range(1, 6)]
    timed = decide(_view(*trials, budget=BudgetLeft(seconds=1.0, clock=1.0)), 3, 0)
    assert timed == decide(_view(*trials), 3, 0)


@pytest.mark.parametrize(
    "values",
    [[1.0] * 6, [1e300, -1e300, 1e300, 0.0, 1.0, 2.0], [1e-300 * n for n in range(6)]],
    ids=["constant", "huge", "tiny"],
)
@pytest.mark.parametrize("maximize", [False, True])
def test_odd_results_are_survived(values: list[float], maximize: bool) -> None:
    trials = [_done(n, (64, 1024)[n % 2], n / 7, value) for n, value in enumerate(values, start=1)]
    answer = decide(_view(*trials, maximize=maximize), 2, 0)
    assert len(answer.decisions) == 2
    assert not any("nan" in decision.reason for decision in answer.decisions)


def test_a_single_configuration_is_tried_small_and_at_the_target() -> None:
    document = {"k": {"type": "fixed", "value": 3}, "width": WIDTH}
    history = _simulate(document, curve=lambda p, s: 1 / float(p["width"]), budget=Budget(trials=50))
    assert [trial.params["width"] for trial in history.trials] == [64, 1024]
    assert history.reason == "the only configuration has been tried at width 1024"


def test_while_results_are_too_few_nothing_is_predicted() -> None:
    failed = [
        TrialView(
            n, {"x": n / 9, "y": 0.5, "width": 64}, "failed", failure="crash", first_target=1, target=1
        )
        for n in range(1, 8)
    ]
    (launch,) = decide(_view(*failed), 1, 0).decisions
    assert "too few for a model" in launch.reason
    finish = decide(_view(*failed, budget=BudgetLeft(trials=0)), 1, 0).decisions[0]
    assert isinstance(finish, Finish)


@pytest.mark.parametrize(
    ("document", "along", "words"),
    [
        (SIZED, "widht", "no parameter widht"),
        ({**SIZED, "k": {"type": "fixed", "value": 1}}, "k", "one value only"),
        ({**SIZED, "act": {"type": "categorical", "choices": ["a", "b"]}}, "act", "no order"),
        ({**SIZED, "flag": {"type": "bool"}}, "flag", "no order"),
        (MIXTURE, "mix", "is a simplex"),
        (MIXTURE, "mix/web", "a share of a simplex"),
        (CONDITIONAL, "damping", "only under conditions"),
        (
            {"size": {"type": "ordered", "values": [1, 2]}, "x": {"type": "bool", "when": {"size": 2}}},
            "size",
            "under some values of size",
        ),
    ],
)
def test_a_parameter_that_cannot_be_the_fidelity_is_refused(
    document: dict[str, Any], along: str, words: str
) -> None:
    with pytest.raises(SearchError, match=words) as caught:
        create("mf-bo", {"along": along}, space(document), FIDELITY)
    (mistake,) = caught.value.mistakes
    assert mistake.pointer == "/strategy/options/along"
    assert mistake.suggestion


def test_the_parameter_must_be_named() -> None:
    with pytest.raises(SearchError, match="needs the option along"):
        create("mf-bo", {}, space(SIZED), FIDELITY)
    with pytest.raises(SearchError, match="must be a name") as caught:
        create("mf-bo", {"along": 3, "initial_trials": 0}, space(SIZED), FIDELITY)
    assert len(caught.value.mistakes) == 2


def test_a_meant_name_is_suggested() -> None:
    with pytest.raises(SearchError) as caught:
        create("mf-bo", {"along": "widht"}, space(SIZED), FIDELITY)
    assert caught.value.mistakes[0].suggestion == "did you mean width?"
