"""``tpe``, ``cmaes`` and ``bohb``: what their models are told, what they draw, and that it is worth it."""

from __future__ import annotations

import logging
import math
import statistics
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.decide import decide
from search.decision import Launch
from search.simulator import Budget, Curve, simulate
from search.space import ParamValue, SearchSpace
from search.strategies import cmaes
from search.strategies.knowledge import Knowledge
from search.strategies.parzen import ParzenEstimator
from search.view import Fidelity, StudyView, TrialView
from tests.search.support import documents, space, trial, view

Params = Mapping[str, ParamValue]

LINE: dict[str, Any] = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
CUBE: dict[str, Any] = {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(5)}
BRANCHES: dict[str, Any] = {
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "beta2": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": "adam"}},
    "momentum": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": "sgd"}},
}


def _ended(number: int, params: Params, value: float, **known: Any) -> TrialView:
    known.setdefault("status", "completed")
    return TrialView(number, params, steps=(1,), values=(value,), step=1, first_target=1, target=1, **known)


def _told(strategy: str, document: dict[str, Any], *trials: TrialView, **known: Any) -> StudyView:
    return StudyView(space(document), Fidelity(1, 1, 1), False, strategy, trials=trials, **known)


def _launched(view: StudyView, slots: int, seed: int = 0) -> list[Params]:
    return [d.params for d in decide(view, slots, seed).decisions if isinstance(d, Launch)]


def _line_results(best: float, count: int = 20) -> list[tuple[Params, float]]:
    return [({"x": (i + 0.5) / count}, abs((i + 0.5) / count - best)) for i in range(count)]


UP_TO_HALF = {"terms": {"x": 1.0}, "relation": "<=", "bound": 0.5}
FROM_THREE_QUARTERS = {"terms": {"x": 1.0}, "relation": ">=", "bound": 0.75}
LOWER = SearchSpace.from_json(LINE, [UP_TO_HALF])
NOTHING = SearchSpace.from_json(LINE, [UP_TO_HALF, FROM_THREE_QUARTERS])


# What the Parzen estimator draws.


@settings(max_examples=40, deadline=None)
@given(documents(), st.integers(0, 2**31 - 1))
def test_what_it_draws_is_legal_in_every_space(document: dict[str, Any], seed: int) -> None:
    found = space(document)
    rng = np.random.default_rng(seed)
    known = [found.decode(rng.random(len(found.dimensions))) for _ in range(12)]
    estimator = ParzenEstimator(
        found, [(params, float(i)) for i, params in enumerate(known[:10])], known[10:], seed
    )
    seen = {found.key(params) for params in known}
    for _ in range(3):
        before = set(seen)
        params = estimator.draw(seen)
        if params is not None:
            assert not found.check(params)
            assert found.key(params) not in before
            assert seen == before | {found.key(params)}


@pytest.mark.parametrize(
    "domain",
    [
        {"type": "float", "low": -1e308, "high": 1e308},
        {"type": "float", "low": 1e-300, "high": 1e300, "log": True},
        {"type": "int", "low": -(10**12), "high": 10**12},
        {"type": "int", "low": 1, "high": 10**12, "log": True},
        {"type": "float", "low": 0.1, "high": 0.9, "step": 0.2},
        {"type": "ordered", "values": [1, 2.5, "x"]},
        {"type": "categorical", "choices": [1, True, "1", "true"]},
    ],
)
def test_it_learns_which_end_of_any_domain_is_good(domain: dict[str, Any]) -> None:
    found = space({"x": domain, **CUBE})
    rng = np.random.default_rng(3)
    points = rng.random((60, 6))
    results = [(found.decode(p), float(p[0]) + 1e-3 * float(p[1])) for p in points]
    estimator = ParzenEstimator(found, results, [], 5)
    drawn = [estimator.draw(set()) for _ in range(15)]
    assert statistics.mean(float(found.encode(p)[0]) for p in drawn if p is not None) < 0.3


def test_it_draws_where_the_best_lie_and_learns_the_branch() -> None:
    rng = np.random.default_rng(0)
    results: list[tuple[Params, float]] = []
    for u in rng.random(40):
        results.append(({"optimizer": "adam", "beta2": float(u)}, abs(float(u) - 0.8)))
        results.append(({"optimizer": "sgd", "momentum": float(u)}, 1 + float(u)))
    estimator = ParzenEstimator(space(BRANCHES), results, [], 1)
    drawn = [estimator.draw(set()) for _ in range(20)]
    chosen = [p for p in drawn if p is not None and p["optimizer"] == "adam"]
    assert len(chosen) >= 16
    assert statistics.mean(abs(float(p["beta2"]) - 0.8) for p in chosen) < 0.15


