"""Schedules as tables."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.decision import Schedule
from search.schedules import constant, decay, joined, lineage, rates, stretched, torch_source, warmup
from search.view import TrialView


def test_a_warm_up_ends_at_the_peak() -> None:
    assert rates(constant(0.4, 4), 0, 6) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert rates(constant(0.4, 0), 0, 2) == [0.4, 0.4]


def test_a_decay_starts_at_the_peak_and_would_be_zero_at_its_end() -> None:
    for shape in ("linear", "cosine", "sqrt"):
        found = rates(decay(1.0, 10, 110, shape), 10, 111)
        assert found[0] == 1.0
        assert found[100] == 0.0
        assert found == sorted(found, reverse=True)
    assert rates(decay(1.0, 10, 14), 9, 15) == pytest.approx([1.0, 1.0, 0.75, 0.5, 0.25, 0.0])


@pytest.mark.parametrize(
    ("shape", "exact"),
    [("cosine", lambda p: (1 + math.cos(math.pi * p)) / 2), ("sqrt", lambda p: 1 - math.sqrt(p))],
)
def test_bent_decays_are_near_their_formula(shape: str, exact: object) -> None:
    assert callable(exact)
    found = rates(decay(1.0, 0, 1000, shape), 0, 1000)
    assert found == pytest.approx([exact(step / 1000) for step in range(1000)], abs=0.01)


steps = st.lists(st.integers(0, 60), min_size=1, max_size=6, unique=True).map(sorted)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    return tuple((step, draw(st.floats(0, 1))) for step in draw(steps))


@given(schedules(), st.integers(0, 60), schedules())
def test_joining_keeps_every_rate(before: Schedule, at: int, after: Schedule) -> None:
    both = joined(before, at, after)
    assert [step for step, _ in both] == sorted({step for step, _ in both})
    assert rates(both, 0, at) == pytest.approx(rates(before, 0, at))
    assert rates(both, at, 70) == pytest.approx(rates(after, at, 70))


def _trial(number: int, schedule: Schedule, parent: int | None = None, at: int = 0) -> TrialView:
    return TrialView(number, {}, "paused", parent=parent, forked_at=at, schedule=schedule)


def test_a_lineage_is_the_schedule_of_all_ancestors() -> None:
    trials = [
        _trial(1, constant(1.0, 4)),
        _trial(2, ((10, 2.0),), 1, 10),
        _trial(3, decay(2.0, 20, 24), 2, 20),
    ]
    whole = [0.25, 0.5, 0.75, *[1.0] * 7, *[2.0] * 10, 2.0, 1.5, 1.0, 0.5]
    assert rates(lineage(trials, 3), 0, 24) == pytest.approx(whole)
    assert lineage(trials, 1) == trials[0].schedule
    with pytest.raises(ValueError, match="trial 4 was trained without a schedule"):
        lineage([*trials, _trial(4, ())], 4)


def test_the_warm_up_is_the_rise_to_the_first_peak() -> None:
    assert warmup(constant(0.1, 18)) == 18
    assert warmup(((0, 0.1),)) == warmup(decay(0.1, 0, 10)) == 0
    assert warmup(((0, 0.1), (9, 0.2), (20, 0.2), (30, 0.3))) == 10


def test_a_longer_horizon_stretches_what_follows_the_warm_up() -> None:
    schedule = joined(constant(1.0, 10), 80, decay(1.0, 80, 100))
    longer = stretched(schedule, 100, 190, warmup=10)
    assert rates(longer, 0, 10) == pytest.approx(rates(schedule, 0, 10))
    assert rates(longer, 150, 151) == [1.0]
    assert rates(longer, 170, 171) == pytest.approx([0.5])
    assert rates(longer, 190, 191) == [0.0]
    with pytest.raises(ValueError, match="no room"):
        stretched(schedule, 100, 10, warmup=10)


def test_a_squeezed_schedule_keeps_its_steps_apart() -> None:
    schedule = joined(constant(1.0, 10), 80, decay(1.0, 80, 100, "sqrt"))
    places = [step for step, _ in stretched(schedule, 100, 20)]
    assert places == sorted(set(places))


def test_the_exported_file_makes_a_torch_scheduler_with_the_same_rates() -> None:
    schedule = joined(constant(0.5, 3), 6, decay(0.5, 6, 12))
    module: dict[str, object] = {}
    exec(compile(torch_source(schedule), "schedule.py", "exec"), module)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=3.0)
    make = module["scheduler"]
    assert callable(make)
    scheduler = make(optimizer)
    seen = []
    for _ in range(15):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx(rates(schedule, 0, 15))
