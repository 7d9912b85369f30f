"""Importances: what matters is found by every method, and every odd study has a defined answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.ends import Ends
from search.importances import METHODS, Importances, Method, TooFewTrialsError, importances
from search.sampling import candidates
from search.space import ParamValue, SearchSpace
from search.view import Fidelity, Limit, StudyView, TrialView
from tests.search import support

FIDELITY = Fidelity(1, 9, 1)
FLOATS = {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(5)}
Loss = Callable[[Mapping[str, ParamValue]], float]


def live(params: Mapping[str, ParamValue]) -> float:
    """x0 matters most, x1 less, the others not at all."""
    return 4 * (float(params["x0"]) - 0.3) ** 2 + 2 * (float(params["x1"]) - 0.7) ** 2


def trial(
    number: int, params: Mapping[str, ParamValue], values: Sequence[float], **known: Any
) -> TrialView:
    """One trained for as many steps as there are values; 9 are all."""
    last = len(values)
    known.setdefault("status", "completed" if last == 9 else "paused")
    return TrialView(
        number, params, steps=tuple(range(1, last + 1)), values=tuple(values), step=last, **known
    )


def study(
    space: SearchSpace, loss: Loss, count: int = 50, *, early: float = math.inf, maximize: bool = False
) -> StudyView:
    """``count`` even trials; those whose loss is above ``early`` are stopped after two steps."""
    sign = -1 if maximize else 1
    trials = []
    for number, params in enumerate(candidates(space, count, np.random.default_rng(3)), 1):
        end = loss(params)
        steps = 9 if end <= early else 2
        trials.append(trial(number, params, [sign * (end + 2 / step) for step in range(1, steps + 1)]))
    return StudyView(space, FIDELITY, maximize, "random", trials=tuple(trials))


def asked(view: StudyView, *methods: Method) -> Importances:
    return importances(view, methods or METHODS, np.random.default_rng(0))


def shares(found: Importances, method: Method) -> dict[str, float]:
    (ranking,) = [ranking for ranking in found.rankings if ranking.method == method]
    return {row.parameter: row.importance for row in ranking.importances}


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("early", [math.inf, 0.4])
def test_every_method_finds_what_matters(early: float, maximize: bool) -> None:
    found = asked(study(SearchSpace.from_json(FLOATS), live, 60, early=early, maximize=maximize))
    assert (found.basis.predicted > 20) is (early < 1)
    for ranking in found.rankings:
        order = [row.parameter for row in ranking.importances]
        assert order[:2] == ["x0", "x1"], ranking
        assert sum(row.importance for row in ranking.importances[2:]) < 0.3, ranking
        assert ranking.notes == ()
    for method in ("ped-anova", "fanova"):
        assert sum(shares(found, method).values()) == pytest.approx(1)
    explained = found.rankings[2].explained
    assert explained is not None
    assert explained > 0.8


def test_sobol_indices_are_those_of_the_function() -> None:
    """Ishigami-like: x0 alone, x1 and x2 only together."""

    def loss(params: Mapping[str, ParamValue]) -> float:
        x = [float(params[f"x{i}"]) - 0.5 for i in range(3)]
        return 1 + x[0] + 4 * x[1] * x[2]

    # Variances: 1/12 and 16 / 144; ends below and above the median lie on another scale, so about.
    found = asked(study(SearchSpace.from_json(FLOATS), loss, 150), "sobol").rankings[0]
    rows = {row.parameter: row for row in found.importances}
    assert rows["x0"].importance == pytest.approx(0.43, abs=0.12)
    assert rows["x1"].importance < 0.1
    assert rows["x1"].total == pytest.approx(0.57, abs=0.12)
    assert rows["x2"].total == pytest.approx(0.57, abs=0.12)
    assert (rows["x3"].total or 0) < 0.05


def test_a_short_training_does_not_count_as_a_bad_one() -> None:
    """Which trials are stopped depends on x3, which does not matter: a naive ranking puts it first."""
    space = SearchSpace.from_json(FLOATS)
    trials = []
    for number, params in enumerate(candidates(space, 60, np.random.default_rng(1)), 1):
        steps = 9 if float(params["x3"]) < 0.4 else 3
        values = [live(params) + 4 / step for step in range(1, steps + 1)]
        trials.append(trial(number, params, values))
    view = StudyView(space, FIDELITY, False, "random", trials=tuple(trials))
    ends = Ends.of(view, np.random.default_rng(0))
    truth = [live(one.params) for one in ends.trials]
    early = np.array([one.step < 9 for one in ends.trials])
    assert 20 < early.sum() < 50
    ranks = np.argsort(np.argsort(ends.losses)), np.argsort(np.argsort(truth))
    assert np.corrcoef(*ranks)[0, 1] > 0.9
    for ranking in asked(view).rankings:
        assert ranking.importances[0].parameter == "x0", ranking
        assert shares(asked(view, ranking.method), ranking.method)["x3"] < 0.15


def test_conditions_choices_and_simplexes_are_ranked() -> None:
    document = {
        **support.CONDITIONAL,
        "mix": {"type": "simplex", "parts": ["web", "code", "books"]},
    }

    def loss(params: Mapping[str, ParamValue]) -> float:
        bad = {"adam": 0.0, "sgd": 3.0, "lion": 0.2}[str(params["optimizer"])]
        return bad + (math.log10(float(params["lr"])) + 2.5) ** 2 / 3 + 2 * float(params["mix/web"])

    space = SearchSpace.from_json(document)
    found = asked(study(space, loss, 120))
    for ranking in found.rankings:
        assert {row.parameter for row in ranking.importances} == set(space.dimensions)
        assert {"optimizer", "lr"} <= {row.parameter for row in ranking.importances[:4]}, ranking
        assert all(0 <= row.importance <= 1 for row in ranking.importances)


def test_constraints_are_named_where_they_are_not_regarded() -> None:
    space = SearchSpace.from_json(
        FLOATS, [{"terms": {"x0": 1.0, "x1": 1.0}, "relation": "<=", "bound": 1.0}]
    )
    found = asked(study(space, live, 60))
    assert [ranking.notes != () for ranking in found.rankings] == [False, False, True]
    assert "illegal" in found.rankings[2].notes[0]
    assert {row.parameter for row in found.rankings[1].importances[:2]} == {"x0", "x1"}


def test_too_few_trials_are_refused_and_counted() -> None:
    space = SearchSpace.from_json(FLOATS)
    few = study(space, live, 9)
    with pytest.raises(TooFewTrialsError, match="need 10 trials with a result, so far 9 have one"):
        asked(few)
    nothing = StudyView(space, FIDELITY, False, "random")
    with pytest.raises(TooFewTrialsError, match=r"so far no trial has one$"):
        asked(nothing)
    params = candidates(space, 20, np.random.default_rng(0))
    failed = [trial(i, p, [math.nan], status="failed", failure="diverged") for i, p in enumerate(params, 1)]
    failed.append(TrialView(21, params[0], "running"))
    with pytest.raises(
        TooFewTrialsError, match=r"no trial has one \(1 queued or training, 20 failed of 21\)"
    ):
        asked(StudyView(space, FIDELITY, False, "random", trials=tuple(failed)))


def test_failures_count_as_the_worst_where_the_configuration_is_to_blame() -> None:
    space = SearchSpace.from_json(FLOATS)
    trials = []
    for number, params in enumerate(candidates(space, 60, np.random.default_rng(2)), 1):
        if float(params["x4"]) > 0.6:
            trials.append(trial(number, params, [5.0, math.nan], status="failed", failure="diverged"))
        elif number % 10 == 0:
            trials.append(TrialView(number, params, "failed", failure="crash"))
        else:
            trials.append(trial(number, params, [0.1 * live(params) + 2 / s for s in range(1, 10)]))
    found = asked(StudyView(space, FIDELITY, False, "random", trials=tuple(trials)))
    assert found.basis.worst > 15
    assert found.basis.left_out > 2
    assert found.basis.used + found.basis.left_out == 60
    assert shares(found, "fanova")["x4"] > 0.5


@pytest.mark.parametrize("value", [1.0, 1e300, -1e300])
def test_constant_results_tell_nothing(value: float) -> None:
    found = asked(study(SearchSpace.from_json(FLOATS), lambda params: value))
    for ranking in found.rankings:
        assert {row.importance for row in ranking.importances} == {0.0}
        assert "no parameter can be told to matter" in ranking.notes[-1]


def test_huge_losses_and_one_point_repeated() -> None:
    space = SearchSpace.from_json(FLOATS)
    found = asked(study(space, lambda params: 1e300 if float(params["x2"]) > 0.5 else live(params)))
    for ranking in found.rankings:
        assert ranking.importances[0].parameter == "x2", ranking
    same = candidates(space, 1, np.random.default_rng(0))[0]
    noisy = [trial(i, same, [float(i % 3)] * 9) for i in range(1, 21)]
    for ranking in asked(StudyView(space, FIDELITY, False, "random", trials=tuple(noisy))).rankings:
        assert all(math.isfinite(row.importance) for row in ranking.importances)
        assert ranking.notes, ranking


def test_parameters_with_one_value_are_not_named() -> None:
    one = SearchSpace.from_json({"x0": FLOATS["x0"], "seed": {"type": "fixed", "value": 1}})
    for ranking in asked(study(one, lambda params: float(params["x0"]))).rankings:
        assert [row.parameter for row in ranking.importances] == ["x0"]
        assert ranking.importances[0].importance == pytest.approx(1, abs=0.05)
    none = SearchSpace.from_json({"only": {"type": "categorical", "choices": ["a"]}})
    for ranking in asked(study(none, lambda params: 1.0)).rankings:
        assert ranking.importances == ()
        assert "nothing to rank" in ranking.notes[0]


def test_the_same_history_gives_the_same_answer() -> None:
    view = study(SearchSpace.from_json(support.CONDITIONAL), lambda p: support.valley(p, 9), 40)
    assert asked(view) == asked(view)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(space=support.constrained(), data=st.data())
def test_any_space_gets_an_answer(space: SearchSpace, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    trials = []
    for number, params in enumerate(candidates(space, 14, rng), 1):
        values = data.draw(st.lists(st.floats(), min_size=1, max_size=9))
        trials.append(trial(number, params, values))
    view = StudyView(space, FIDELITY, data.draw(st.booleans()), "random", trials=tuple(trials))
    try:
        found = asked(view, "ped-anova", "fanova", "sobol")
    except TooFewTrialsError:
        return
    for ranking in found.rankings:
        for row in ranking.importances:
            assert 0 <= row.importance <= 1
            assert row.total is None or 0 <= row.total <= 1


def limited(where: Callable[[Mapping[str, ParamValue]], bool], count: int = 60) -> StudyView:
    """The usual study with a limit that only the configurations ``where`` keep."""
    view = study(SearchSpace.from_json(FLOATS), live, count)
    trials = []
    for one in view.trials:
        bests = tuple(np.minimum.accumulate(one.values)) if where(one.params) else (math.nan,) * 9
        trials.append(replace(one, bests=bests))
    return replace(view, trials=tuple(trials), limits=(Limit("ms", 20.0, True),))


def test_what_decides_whether_a_limit_is_kept_matters() -> None:
    """x4 makes no difference to the loss, but over a half no result counts."""
    found = asked(limited(lambda params: float(params["x4"]) < 0.5))
    assert found.basis.measured + found.basis.worst == 60
    assert 20 < found.basis.worst < 40
    for ranking in found.rankings:
        assert "x4" in [row.parameter for row in ranking.importances[:2]], ranking
    ends = Ends.of(limited(lambda params: float(params["x4"]) < 0.5), np.random.default_rng(0))
    over = np.array([float(trial.params["x4"]) >= 0.5 for trial in ends.trials])
    assert (ends.losses[over] == ends.losses.max()).all()


def test_without_a_result_that_keeps_the_limits_nothing_is_ranked() -> None:
    with pytest.raises(TooFewTrialsError, match=r"so far no trial has one \(12 ended over a limit of 12\)"):
        asked(limited(lambda params: False, 12))


def test_only_what_counts_of_a_curve_counts() -> None:
    """A loss of 1 that broke the limit, 5 and 4 that kept it, 3 that did not."""
    curve = {"steps": (1, 2, 3, 4), "values": (1.0, 5.0, 4.0, 3.0), "bests": (math.nan, 5.0, 4.0, 4.0)}
    broken = {"steps": (1, 2), "values": (1.0, 2.0), "bests": (math.nan, math.nan)}
    view = replace(
        support.view(
            support.trial(1, status="completed", **curve),
            support.trial(2, status="completed", **broken),
            support.trial(3, status="running", **broken),
            support.trial(4, status="failed", failure="crash", **broken),
        ),
        limits=(Limit("ms", 20.0, True),),
    )
    counted = view.counted()
    assert [trial.steps for trial in counted.trials] == [(2, 3), (2,), (), ()]
    assert counted.trials[0].values == (5.0, 4.0)
    assert math.isnan(counted.trials[1].values[0])
    again = counted.counted()
    assert [trial.steps for trial in again.trials] == [trial.steps for trial in counted.trials]
    assert replace(view, limits=()).counted().trials == view.trials
