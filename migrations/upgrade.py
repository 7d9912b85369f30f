"""Bring a database to the newest revision: ``python -m migrations.upgrade [URL]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config


def config(url: str) -> Config:
    """The Alembic configuration for a database, without an ini file."""
    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent))
    alembic.attributes["url"] = url
    return alembic


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate the database at ``url``. Safe to run by several processes at once."""
    command.upgrade(config(url), revision)


if __name__ == "__main__":
    upgrade(sys.argv[1] if len(sys.argv) > 1 else os.environ["TRIMTAB_DATABASE_URL"])
