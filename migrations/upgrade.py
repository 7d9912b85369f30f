"""Bring a database to the newest revision: ``python -m migrations.upgrade [URL]``."""

from __future__ import annotations

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import OperationalError

from service.db.schema import REVISION
from service.settings import Settings


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
    """Upgrade the database of the command line or the settings; a message and exit code 1 if not."""
    try:
        upgrade(sys.argv[1] if len(sys.argv) > 1 else Settings.from_environment().database_url)
    except ValueError as error:
        sys.exit(str(error))
    except OperationalError as error:
        sys.exit(f"the database cannot be used: {error.orig}")
    except CommandError as error:  # it is at a revision that is not among ours
        sys.exit(f"the database is newer than this program (revision {REVISION}): {error}. Update Trimtab")


if __name__ == "__main__":
    main()