def test_the_parameters_of_a_branch_are_modelled_together() -> None:
    document = {**BRANCHES, "beta1": {**BRANCHES["beta2"]}}
    rng = np.random.default_rng(0)
    results: list[tuple[Params, float]] = []
    for a, b in rng.random((150, 2)):
        results.append(({"optimizer": "adam", "beta1": float(a), "beta2": float(b)}, abs(float(a - b))))
        results.append(({"optimizer": "sgd", "momentum": float(a)}, 1.0))
    estimator = ParzenEstimator(space(document), results, [], 1)
    drawn = [p for _ in range(30) if (p := estimator.draw(set())) is not None and "beta1" in p]
    # Of two independent ones the mean distance would be a third.
    assert statistics.mean(abs(float(p["beta1"]) - float(p["beta2"])) for p in drawn) < 0.17


def test_what_is_pending_drives_it_away() -> None:
    found = space(LINE)
    results = _line_results(0.5)
    pending = [{"x": 0.5 + 0.004 * i} for i in range(-10, 11)]

    def near(waiting: list[dict[str, float]]) -> int:
        drawn = [ParzenEstimator(found, results, waiting, seed).draw(set()) for seed in range(30)]
        return sum(p is not None and abs(float(p["x"]) - 0.5) < 0.05 for p in drawn)

    assert near([]) > 2 * near(pending)


def test_an_illegal_draw_is_passed_over() -> None:
    estimator = ParzenEstimator(LOWER, _line_results(0.55), [], 0)
    drawn = [estimator.draw(set()) for _ in range(20)]
    assert all(p is not None and float(p["x"]) <= 0.500001 for p in drawn)
    assert ParzenEstimator(NOTHING, _line_results(0.5), [], 0).draw(set()) is None


def test_optuna_is_quiet_and_left_as_it_was() -> None:
    import optuna

    noted: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = noted.append  # type: ignore[method-assign]
    logger = logging.getLogger("optuna")
    logger.addHandler(handler)
    verbosity, filters = optuna.logging.get_verbosity(), list(warnings.filters)
    results: list[tuple[Params, float]] = [({"optimizer": "sgd", "momentum": 0.1 * i}, i) for i in range(5)]
    with warnings.catch_warnings(record=True) as caught:
        ParzenEstimator(space(BRANCHES), results, [], 0).draw(set())
    logger.removeHandler(handler)
    assert not caught
    assert not noted
    assert optuna.logging.get_verbosity() == verbosity
    assert warnings.filters == filters


# What the models are told.


def test_results_come_in_order_of_age() -> None:
    known = Knowledge.of(
        _told(
            "tpe",
            LINE,
            _ended(1, {"x": 0.1}, 3.0),
            _ended(2, {"x": 0.2}, math.nan, status="failed", failure="diverged"),
            _ended(3, {"x": 0.3}, 1.0, status="failed", failure="crash"),
            _ended(4, {"x": 0.4}, 5.0),
        )
    )
    assert [(t.number, loss) for t, loss in known.by_age()] == [(1, 3.0), (2, 5.0), (4, 5.0)]


@pytest.mark.parametrize("strategy", ["tpe", "cmaes"])
def test_it_keeps_away_from_what_diverges(strategy: str) -> None:
    rng = np.random.default_rng(2)
    trials = []
    for number, point in enumerate(rng.random((60, 2)), start=1):
        params = {"x0": float(point[0]), "x1": float(point[1])}
        bad = params["x0"] > 0.4  # The loss itself would lead there.
        known: dict[str, Any] = {"status": "failed", "failure": "diverged"} if bad else {}
        trials.append(_ended(number, params, math.nan if bad else 1 - params["x0"], **known))
    document = {name: CUBE[name] for name in ("x0", "x1")}
    launched = _launched(_told(strategy, document, *trials), 15)
    assert statistics.mean(float(p["x0"]) for p in launched) < 0.45


@pytest.mark.parametrize("strategy", ["tpe", "cmaes", "bohb"])
def test_maximising_turns_it_round(strategy: str) -> None:
    trials = [
        _ended(number, {**dict.fromkeys(CUBE, 0.5), "x0": float(u)}, float(u))
        for number, u in enumerate(np.random.default_rng(1).random(40), start=1)
    ]
    low = _told(strategy, CUBE, *trials, options={"random_share": 0} if strategy == "bohb" else {})
    high = StudyView(low.space, low.fidelity, True, strategy, low.options, low.trials)
    mean = [statistics.mean(float(p["x0"]) for p in _launched(v, 10)) for v in (low, high)]
    assert mean[0] < 0.4
    assert mean[1] > 0.6


