"""Engines and transactions for both databases.

SQLite runs in WAL mode with ``synchronous=NORMAL``: a killed process loses nothing that was committed;
a power cut may lose the last moments but never corrupts. It has one writer at a time, so write
transactions begin IMMEDIATE and, inside a process, queue at a lock rather than at SQLite's busy timer,
whose sleeps would show as latency.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

BUSY_TIMEOUT_MS = 30_000

DatabaseError = DBAPIError
"""What a transaction raises when the database is away or breaks it off; it may be tried again."""

AwayError = OperationalError
"""The kind of it that is nobody's mistake: the database cannot be reached, or is locked for too long."""


class Database:
    """One database, SQLite or PostgreSQL. Transactions are opened here and nowhere else."""

    def __init__(self, url: str, *, pool_size: int = 16) -> None:
        """Open ``url`` (``sqlite:///path`` or ``postgresql+psycopg://...``), making SQLite's folder.

        Raises :class:`ValueError` for what is no such address.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise ValueError(
                "TRIMTAB_DATABASE_URL is no address of a database (sqlite:///FILE, postgresql://...)"
            ) from error
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.dialect = parsed.get_backend_name()
        if self.dialect == "sqlite":
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_engine(parsed, pool_size=pool_size, max_overflow=32)
            event.listen(self.engine, "connect", _sqlite_pragmas)
            event.listen(self.engine, "begin", _sqlite_begin)
        elif self.dialect == "postgresql":
            self.engine = create_engine(parsed, pool_size=pool_size, max_overflow=32, pool_pre_ping=True)
        else:
            raise ValueError(f"database {parsed.drivername!r} is not supported: use sqlite or postgresql")
        self._writer = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        return self.dialect == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A read-write transaction: committed at the end, rolled back on any exception."""
        if self.is_sqlite:
            with (
                self._writer,
                Session(self.engine.execution_options(immediate=True)) as session,
                session.begin(),
            ):
                yield session
        else:
            with Session(self.engine) as session, session.begin():
                yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only transaction: one consistent snapshot on SQLite, read-committed elsewhere."""
        with Session(self.engine) as session:
            yield session
            session.rollback()

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def is_postgresql(session: Session) -> bool:
    """Whether rows must be locked one by one. SQLite's only writer holds the whole database."""
    return session.get_bind().dialect.name == "postgresql"


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin hook below decides how to begin
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "temp_store = MEMORY",
        "cache_size = -65536",
        "wal_autocheckpoint = 2000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Any) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
