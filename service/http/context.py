"""What every route needs; made once in :func:`service.app.create_app`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from service.db.engine import Database
from service.http.analyst import Analyst
from service.http.tail import Tail
from service.law_answers import Laws
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one running service."""

    settings: Settings
    database: Database
    clock: Callable[[], datetime]
    """The present moment, with its time zone."""
    new_key: Callable[[], str]
    """A new public id: letters and digits, at most 32."""
    tail: Tail
    analyst: Analyst
    laws: Laws

    async def close(self) -> None:
        """Let go of whoever listens or waits; done twice, it does no more."""
        await self.tail.close()
        await self.analyst.close()
