"""The scheduler's slower loops: leases that ran out, budgets that are spent, the scheduler's heartbeat."""

from __future__ import annotations

import logging
import os
from datetime import datetime

from service.db import completion, leases, processes
from service.db.engine import Database

logger = logging.getLogger(__name__)


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


class Heartbeat:
    """Says that this scheduler is alive, for the service's readiness."""

    def __init__(self, database: Database, *, name: str, incarnation: str) -> None:
        self._database = database
        self._name = name
        self._incarnation = incarnation

    def tick(self, now: datetime) -> None:
        with self._database.write() as session:
            detail = {"pid": os.getpid()}
            processes.hello(session, self._name, "scheduler", self._incarnation, detail, now)
