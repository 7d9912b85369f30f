"""Which revision of the tables this code is written for."""

from __future__ import annotations

from sqlalchemy import column, select, table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

REVISION = "0001"
"""The newest migration. A test holds it to the folder ``migrations/versions``."""


def mistake(session: Session) -> str | None:
    """What keeps this database from being used, and what to do; None when all is well."""
    version = table("alembic_version", column("version_num"))
    try:
        found = session.scalar(select(version.c.version_num))
    except DBAPIError as error:
        session.rollback()
        if "alembic_version" not in str(error.orig):
            return f"the database cannot be read: {error.orig}"
        found = None
    if found == REVISION:
        return None
    state = "has no tables yet" if found is None else f"is at revision {found}, this program at {REVISION}"
    return f"the database {state}: run `python -m migrations.upgrade`"
