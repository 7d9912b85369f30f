"""A small HTTP server that answers as a test says."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

Answer = tuple[int, Any] | Callable[["Request"], tuple[int, Any]]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any


@dataclass
class Stub:
    """Answers each ``METHOD /path`` with its answers in turn; the last one again and again."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def on(self, call: str, *answers: Answer) -> None:
        self.answers[call] = list(answers)

    def calls(self, call: str) -> list[Request]:
        return [request for request in self.requests if f"{request.method} {request.path}" == call]

    def answer(self, request: Request) -> tuple[int, Any]:
        self.requests.append(request)
        queue = self.answers.get(f"{request.method} {request.path}")
        if not queue:
            return 404, problem(404, "there is no such thing")
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        return answer(request) if callable(answer) else answer


def problem(status: int, detail: str, *errors: dict[str, str]) -> dict[str, Any]:
    return {"type": "x", "title": "t", "status": status, "detail": detail, "errors": list(errors)}


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def serve(self) -> None:
            path, _, query = self.path.partition("?")
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = made.answer(Request(self.command, path, query, headers, body))
            if status == 0:  # break the connection
                self.close_connection = True
                return
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if isinstance(content, bytes):
                self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = serve  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


def study(**changes: Any) -> dict[str, Any]:
    """A StudyDetail as the service sends it."""
    spec = {
        "name": "demo",
        "trainer": {"name": "external"},
        "space": {"lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True}},
        "metric": {"name": "loss"},
        "fidelity": {"max": 100},
        "budget": {"trials": 10},
    }
    best = {"number": 2, "value": 0.25, "step": 90, "params": {"lr": 0.1}, "label": None}
    return {
        "id": "abc123", "name": "demo", "state": "running", "state_reason": "", "strategy": "asha",
        "trainer": "external", "metric": "loss", "direction": "minimize",
        "trials": {"running": 1, "paused": 2, "failed": 1}, "best_value": 0.25, "best_trial": 2,
        "budget_fraction": 0.4, "tags": [], "created_at": "2026-01-01T00:00:00Z",
        "started_at": "2026-01-01T00:00:00Z", "ended_at": None, "spec": spec,
        "budget": [{"name": "trials", "used": 4, "limit": 10, "fraction": 0.4}], "best": best,
        "savings": {"trained": 120, "full": 400, "fraction_saved": 0.7}, "eta_seconds": 65.0,
        "elapsed_seconds": 30.0, "decide_error": None, **changes,
    }  # fmt: skip


def item(**changes: Any) -> dict[str, Any]:
    """A StudyItem as the service sends it."""
    whole = study(**changes)
    for name in ("spec", "budget", "best", "savings", "eta_seconds", "elapsed_seconds", "decide_error"):
        del whole[name]
    return whole


def trial(**changes: Any) -> dict[str, Any]:
    """A TrialItem as the service sends it."""
    return {
        "number": 1, "state": "completed", "state_reason": "", "params": {"lr": 0.5}, "label": None,
        "origin": "strategy", "step": 100, "target_step": 100, "value": 0.5, "best_value": 0.5,
        "best_step": 100, "seconds": 3.5, "runs": 1, "retries": 0, "failure_kind": None,
        "created_at": "2026-01-01T00:00:00Z", "ended_at": None, **changes,
    }  # fmt: skip
