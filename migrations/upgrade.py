"""Bring a database to the newest revision: ``python -m migrations.upgrade [URL]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError


def config(url: str) -> Config:
    """The Alembic configuration for a database, without an ini file."""
    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent))
    alembic.attributes["url"] = url
    return alembic


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate the database at ``url``. Safe to run by several processes at once."""
    command.upgrade(config(url), revision)


def main() -> None:
    """Upgrade the database of the command line or the environment; a message and exit code 1 if not."""
    try:
        upgrade(sys.argv[1] if len(sys.argv) > 1 else os.environ["TRIMTAB_DATABASE_URL"])
    except (ArgumentError, NoSuchModuleError) as error:
        sys.exit(
            f"TRIMTAB_DATABASE_URL is no address of a database (sqlite:///FILE, postgresql://...): {error}"
        )
    except OperationalError as error:
        sys.exit(f"the database cannot be used: {error.orig}")


if __name__ == "__main__":
    main()
