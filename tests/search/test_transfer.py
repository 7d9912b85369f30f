"""Warm start: how earlier studies are mapped onto this one, tried first, and listened to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.decide import decide
from search.decision import Launch
from search.features import Features
from search.overlap import placed, shared
from search.space import ParamValue, SearchSpace
from search.strategies import create, names
from search.transfer import FIRST, Informed, portfolio
from search.view import BudgetLeft, Fidelity, PastTrial, Source, StudyView, TrialView
from tests.search.support import CONDITIONAL, MIXED, documents

FIDELITY = Fidelity(1, 27, 1)
OTHER_FIDELITY = Fidelity(10, 900, 10, "epochs")
PLANE: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "momentum": {"type": "float", "low": 0.0, "high": 1.0},
}


def bowl(lr: float, momentum: float) -> float:
    """Least at lr = 1e-3, momentum = 0.7."""
    return 0.1 * (math.log10(lr) + 3) ** 2 + (momentum - 0.7) ** 2


def plane_source(count: int = 40, sign: float = 1.0, seed: int = 0, **fixed: ParamValue) -> Source:
    """Trials at random places of the plane; half of them were trained a little only."""
    rng = np.random.default_rng(seed)
    trials = []
    for _ in range(count):
        lr, momentum, step = 10 ** rng.uniform(-5, 0), rng.uniform(), int(rng.choice([30, 900]))
        value = bowl(lr, momentum) + 3 / math.sqrt(step)
        trials.append(PastTrial({"lr": lr, "momentum": momentum, **fixed}, step, sign * value))
    return Source("old", OTHER_FIDELITY, False, tuple(trials))


def plane_view(*sources: Source, trials: tuple[TrialView, ...] = (), **known: Any) -> StudyView:
    known.setdefault("strategy", "curve-bo")
    space = SearchSpace.from_json(known.pop("document", PLANE))
    return StudyView(space, FIDELITY, False, sources=sources, trials=trials, **known)


def plane_trials(count: int = 12, seed: int = 1) -> tuple[TrialView, ...]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(1, count + 1):
        lr, momentum, step = 10 ** rng.uniform(-5, 0), rng.uniform(), int(rng.choice([1, 9, 27]))
        values = tuple(bowl(lr, momentum) + 0.5 / math.sqrt(s) for s in range(1, step + 1))
        status: Any = "completed" if step == 27 else "paused"
        params = {"lr": lr, "momentum": momentum}
        made.append(
            TrialView(
                number, params, status, tuple(range(1, step + 1)), values, step, 1, step, status == "paused"
            )
        )
    return tuple(made)


def launched(view: StudyView, slots: int = 1, seed: int = 0) -> list[Launch]:
    return [each for each in decide(view, slots, seed).decisions if isinstance(each, Launch)]


# Mapping


@given(documents(simplexes=True), st.integers(0, 2**32))
def test_a_configuration_of_the_same_space_keeps_its_place(document: dict[str, Any], seed: int) -> None:
    space = SearchSpace.from_json(document)
    params = space.decode(np.random.default_rng(seed).random(len(space.dimensions)))
    point = placed(space, params)
    if point is None:
        assert not set(params) & set(space.dimensions)
        return
    again = space.decode(np.where(np.isnan(point), 0.5, point))
    for name in space.dimensions:
        if name in params and isinstance(params[name], float):
            assert float(again[name]) == pytest.approx(float(params[name]), rel=1e-6, abs=2e-6)
        elif name in params:
            assert again[name] == params[name]


@given(documents(simplexes=True), documents(simplexes=True), st.integers(0, 2**32))
def test_what_is_said_to_be_shared_is_what_can_be_placed(
    here: dict[str, Any], there: dict[str, Any], seed: int
) -> None:
    space, source = SearchSpace.from_json(here), SearchSpace.from_json(there)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        point = placed(space, source.decode(rng.random(len(source.dimensions))))
        if point is not None:
            told = {name for name, at in zip(space.dimensions, point, strict=True) if not np.isnan(at)}
            assert told
            assert told <= set(shared(space, source))


@pytest.mark.parametrize(
    ("here", "value", "place"),
    [
        ({"type": "float", "low": 0.0, "high": 2.0}, 1, 0.5),
        ({"type": "float", "low": 0.0, "high": 2.0}, 3.0, None),
        ({"type": "float", "low": 0.0, "high": 2.0}, True, None),
        ({"type": "float", "low": 0.0, "high": 2.0}, "1", None),
        ({"type": "float", "low": 0.0, "high": 1.0, "step": 0.25}, 0.3, 0.3),
        ({"type": "int", "low": 1, "high": 4}, 2.6, 0.625),
        ({"type": "categorical", "choices": ["a", "b"]}, "b", 0.75),
        ({"type": "categorical", "choices": ["a", "b"]}, "c", None),
        ({"type": "ordered", "values": [1, 2]}, 2.0, 0.75),
    ],
)
def test_where_a_value_of_another_study_lies(here: Any, value: ParamValue, place: float | None) -> None:
    point = placed(SearchSpace.from_json({"x": here}), {"x": value, "unknown here": 7})
    assert (None if point is None else pytest.approx(point[0])) == place


def test_what_this_study_does_not_search_is_not_looked_at() -> None:
    document = PLANE | {"width": {"type": "fixed", "value": 64}}
    assert placed(SearchSpace.from_json(document), {"lr": 0.1, "width": 128}) is not None
    assert placed(SearchSpace.from_json(document), {"width": 64}) is None


def test_shares_of_a_mixture_come_together_or_not_at_all() -> None:
    space = SearchSpace.from_json({"mix": {"type": "simplex", "parts": ["a", "b"]}, **PLANE})
    point = placed(space, {"mix/a": 0.25, "mix/b": 0.75, "lr": 0.1})
    assert point is not None
    assert space.decode(np.where(np.isnan(point), 0.5, point))["mix/a"] == 0.25
    point = placed(space, {"mix/a": 0.25, "mix/c": 0.75, "lr": 0.1})
    assert point is not None
    assert np.isnan(point[:2]).all()
    other = SearchSpace.from_json({"mix": {"type": "simplex", "parts": ["a", "c"]}, **PLANE})
    assert shared(space, other) == ("lr", "momentum")


# What is tried first


def test_the_best_of_a_source_are_tried_first_and_are_unlike_each_other() -> None:
    first = launched(plane_view(plane_source()), slots=20)
    assert len(first) == FIRST
    assert all(launch.target == 1 for launch in first)
    values = [bowl(float(p.params["lr"]), float(p.params["momentum"])) for p in first]
    everyone = [bowl(float(t.params["lr"]), float(t.params["momentum"])) for t in plane_source().trials]
    assert values[0] <= np.quantile(everyone, 0.1)
    points = Features.of(SearchSpace.from_json(PLANE)).encode([launch.params for launch in first])
    apart = [np.linalg.norm(a - b) for i, a in enumerate(points) for b in points[:i]]
    assert min(apart) >= 0.3
    assert "the study 'old'" in first[0].reason


@pytest.mark.parametrize("strategy", names())
def test_every_strategy_starts_with_them(strategy: str) -> None:
    view = plane_view(plane_source(), strategy=strategy)
    target = create(strategy, {}, view.space, FIDELITY).first_target(FIDELITY)
    wanted = [first.params for first in portfolio(view)]
    trials: tuple[TrialView, ...] = ()
    for number in range(1, FIRST + 1):
        (launch,) = launched(replace(view, trials=trials))
        assert (launch.params, launch.target) == (wanted[number - 1], target)
        trials += (TrialView(number, launch.params, "running", target=target, first_target=target),)
    assert not portfolio(replace(view, trials=trials))
    assert "old" not in launched(replace(view, trials=trials))[0].reason


def test_sources_take_turns() -> None:
    far = replace(plane_source(seed=5), name="far")
    reasons = [first.reason for first in portfolio(plane_view(plane_source(), far))]
    assert ["far" in reason for reason in reasons] == [False, True, False, True, False]
    many = [replace(plane_source(seed=i), name=f"number {i}") for i in range(FIRST + 2)]
    assert len(portfolio(plane_view(*many))) == FIRST + 2


def test_what_was_tried_already_is_not_tried_again() -> None:
    best = portfolio(plane_view(plane_source()))[0].params
    tried = TrialView(1, best, "completed", (27,), (0.1,), 27, 27, 27, origin="enqueued")
    view = plane_view(plane_source(), trials=(tried,))
    assert best not in [first.params for first in portfolio(view)]


def test_they_stay_within_the_budget() -> None:
    view = plane_view(plane_source(), strategy="random", budget=BudgetLeft(trials=2))
    assert len(launched(view, slots=9)) == 2
    view = plane_view(plane_source(), strategy="random", budget=BudgetLeft(fidelity=27 * 3 + 1))
    assert len(launched(view, slots=9)) == 3


def test_what_a_source_lacks_is_tried_at_different_places() -> None:
    document = PLANE | {"decay": {"type": "float", "low": 0.0, "high": 1.0}}
    decays = {first.params["decay"] for first in portfolio(plane_view(plane_source(), document=document))}
    assert len(decays) == FIRST


def test_only_legal_configurations_are_tried() -> None:
    space = SearchSpace.from_json(PLANE, [{"terms": {"momentum": 1}, "relation": "<=", "bound": 0.5}])
    view = replace(plane_view(plane_source()), space=space)
    for first in portfolio(view):
        assert not space.check(first.params)


# What the model is told


def test_without_sources_the_encoding_is_as_it_was() -> None:
    view = plane_view()
    params = [trial.params for trial in plane_trials()]
    assert np.array_equal(Informed(view).encode(params), Features.of(view.space).encode(params))


def test_a_column_says_what_the_source_expects() -> None:
    informed = Informed(plane_view(plane_source(80)))
    good, bad = {"lr": 1e-3, "momentum": 0.7}, {"lr": 1.0, "momentum": 0.0}
    column = informed.encode([good, bad])[:, -1]
    assert column[0] < 0 < 0.5 < column[1]


def test_how_far_a_source_agrees_is_told() -> None:
    trials = plane_trials()
    agreement = []
    for sign in (1.0, -1.0):
        view = plane_view(plane_source(80, sign), trials=trials)
        (told,) = decide(view, 1, 0).diagnostics["sources"]
        assert (told["source"], told["trials"]) == ("old", 80)
        agreement.append(told["agreement"])
    assert agreement[0] > 0.7
    assert agreement[1] < -0.7


def test_values_of_a_maximised_source_are_turned_round() -> None:
    source = replace(plane_source(sign=-1.0), maximize=True)
    assert portfolio(plane_view(source)) == portfolio(plane_view(plane_source()))


def test_the_same_view_decides_the_same() -> None:
    view = plane_view(plane_source(), trials=plane_trials())
    assert decide(view, 3, 0) == decide(view, 3, 0)


@pytest.mark.parametrize(
    "trials",
    [
        (),
        (PastTrial({"lr": 0.1, "momentum": 0.5}, 900, 1.0),),
        tuple(PastTrial({"lr": 10.0**-i, "momentum": 0.5}, 900, math.nan) for i in range(6)),
        tuple(PastTrial({"lr": 10.0**-i, "momentum": 0.5}, 900, 1.0) for i in range(6)),
        tuple(PastTrial({"lr": 0.1, "momentum": 0.5}, 900, float(i)) for i in range(6)),
        tuple(PastTrial({"lr": 10.0**-i, "momentum": 0.5}, i, (-1) ** i * 1e300) for i in range(6)),
        tuple(PastTrial({"other": i}, 900, float(i)) for i in range(6)),
        tuple(PastTrial({"lr": 100.0 + i}, 900, float(i)) for i in range(6)),
    ],
    ids=["none", "one", "all failed", "all alike", "one place", "huge", "nothing shared", "all outside"],
)
def test_odd_sources_do_no_harm(trials: tuple[PastTrial, ...]) -> None:
    source = Source("odd", OTHER_FIDELITY, False, trials)
    assert launched(plane_view(source), 2)
    for answer in (decide(plane_view(source, trials=plane_trials()), 2, 0),):
        assert answer.decisions


@settings(max_examples=20, deadline=None)
@given(documents(simplexes=True), st.integers(0, 2**32))
def test_sources_of_any_space_teach_any_study(there: dict[str, Any], seed: int) -> None:
    source = SearchSpace.from_json(there)
    rng = np.random.default_rng(seed)
    past = tuple(
        PastTrial(source.decode(rng.random(len(source.dimensions))), int(rng.integers(900)), rng.normal())
        for _ in range(12)
    )
    for document in (MIXED, CONDITIONAL, there):
        space = SearchSpace.from_json(document)
        sources = (Source("any", OTHER_FIDELITY, bool(seed % 2), past),)
        view = StudyView(space, FIDELITY, True, "curve-bo", sources=sources)
        for first in portfolio(view):
            assert not space.check(first.params)
        points = rng.random((20, len(space.dimensions)))
        assert np.isfinite(Informed(view).encode([space.decode(point) for point in points])).all()
