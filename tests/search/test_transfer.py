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
from search.strategies import create
from search.transfer import FIRST, OPENERS, Informed, start
from search.view import BudgetLeft, Fidelity, Limit, PastTrial, Source, StudyView, TrialView
from tests.search.support import CONDITIONAL, GENERAL, MIXED, documents

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


def ended(number: int, launch: Launch, value: float) -> TrialView:
    """What becomes of a launch, with the same value at every step."""
    steps = tuple(range(1, launch.target + 1))
    return TrialView(
        number, launch.params, "paused", steps, (value,) * len(steps), launch.target, launch.target,
        launch.target, True,
    )  # fmt: skip


def others(first: int, value: float, step: int = 3) -> tuple[TrialView, ...]:
    """The strategy's own trials: four."""
    launches = [Launch({"lr": 0.5, "momentum": 0.1 * i}, step, "x") for i in range(4)]
    return tuple(ended(number, each, value) for number, each in enumerate(launches, start=first))


def opened(view: StudyView, value: float) -> tuple[TrialView, ...]:
    due = start(view, 1).due
    return tuple(ended(number, launch, value) for number, launch in enumerate(due, start=1))


def test_a_source_opens_with_its_best_on_the_second_rung() -> None:
    first = launched(plane_view(plane_source()), slots=20)
    assert [launch.target for launch in first] == [3] * OPENERS
    everyone = [bowl(float(t.params["lr"]), float(t.params["momentum"])) for t in plane_source().trials]
    for launch in first:
        value = bowl(float(launch.params["lr"]), float(launch.params["momentum"]))
        assert value <= np.quantile(everyone, 0.25)
    points = Features.of(SearchSpace.from_json(PLANE)).encode([launch.params for launch in first])
    assert np.linalg.norm(points[0] - points[1]) >= 0.3
    assert "number 1 of the best in the study 'old'" in first[0].reason


def test_a_source_whose_openers_do_well_is_followed() -> None:
    view = plane_view(plane_source())
    openers = opened(view, 1.0)
    told = start(replace(view, trials=openers + others(3, 2.0)), 1)
    assert told.standings == (("old", "followed"),)
    assert len(told.due) == FIRST - OPENERS
    assert told.view.sources == view.sources
    assert told.view.trials == openers + others(3, 2.0)


def test_a_source_that_is_in_doubt_or_misleads_leaves_no_trace() -> None:
    view = plane_view(plane_source())
    openers = opened(view, 1.0)
    for own in ((), others(3, 2.0)[:3], others(3, 2.0, step=1), others(3, 0.5)):
        told = start(replace(view, trials=openers + own), 1)
        assert not told.due
        assert told.view == replace(view, trials=own, sources=())
    assert told.standings == (("old", "not followed"),)
    diagnostics = decide(replace(view, trials=openers + others(3, 0.5)), 1, 0).diagnostics
    assert diagnostics["warm_start"] == [{"source": "old", "standing": "not followed"}]


def test_after_a_misleading_source_the_strategy_decides_as_without_one() -> None:
    view = plane_view(plane_source())
    openers = opened(view, 10.0)
    own = tuple(replace(t, number=t.number + OPENERS) for t in plane_trials())
    with_source = decide(replace(view, trials=openers + own), 3, 0)
    without = decide(replace(view, trials=own, sources=()), 3, 0)
    assert with_source.decisions == without.decisions


def test_openers_that_diverge_are_not_followed() -> None:
    view = plane_view(plane_source())
    openers = opened(view, 1.0)
    broken = replace(openers[1], status="failed", failure="diverged", steps=(), values=(), step=0)
    told = start(replace(view, trials=(openers[0], broken, *others(3, 2.0))), 1)
    assert told.standings == (("old", "not followed"),)


