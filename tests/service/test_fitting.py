"""Fits survive the death of whoever computes them, and nothing of a fit is stored before it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import select

from search.laws.base import Runs
from search.laws.loss import fit_loss
from service import law_plans, laws
from service.db import fits, reads
from service.db.engine import Database
from service.db.models import FitRow
from service.errors import InvalidError, NotFoundError
from service.loops import fitting
from service.loops.fitting import Fit
from tests.service.conftest import NOW
from tests.service.planted import COLUMNS, QUICK, runs
from trimtab.wire.laws import FitDetail, FitRequest, FitState, PlanRequest


def nothing(_studies: object) -> object:
    raise AssertionError("no studies are asked for")


def queued(database: Database, key: str = "f1", **changes: object) -> str:
    document = {"name": "planted", "table": runs(), "columns": COLUMNS, "options": QUICK, **changes}
    new = laws.read(FitRequest.model_validate(document), nothing)  # type: ignore[arg-type]
    with database.write() as session:
        made = fits.create(session, new, key=key, now=NOW)
    assert made == key
    return key


def detail(database: Database, key: str = "f1") -> FitDetail:
    with database.read() as session:
        return reads.fit_detail(session, key)


@pytest.fixture
def loops(database: Database) -> Iterator[Callable[[], Fit]]:
    """Makes loops of schedulers, closed in the end."""
    made: list[Fit] = []

    def make() -> Fit:
        made.append(Fit(database))
        return made[-1]

    yield make
    for loop in made:
        loop.close()


def tick_until(loop: Fit, done: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        loop.tick(datetime.now(UTC))
        time.sleep(0.05)


def stored(database: Database) -> list[object]:
    with database.read() as session:
        return list(session.scalars(select(FitRow.law)))


def test_a_killed_process_is_followed_by_another(database: Database, loops: Callable[[], Fit]) -> None:
    queued(database)
    loop = loops()
    tick_until(loop, lambda: detail(database).state is FitState.RUNNING)
    assert stored(database) == [None]
    assert loop._work is not None
    loop._work.process.kill()
    loop._work.process.join()
    loop.tick(datetime.now(UTC))
    assert detail(database).state is FitState.QUEUED
    tick_until(loop, lambda: detail(database).state is FitState.DONE)
    found = detail(database)
    assert (found.progress, found.error) == (1.0, None)
    assert found.summary["runs"] == found.counts.runs == 87
    assert found.counts.diverged == 3
    with database.read() as session:
        assert session.scalar(select(FitRow.attempt)) == 2


def test_a_scheduler_that_died_is_followed_by_another_when_its_lease_is_over(database: Database) -> None:
    queued(database)
    with database.write() as session:
        first = fits.take(session, NOW)
    assert first is not None
    with database.write() as session:
        assert fits.take(session, NOW + fits.LEASE / 2) is None
        assert fits.renew(session, first, 0.5, NOW + fits.LEASE / 2)
    later = NOW + 2 * fits.LEASE
    with database.write() as session:
        assert fits.waiting(session, later)
        second = fits.take(session, later)
    assert second is not None
    assert second.attempt == first.attempt + 1
    with database.write() as session:  # the first one was only slow: what it says no longer counts
        assert not fits.renew(session, first, 0.9, later)
        assert not fits.finish(session, first, law={}, summary={}, cautions=[], now=later)
        assert not fits.fail(session, first, "late", later)
        assert fits.finish(session, second, law={"a": 1}, summary={}, cautions=[], now=later)
    assert stored(database) == [{"a": 1}]


def test_a_fit_that_kills_its_process_again_and_again_has_failed(database: Database) -> None:
    queued(database)
    now = NOW
    for _ in range(fits.MAX_ATTEMPTS):
        with database.write() as session:
            assert fits.take(session, now) is not None
        now += 2 * fits.LEASE
    with database.write() as session:
        assert fits.take(session, now) is None
    found = detail(database)
    assert found.state is FitState.FAILED
    assert found.error is not None
    assert "died 5 times" in found.error


def test_a_scheduler_that_stops_gives_its_fit_back(database: Database, loops: Callable[[], Fit]) -> None:
    queued(database)
    loop = loops()
    loop.tick(datetime.now(UTC))
    assert detail(database).state is FitState.RUNNING
    loop.close()
    with database.write() as session:
        taken = fits.take(session, NOW)
    assert taken is not None
    assert taken.attempt == 1


def test_a_deleted_fit_is_given_up(
    database: Database, loops: Callable[[], Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "RENEW_SECONDS", 0.0)
    queued(database)
    loop = loops()
    loop.tick(datetime.now(UTC))
    assert loop._work is not None
    process = loop._work.process
    with database.write() as session:
        fits.remove(session, "f1")
    tick_until(loop, lambda: loop._work is None)
    assert process.exitcode is not None or not process.is_alive()
    with pytest.raises(NotFoundError):
        detail(database)


def test_what_cannot_be_fitted_fails_in_words_and_stores_nothing(
    database: Database, loops: Callable[[], Fit]
) -> None:
    table = runs(runs_per_cell=2, diverged=0)  # two runs in each cell say nothing of its optimum
    queued(database, table=table)
    loop = loops()
    tick_until(loop, lambda: detail(database).state is FitState.FAILED)
    found = detail(database)
    assert found.error is not None
    assert "cells" in found.error
    assert (found.summary, found.found) == ({}, [])
    assert stored(database) == [None]


def test_a_fit_that_takes_too_long_is_ended(
    database: Database, loops: Callable[[], Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "MOST_SECONDS", 0.01)
    queued(database)
    loop = loops()
    tick_until(loop, lambda: detail(database).state is FitState.FAILED)
    assert "longer than" in str(detail(database).error)


def test_the_lease_outlasts_its_renewal() -> None:
    assert timedelta(seconds=5 * fitting.RENEW_SECONDS) < fits.LEASE


def test_a_plan_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(5e7, 5e8, 4), np.geomspace(1e9, 1e10, 4)))
    loss, nothing = (1.8 + 480 / n**0.35 + 2100 / d**0.37) * np.exp(rng.normal(0, 0.004, len(n))), 0 * n
    planted = Runs(n=n, d=d, lr=nothing, batch=nothing, loss=loss)
    law = fit_loss(planted, {"draws": 20}, 0, lambda share: None)
    asked = PlanRequest(flops=1e21, n=1e9, d=2e10)
    monkeypatch.setattr(law_plans, "MOST_SECONDS", 0.0)
    with pytest.raises(InvalidError) as refused:
        law_plans.plan("f1", law, planted, asked)
    assert "takes longer than" in refused.value.errors[0].message
