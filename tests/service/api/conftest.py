"""A real server in a thread of its own, over each of the two databases."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api import Server, now
from service.app import create_app
from service.db.engine import Database
from service.settings import Settings

SPACE = {
    "lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
    "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
}
PARAMS = {"lr": 0.1, "optimizer": "adamw"}


class Api:
    """What tests do with a server, in few words."""

    def __init__(self, http: httpx.Client, database: Database) -> None:
        self.http = http
        self.database = database

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        return self._body(self.http.get(f"/v1{path}", params=query), status)

    def post(self, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._body(self.http.post(f"/v1{path}", json=body, headers=sent), status)

    def study(self, **changes: Any) -> str:
        """A new study whose loop is the test's own; its id."""
        return str(self.post("/studies", self.document(**changes), 201)["id"])

    def document(self, **changes: Any) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": "test",
            "trainer": {"name": "external"},
            "space": SPACE,
            "metric": {"name": "loss"},
            "fidelity": {"max": 10},
            "budget": {"trials": 100},
            "parallelism": 100,
            "strategy": {"name": "random"},
        }
        return document | changes

    def ask(self, study: str, **query: Any) -> dict[str, Any]:
        assignment = self.post(f"/studies/{study}/ask", {"wait_seconds": 0, **query})["assignment"]
        assert assignment is not None
        return dict(assignment)

    def report(self, token: int, seq: int, step: int, loss: Any, **more: Any) -> str:
        measured = [{"step": step, "metrics": {"loss": loss}}]
        report = {"token": token, "seq": seq, "measurements": measured, **more}
        return str(self.post("/work/reports", {"reports": [report]})["replies"][0]["verdict"])

    def end(self, token: int, step: int, outcome: str = "finished", **more: Any) -> Any:
        return self.post("/work/end", {"token": token, "outcome": outcome, "step": step, **more})

    @staticmethod
    def _body(response: httpx.Response, status: int) -> Any:
        assert response.status_code == status, response.text
        if status >= 400 and status != 503:
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == status
        return response.json() if response.content else None


_NUMBERS = itertools.count(1)
"""Of public ids: what is kept of a study in this process goes by its id, whichever server it is of."""


@contextmanager
def serving(settings: Settings, database: Database) -> Iterator[Server]:
    """A server on a free port of loopback, in a thread."""
    app = create_app(settings, database, clock=now, new_key=lambda: f"s{next(_NUMBERS)}")
    server = Server(app, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.address:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"


Serve = Callable[..., Api]


@pytest.fixture
def serve(databases: Any, tmp_path: Path) -> Iterator[Serve]:
    """Starts a server on SQLite with settings of the test's own."""
    stack = ExitStack()

    def start(headers: dict[str, str] | None = None, **settings: Any) -> Api:
        database = Database(databases.url("sqlite"))
        stack.callback(database.dispose)
        chosen = Settings(**{"home": tmp_path, "database_url": "sqlite://", **settings})
        server = stack.enter_context(serving(chosen, database))
        http = stack.enter_context(httpx.Client(base_url=server.address, timeout=20, headers=headers))
        return Api(http, database)

    with stack:
        yield start


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, databases: Any, tmp_path_factory: Any) -> Iterator[Api]:
    """A server with the default settings, shared by all tests: their studies live side by side."""
    database = Database(databases.url(request.param))
    settings = Settings(home=tmp_path_factory.mktemp("home"), database_url="sqlite://")
    with serving(settings, database) as server, httpx.Client(base_url=server.address, timeout=20) as http:
        yield Api(http, database)
    database.dispose()