def test_openers_that_break_a_limit_of_this_study_are_not_followed() -> None:
    view = replace(plane_view(plane_source()), limits=(Limit("ms", 20.0, True),))
    openers, own = opened(view, 1.0), others(3, 2.0)
    kept = tuple(replace(trial, bests=trial.values) for trial in (*openers, *own))
    assert start(replace(view, trials=kept), 1).standings == (("old", "followed"),)
    broken = tuple(replace(trial, bests=(math.nan,) * len(trial.steps)) for trial in openers)
    assert start(replace(view, trials=broken + kept[2:]), 1).standings == (("old", "not followed"),)


@pytest.mark.parametrize("strategy", GENERAL)
def test_every_strategy_starts_with_the_best_of_the_sources(strategy: str) -> None:
    options = {"along": "lr"} if strategy == "mf-bo" else {}
    view = plane_view(plane_source(), strategy=strategy, options=options)
    target = create(strategy, options, view.space, FIDELITY).first_target(FIDELITY)
    first = launched(view, slots=9)
    assert len(first) == OPENERS
    assert {launch.target for launch in first} == {max(3, target)}
    trials = tuple(ended(number, launch, 1.0) for number, launch in enumerate(first, start=1))
    seen = start(replace(view, trials=trials), target).view.trials
    # What was trained fully is too dear to be hidden.
    assert seen == (trials if target == 27 else ())
    assert "old" not in launched(replace(view, trials=trials))[0].reason


def test_each_source_is_judged_by_its_own_openers() -> None:
    view = plane_view(plane_source(), replace(plane_source(seed=5), name="far"))
    openers = opened(view, 1.0)
    assert ["far" in launch.reason for launch in start(view, 1).due] == [False, False, True, True]
    bad = tuple(replace(t, values=(9.0,) * 3) for t in openers[2:])
    told = start(replace(view, trials=openers[:2] + bad + others(5, 2.0)), 1)
    assert told.standings == (("old", "followed"), ("far", "not followed"))
    assert [source.name for source in told.view.sources] == ["old"]
    assert told.view.trials == openers[:2] + others(5, 2.0)


def test_the_same_source_twice_is_tried_once() -> None:
    due = start(plane_view(plane_source(), plane_source()), 1).due
    assert len(due) == len({tuple(launch.params.items()) for launch in due}) == OPENERS


def test_an_opener_of_a_source_that_is_followed_is_seen() -> None:
    """Though a second source, which has it in common, is not followed."""
    only = plane_source()
    best = start(plane_view(only), 1).due[0].params
    bad = tuple(PastTrial({"lr": 10.0**-i, "momentum": 0.0}, 900, 5.0) for i in range(1, 5))
    common = Source("common", OTHER_FIDELITY, False, (PastTrial(best, 900, -9.0), *bad))
    view = plane_view(only, common)
    due = start(view, 1).due
    assert len(due) == 2 * OPENERS - 1
    trials = tuple(
        ended(n, each, 1.0 if "old" in each.reason else 9.0) for n, each in enumerate(due, start=1)
    )
    told = start(replace(view, trials=trials + others(9, 2.0)), 1)
    assert told.standings == (("old", "followed"), ("common", "not followed"))
    assert told.view.trials == (*(t for t in trials if t.values[0] == 1.0), *others(9, 2.0))


def test_what_was_enqueued_already_is_not_tried_again() -> None:
    best = start(plane_view(plane_source()), 1).due[0]
    tried = replace(ended(1, best, 1.0), origin="enqueued")
    told = start(plane_view(plane_source(), trials=(tried,)), 1)
    assert best.params not in [launch.params for launch in told.due]
    assert told.view.trials == (tried,)


def test_they_stay_within_the_budget() -> None:
    view = plane_view(plane_source(), strategy="random", budget=BudgetLeft(trials=1))
    assert len(launched(view, slots=9)) == 1
    view = plane_view(plane_source(), strategy="random", budget=BudgetLeft(fidelity=27 + 1))
    assert len(launched(view, slots=9)) == 1


