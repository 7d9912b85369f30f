"""Alembic's entry: connects through the service's own engine, so that pragmas hold here too."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import text

from service.db.engine import Database
from service.db.models import Base, UtcDateTime

UPGRADE_LOCK = 7_245_901  # PostgreSQL advisory lock: one process migrates, the others wait


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write our column types as SQLAlchemy's own: a migration must not change when our code does."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run() -> None:
    database = Database(context.config.attributes["url"])
    try:
        with database.engine.execution_options(immediate=True).connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=Base.metadata,
                render_as_batch=database.is_sqlite,
                compare_type=True,
                render_item=render_item,
            )
            with connection.begin():
                if not database.is_sqlite:
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))
                with context.begin_transaction():
                    context.run_migrations()
    finally:
        database.dispose()


run()
