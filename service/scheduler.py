"""The scheduler: ``python -m service.scheduler``.

It asks search what to train next, takes runs back from workers that have gone silent, and ends studies
whose budget is spent. All it knows is in the database: it may be killed at any moment, and a second one
beside it does no harm.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import uuid

logger = logging.getLogger("service.scheduler")


def main() -> int:
    """Run until SIGTERM or SIGINT.

    The exit status is 1 if the database cannot be read, 2 if starting again would not help: settings or
    tables are wrong.
    """
    # Imported here because each worker process imports this module, too, and needs none of these.
    from service.db import schema
    from service.db.engine import Database, DatabaseError
    from service.loops.deciders import DeciderProcesses
    from service.loops.rounds import Scheduler
    from service.settings import Settings, SettingsError

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        settings = Settings.from_environment()
        database = Database(settings.database_url)
    except (SettingsError, ValueError) as error:
        logger.error("%s", error)
        return 2
    try:
        with database.read() as session:
            mistake = schema.mistake(session)
    except DatabaseError as error:  # it may be there at the next start
        logger.error("the database cannot be read: %s", error.orig)
        return 1
    if mistake is not None:
        logger.error("%s", mistake)
        return 2
    stop = _stop_on_signals()
    deciders = DeciderProcesses()
    incarnation = uuid.uuid4().hex
    name = f"scheduler@{socket.gethostname()}"
    try:
        deciders.warm()
        logger.info("started name=%s incarnation=%s", name, incarnation)
        Scheduler(database, deciders, name=name, incarnation=incarnation).run(stop)
    finally:
        deciders.close()
        database.dispose()
    logger.info("stopped")
    return 0


def _stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets.

    The handler runs inside the main thread, where setting an event that is being waited for can deadlock;
    so it leaves that to a thread.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    return stop


if __name__ == "__main__":
    sys.exit(main())