def test_what_a_source_lacks_is_tried_at_different_places() -> None:
    document = PLANE | {"decay": {"type": "float", "low": 0.0, "high": 1.0}}
    decays = {
        launch.params["decay"] for launch in start(plane_view(plane_source(), document=document), 1).due
    }
    assert len(decays) == OPENERS


def test_only_legal_configurations_are_tried() -> None:
    space = SearchSpace.from_json(PLANE, [{"terms": {"momentum": 1}, "relation": "<=", "bound": 0.5}])
    due = start(replace(plane_view(plane_source()), space=space), 1).due
    assert due
    for launch in due:
        assert not space.check(launch.params)


def test_a_finite_space_is_not_tried_twice() -> None:
    document = {"kind": {"type": "categorical", "choices": ["a", "b", "c"]}}
    trials = tuple(PastTrial({"kind": kind}, 900, float(i)) for i, kind in enumerate("abc"))
    view = plane_view(Source("old", OTHER_FIDELITY, False, trials), document=document, strategy="asha")
    known: tuple[TrialView, ...] = ()
    while len(known) < 3:
        (launch,) = launched(replace(view, trials=known))
        known += (ended(len(known) + 1, launch, 1.0),)
    assert {trial.params["kind"] for trial in known} == {"a", "b", "c"}


# What the model is told


def test_without_sources_the_encoding_is_as_it_was() -> None:
    view = plane_view()
    params = [trial.params for trial in plane_trials()]
    assert np.array_equal(Informed(view).encode(params), Features.of(view.space).encode(params))


def test_a_column_says_what_the_source_expects() -> None:
    informed = Informed(plane_view(plane_source(80)))
    good, bad = {"lr": 1e-3, "momentum": 0.7}, {"lr": 1.0, "momentum": 0.0}
    column = informed.encode([good, bad])[:, -1]
    assert column[0] < 0.25
    assert column[1] > 0.75


def test_how_far_a_source_agrees_is_told() -> None:
    params = [trial.params for trial in plane_trials()]
    ends = np.array([bowl(float(p["lr"]), float(p["momentum"])) for p in params])
    agreement = []
    for sign in (1.0, -1.0):
        informed = Informed(plane_view(plane_source(80, sign)))
        (told,) = informed.agreement(informed.encode(params), ends)
        assert (told["source"], told["trials"]) == ("old", 80)
        agreement.append(float(str(told["agreement"])))
    assert agreement[0] > 0.7
    assert agreement[1] < -0.7


def test_values_of_a_maximised_source_are_turned_round() -> None:
    source = replace(plane_source(sign=-1.0), maximize=True)
    assert start(plane_view(source), 1).due == start(plane_view(plane_source()), 1).due


def test_the_same_view_decides_the_same() -> None:
    view = plane_view(plane_source())
    own = tuple(replace(t, number=t.number + OPENERS) for t in plane_trials())
    followed = opened(view, -1.0)
    due = start(replace(view, trials=followed + own), 1).due
    first = tuple(ended(number, launch, 0.1) for number, launch in enumerate(due, start=20))
    view = replace(view, trials=followed + own + first)
    answer = decide(view, 3, 0)
    assert answer == decide(view, 3, 0)
    assert answer.diagnostics["warm_start"] == [{"source": "old", "standing": "followed"}]
    assert answer.diagnostics["sources"][0]["source"] == "old"


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
    view = plane_view(source)
    assert launched(view, 2)
    informed = Informed(view).encode([trial.params for trial in plane_trials()])
    assert np.isfinite(informed).all()
    openers = tuple(t for t in opened(view, -1.0) if t.number <= OPENERS)
    own = tuple(replace(t, number=t.number + OPENERS) for t in plane_trials())
    assert decide(replace(view, trials=openers + own), 2, 0).decisions


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
        for launch in start(view, 1).due:
            assert not space.check(launch.params)
        points = rng.random((20, len(space.dimensions)))
        assert np.isfinite(Informed(view).encode([space.decode(point) for point in points])).all()
