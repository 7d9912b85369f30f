"""Which revision of the tables this code is written for."""

from __future__ import annotations

from sqlalchemy import column, select, table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

REVISION = "0007"
"""The newest migration; each is a number of four digits. A test holds it to ``migrations/versions``."""


def mistake(session: Session) -> str | None:
    """What keeps these tables from being used by this program, and what to do; None when all is well.

    Raises :class:`~service.db.engine.DatabaseError` if the database cannot be read at all.
    """
    version = table("alembic_version", column("version_num"))
    try:
        found = session.scalar(select(version.c.version_num))
    except DBAPIError as error:
        session.rollback()
        if "alembic_version" not in str(error.orig):
            raise
        found = None
    if found is None:
        return f"the database has no tables yet, this program needs revision {REVISION}: {_UPGRADE}"
    if found < REVISION:
        return f"the database is at revision {found}, this program needs {REVISION}: {_UPGRADE}"
    if found > REVISION:
        return f"the database is at revision {found}, newer than this program's {REVISION}: update Trimtab"
    return None


_UPGRADE = "run `python -m migrations.upgrade`"
