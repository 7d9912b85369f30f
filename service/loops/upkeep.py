"""The scheduler's slower loops: leases that ran out, budgets that are spent, what predicted rules have to
learn, the scheduler's heartbeat.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime, timedelta

from service.db import budget, completion, leases, predictors, processes
from service.db.engine import Database

logger = logging.getLogger(__name__)

SCHEDULER = "scheduler"
GAP = timedelta(seconds=10)
"""A scheduler whose heartbeats lie further apart was not alive between them."""


class Reap:
    """Takes runs back from workers that have not been heard of in time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tick(self, now: datetime) -> None:
        with self._database.write() as session:
            lost = leases.expire(session, now)
        if lost:
            logger.warning("reap lost=%s", lost)


class Complete:
    """Ends studies whose budget is spent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tick(self, now: datetime) -> None:
        with self._database.read() as session:
            studies = completion.over_budget(session, now)
        for study_id in studies:
            with self._database.write() as session:
                if completion.wind_up(session, study_id, now):
                    logger.info("complete study_id=%d", study_id)


class Learn:
    """Fits the models of predicted rules again where enough new trials have been trained to the end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tick(self, now: datetime) -> None:
        with self._database.read() as session:
            lessons = predictors.lessons(session)
        for lesson in lessons:
            predictor = lesson.learn()
            with self._database.write() as session:
                predictors.store(session, lesson, predictor, now)
            logger.info("learn study_id=%d finished=%d", lesson.study_id, lesson.finished)


class Heartbeat:
    """Says that this scheduler is alive, for the service's readiness and for the studies' clocks.

    While no scheduler lives, nothing is decided and no budget is watched: that time does not count.
    """

    def __init__(self, database: Database, *, name: str, incarnation: str) -> None:
        self._database = database
        self._name = name
        self._incarnation = incarnation

    def tick(self, now: datetime) -> None:
        with self._database.write() as session:
            last = processes.last_seen(session, SCHEDULER)
            if last is None or now - last > GAP:
                studies = budget.leave_out(session, last, now)
                if studies and last is not None:
                    gap = (now - last).total_seconds()
                    logger.info("no scheduler for %.0f s: left out of %d studies' clocks", gap, studies)
            detail = {"pid": os.getpid()}
            processes.hello(session, self._name, SCHEDULER, self._incarnation, detail, now)
