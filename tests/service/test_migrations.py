"""The migrations build exactly the tables that the models describe, on both databases."""

from __future__ import annotations

import pytest
from alembic import command
from sqlalchemy import inspect

from migrations.upgrade import config, upgrade
from service.db.engine import Database
from service.db.models import Base


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def test_the_models_ask_for_nothing_that_the_migrations_lack(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    command.check(config(url_of(database)))  # raises if a migration were needed
    assert set(inspect(database.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_down_and_up_again(database: Database) -> None:
    command.downgrade(config(url_of(database)), "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    upgrade(url_of(database))
    upgrade(url_of(database))  # nothing is left to do
    assert set(Base.metadata.tables) < set(inspect(database.engine).get_table_names())