@pytest.mark.parametrize("strategy", ["tpe", "cmaes"])
def test_its_reasons_name_what_they_rest_on(strategy: str) -> None:
    trials = [_ended(i, dict.fromkeys(CUBE, i / 30), abs(i - 7)) for i in range(1, 25)]
    (launch,) = decide(_told(strategy, CUBE, *trials), 1, 0).decisions
    if strategy == "tpe":
        assert launch.reason == (
            "drawn where the best of 24 results lie and the others do not (best: 0, trial 7)"
        )
    else:
        assert launch.reason.startswith("generation 3, drawn with step size 0.")


# CMA-ES.


def _evolve(points: np.ndarray, losses: list[float], seed: int = 0, population: int = 8) -> Any:
    sizes = [None] * points.shape[1]
    return cmaes._evolved(list(points), losses, sizes, population, np.random.default_rng(seed))


@pytest.mark.parametrize(("dimensions", "population"), [(3, 8), (3, 4), (300, 8)])
def test_its_state_depends_on_the_results_alone(dimensions: int, population: int) -> None:
    points = np.random.default_rng(1).random((43, dimensions))
    losses = [float(((p - 0.3) ** 2).sum()) for p in points]
    a, b = _evolve(points, losses, 1, population), _evolve(points, losses, 2, population)
    assert a.mean.tolist() == b.mean.tolist()
    assert a.sigma == b.sigma
    assert a.sm.C.tolist() == b.sm.C.tolist()
    assert a.ask(1)[0].tolist() != b.ask(1)[0].tolist()
    # Three results of the last generation are there: they wait for the others.
    assert a.mean.tolist() == _evolve(points[:40], losses[:40], population=population).mean.tolist()


def test_only_the_order_of_losses_counts() -> None:
    points = np.random.default_rng(1).random((24, 2))
    losses = [float(p.sum()) for p in points]
    huge = [1.6e308 * (loss - 1) for loss in losses]
    assert _evolve(points, losses).mean.tolist() == _evolve(points, huge).mean.tolist()


def test_points_on_the_edge_of_the_cube_are_no_trouble() -> None:
    points = np.random.default_rng(4).integers(0, 2, (32, 3)).astype(float)
    evolved = _evolve(points, [float(p.sum()) for p in points])
    drawn = np.array([evolved.ask(1)[0] for _ in range(50)])
    assert np.isfinite(drawn).all()
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert drawn.mean() < 0.5


def test_a_single_dimension_works() -> None:
    history = simulate(
        space(LINE),
        Fidelity(1, 1, 1),
        lambda params, step: (float(params["x"]) - 0.83) ** 2,
        Budget(trials=40),
        strategy="cmaes",
    )
    assert history.best[-1].value < 1e-4


def test_values_of_a_small_domain_are_not_given_up() -> None:
    found = space({"n": {"type": "int", "low": 0, "high": 9}, **LINE})
    point = found.encode({"n": 4, "x": 0.5})
    rng = np.random.default_rng(0)
    points = [np.clip(point + 0.01 * rng.standard_normal(2), 0, 1) for _ in range(160)]
    losses = [float(np.abs(p - point).sum()) for p in points]
    evolved = cmaes._evolved(points, losses, [10, None], 8, np.random.default_rng(0))
    assert evolved.sigma < 0.1
    drawn = np.array([evolved.ask(1)[0] for _ in range(200)])
    others = [n for n in np.floor(10 * drawn[:, 0]) if n != 4]
    assert 4 <= len(others) <= 60


def test_cma_is_quiet_and_touches_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evolved = _evolve(np.random.default_rng(1).random((80, 3)), [1.0] * 80)
        cmaes._draw(evolved, space({name: CUBE[name] for name in ("x0", "x1", "x2")}), set())
    assert not [w for w in caught if "cma" in w.filename]
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_its_illegal_draws_are_passed_over() -> None:
    evolved = _evolve(np.full((8, 1), 0.5), [1.0] * 8)
    for _ in range(20):
        params = cmaes._draw(evolved, LOWER, set())
        assert params is not None
        assert float(params["x"]) <= 0.500001  # within the tolerance of a constraint
    assert cmaes._draw(evolved, NOTHING, set()) is None


