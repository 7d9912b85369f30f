"""The migrations build exactly the tables that the models describe, on both databases."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import inspect, text

from migrations.upgrade import config, upgrade
from service.db import schema
from service.db.engine import Database
from service.db.models import Base

UPGRADE = "run `python -m migrations.upgrade`"


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def test_the_models_ask_for_nothing_that_the_migrations_lack(
    new_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    command.check(config(url_of(new_database)))  # raises if a migration were needed
    assert set(inspect(new_database.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_down_and_up_again(new_database: Database) -> None:
    command.downgrade(config(url_of(new_database)), "base")
    assert inspect(new_database.engine).get_table_names() == ["alembic_version"]
    upgrade(url_of(new_database))
    upgrade(url_of(new_database))  # nothing is left to do
    assert set(Base.metadata.tables) < set(inspect(new_database.engine).get_table_names())


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, f"has no tables yet, this program needs revision {schema.REVISION}: {UPGRADE}"),
        ("0000", f"is at revision 0000, this program needs {schema.REVISION}: {UPGRADE}"),
        ("9999", f"is at revision 9999, newer than this program's {schema.REVISION}: update Trimtab"),
    ],
)
def test_tables_of_another_revision_are_refused(
    new_database: Database, found: str | None, message: str
) -> None:
    with new_database.write() as session:
        assert schema.mistake(session) is None
        if found is None:
            session.execute(text("DROP TABLE alembic_version"))
        else:
            session.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    with new_database.read() as session:
        assert schema.mistake(session) == f"the database {message}"


def run(module: str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {
        "TRIMTAB_DATABASE_URL": url,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.run(
        [sys.executable, "-m", module], env=environ, cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_every_program_ends_at_once_on_tables_that_are_not_its_own(databases: Any, tmp_path: Path) -> None:
    url = databases.url("sqlite")
    database = Database(url)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.dispose()
    new = f"sqlite:///{tmp_path / 'new.db'}"
    calls = [(program, at) for program in ("service.api", "service.scheduler") for at in (url, new)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        programs = list(pool.map(lambda call: run(*call, tmp_path), calls))
    for done, expected in zip(programs, ["update Trimtab", UPGRADE] * 2, strict=True):
        assert done.returncode == 2
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = run("migrations.upgrade", url, tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1].endswith("Update Trimtab")) == (1, True)


@pytest.mark.parametrize("url", ["nothing", "mysql://localhost/trimtab"])
def test_an_upgrade_that_cannot_be_made_is_refused_in_one_line(
    databases: Any, tmp_path: Path, url: str
) -> None:
    done = run("migrations.upgrade", url, tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
