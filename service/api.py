"""The API server: ``python -m service.api``. Stops within two seconds of SIGTERM, whoever is connected."""

from __future__ import annotations

import logging
import socket
import sys
import uuid
from datetime import UTC, datetime

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.db import schema
from service.db.engine import Database, DatabaseError
from service.settings import Settings, SettingsError

STOP_SECONDS = 1
_SWITCH_SECONDS = 1e-3
"""How long a thread may keep the interpreter. A transaction gives it up at each statement, and with the
usual 5 ms it may wait as long each time the event loop has calls to read."""


class Server(uvicorn.Server):
    """Uvicorn, which says when it is ready and lets go of open streams before it waits for calls to end."""

    def __init__(self, app: FastAPI, *, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,
                access_log=False,  # addresses of calls may hold what people paste into them
                server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._app = app
        self.address = ""
        """Where it listens, once it has started."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and print one line when calls are answered."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            print(f"Trimtab API ready at {self.address}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of listeners and long polls, then end the calls that are under way."""
        await self._app.state.context.close()
        await super().shutdown(sockets)


def new_key() -> str:
    """A new public id."""
    return uuid.uuid4().hex[:12]


def now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def main() -> int:
    """Serve until SIGTERM or SIGINT.

    The exit status is 1 if it could not, 2 if starting it again would not help: its settings or the tables
    are wrong.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.from_environment()
        database = Database(settings.database_url)
    except (SettingsError, ValueError) as error:
        print(f"Trimtab API: {error}", file=sys.stderr)
        return 2
    try:
        with database.read() as session:
            mistake = schema.mistake(session)
    except DatabaseError as error:  # it may be there at the next start
        print(f"Trimtab API: the database cannot be read: {error.orig}", file=sys.stderr)
        return 1
    if mistake is not None:
        print(f"Trimtab API: {mistake}", file=sys.stderr)
        return 2
    app = create_app(settings, database, clock=now, new_key=new_key)
    server = Server(app, host=settings.host, port=settings.port)
    try:
        server.run()
    finally:
        database.dispose()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