# BOHB. One parameter: a rung needs four results.


def _rungs(*values: tuple[float, ...]) -> StudyView:
    trials = [
        trial(i, 10 ** (-i / 4), steps=(1, 3, 9)[: len(v)], values=v) for i, v in enumerate(values, start=1)
    ]
    return view(*trials, strategy="bohb")


def test_the_model_is_fitted_at_the_highest_rung_with_enough_results() -> None:
    low, middle = (0.5,), (0.5, 0.4)
    assert decide(_rungs(low, low, low), 1, 0).diagnostics["model"] == {
        "rung": 1,
        "results": 3,
        "needed": 4,
    }
    assert decide(_rungs(low, low, middle, middle, middle), 1, 0).diagnostics["model"]["rung"] == 1
    found = decide(_rungs(low, middle, middle, middle, middle), 1, 0)
    assert found.diagnostics["model"] == {"rung": 3, "results": 4, "needed": 4}


def test_its_reasons_say_where_a_configuration_comes_from() -> None:
    told = _rungs((0.4,), (0.5,), (0.6,), (0.7,), (0.8,))
    for share, words in (
        (0, "drawn where the best of 5 results at 1 steps lie"),
        (1, "a random configuration"),
    ):
        options = {"random_share": share, "eta": 100.0}
        reasons = [
            d.reason
            for d in decide(
                StudyView(told.space, told.fidelity, False, "bohb", options, told.trials), 5, 0
            ).decisions
        ]
        assert len(reasons) == 5
        assert all(words in reason for reason in reasons)
    few = decide(_rungs((0.4,), (0.5,)), 4, 0)
    assert all("a random configuration" in d.reason for d in few.decisions)


def test_a_failure_counts_as_the_worst_or_not_at_all() -> None:
    def results(failure: str) -> int:
        good = [trial(i, i / 10, steps=(1,), values=(0.5,)) for i in (1, 2, 3)]
        failed = trial(4, 0.4, steps=(1,), values=(math.nan,), status="failed", failure=failure)
        found = decide(view(*good, failed, strategy="bohb"), 1, 0).diagnostics["model"]["results"]
        assert isinstance(found, int)
        return found

    assert results("diverged") == 4
    assert results("out_of_memory") == 4
    assert results("crash") == 3


def test_a_third_is_drawn_at_random() -> None:
    told = _rungs(*[(0.1 * i,) for i in range(1, 9)])
    reasons = [d.reason for d in decide(told, 90, 0).decisions if isinstance(d, Launch)]
    assert 0.2 < statistics.mean("a random configuration" in reason for reason in reasons) < 0.47


# Whether it is worth it.


def _bowl(params: Params, step: int) -> float:
    return sum((float(params[name]) - 0.2 - 0.1 * i) ** 2 for i, name in enumerate(CUBE))


@pytest.mark.parametrize("strategy", ["tpe", "cmaes"])
def test_it_beats_random_on_a_bowl(strategy: str) -> None:
    def best(name: str, seed: int) -> float:
        history = simulate(
            space(CUBE), Fidelity(1, 1, 1), _bowl, Budget(trials=60), strategy=name, workers=4, seed=seed
        )
        return history.best[-1].value

    found = statistics.mean(best(strategy, seed) for seed in range(3))
    assert found < 0.35 * statistics.mean(best("random", seed) for seed in range(3))


def _noisy_power_law(seed: int) -> Curve:
    """Curves that fall like a power of the step to the bowl's floor; noise fixed by all of it."""

    def curve(params: Params, step: int) -> float:
        mixed = sum((i + 1) * float(params[name]) for i, name in enumerate(CUBE))
        wiggle = math.sin(1e5 * mixed + 1e3 * step + seed)  # as good as random, and cheap
        return _bowl(params, step) + 1 / math.sqrt(step) + 0.02 * wiggle

    return curve


@pytest.mark.slow
def test_bohb_finds_better_configurations_than_hyperband() -> None:
    def floor(strategy: str, seed: int) -> float:
        history = simulate(
            space(CUBE),
            Fidelity(1, 81, 1),
            _noisy_power_law(seed),
            Budget(fidelity=81 * 16),
            strategy=strategy,
            workers=4,
            seed=seed,
        )
        return _bowl(history.trials[history.best[-1].trial - 1].params, 81)

    bohb = [floor("bohb", seed) for seed in range(8)]
    hyperband = [floor("hyperband", seed) for seed in range(8)]
    assert statistics.mean(bohb) < 0.8 * statistics.mean(hyperband)
