"""What the idle benchmark calls training, deciding and dispatch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bench.idle import Span, shares


def _at(seconds: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def _span(queued: float, started: float, ended: float) -> Span:
    return _at(queued), _at(started), _at(ended)


def test_free_slots_wait_for_a_decision_or_for_dispatch() -> None:
    # One slot trains from 0 to 10. The other one is free from 4 on: until 6 nothing is queued, then until 7
    # something is; the last run is queued at 10, where the clock ends.
    spans = [_span(0, 0, 10), _span(0, 0, 4), _span(6, 7, 12), _span(10, 11, 20)]
    found = shares(spans, slots=2)
    assert found.seconds == 10
    assert (found.training, found.deciding, found.dispatch) == pytest.approx((17 / 20, 2 / 20, 1 / 20))


def test_what_is_queued_for_a_slot_that_is_taken_costs_nothing() -> None:
    found = shares([_span(0, 0, 5), _span(0, 5, 9), _span(8, 9, 12)], slots=1)
    assert (found.training, found.deciding, found.dispatch) == pytest.approx((1, 0, 0))
