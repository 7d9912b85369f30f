"""The worker-facing calls of the service, in memory: enough to watch a dispatcher from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel

from trimtab.wire.states import Verdict
from trimtab.wire.work import (
    Assignment,
    Capacity,
    CheckpointRef,
    EndRequest,
    EndResponse,
    GarbageDone,
    GarbageItem,
    GarbageResponse,
    LeaseRequest,
    LeaseResponse,
    OrphansRequest,
    OrphansResponse,
    RegisterRequest,
    ReportReply,
    ReportsRequest,
    ReportsResponse,
    SavedCheckpoint,
)

Rule = Callable[[int, dict[str, float]], Verdict]


@dataclass
class Heard:
    """What the stub knows of one attempt."""

    assignment: Assignment
    curve: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: dict[int, float | None] = field(default_factory=dict)
    seqs: list[int] = field(default_factory=list)
    checkpoints: list[SavedCheckpoint] = field(default_factory=list)
    end: EndRequest | None = None
    leased: bool = False
    came_with_end_of: int | None = None
    """The token of the attempt whose end brought it, if no lease call did."""


class StubService:
    """Start with :meth:`start`; queue assignments; look at ``heard``."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.queue: list[Assignment] = []
        self.heard: dict[int, Heard] = {}
        self.rules: dict[int, Rule] = {}
        self.registered: list[RegisterRequest] = []
        self.garbage: list[GarbageItem] = []
        self.deleted: list[int] = []
        self.orphans: set[int] = set()
        self.free: Capacity | None = None
        self.slow_end = 0.0
        """Seconds from an end to its answer."""
        self.authorization: set[str | None] = set()
        self._tokens = 0
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self) -> None:
        """Listen, on the same port as before if it was stopped."""
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None: ...

            def do_GET(self) -> None:
                self._answer(stub.on_garbage())

            def do_POST(self) -> None:
                stub.authorization.add(self.headers.get("Authorization"))
                body = self.rfile.read(int(self.headers["Content-Length"]))
                match self.path.rpartition("/")[2]:
                    case "register":
                        stub.registered.append(RegisterRequest.model_validate_json(body))
                        self._answer(None)
                    case "lease":
                        self._answer(stub.on_lease(LeaseRequest.model_validate_json(body)))
                    case "reports":
                        self._answer(stub.on_reports(ReportsRequest.model_validate_json(body)))
                    case "end":
                        self._answer(stub.on_end(EndRequest.model_validate_json(body)))
                    case "orphans":
                        asked = OrphansRequest.model_validate_json(body)
                        self._answer(stub.on_orphans(asked))
                    case "garbage":
                        stub.on_deleted(GarbageDone.model_validate_json(body))
                        self._answer(None)

            def _answer(self, model: BaseModel | None) -> None:
                content = b"" if model is None else model.model_dump_json().encode()
                self.send_response(204 if model is None else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                if stub._server is None:
                    self.close_connection = True

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Go away: open connections are refused from the next call on."""
        server, self._server = self._server, None
        assert server is not None
        server.shutdown()
        server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, rule: Rule | None = None, **changes: Any) -> Heard:
        """Queue a run; its attempt's record comes back at once."""
        with self.lock:
            self._tokens += 1
            fields: dict[str, Any] = {
                "token": self._tokens,
                "study": "s1",
                "study_name": "stub",
                "trial": self._tokens,
                "run": 1,
                "params": {},
                "trainer": {"name": "synthetic"},
                "training_seed": 3,
                "start_step": 0,
                "target_step": 20,
                "max_step": 20,
                "report_every": 1,
                "metric": "loss",
                "resources": {},
                "hang_after_seconds": 60.0,
                "lease_seconds": 30.0,
            }
            assignment = Assignment.model_validate(fields | changes)
            heard = self.heard[assignment.token] = Heard(assignment)
            if rule is not None:
                self.rules[assignment.token] = rule
            self.queue.append(assignment)
            self.lock.notify_all()
            return heard

    def resume(self, heard: Heard, **changes: Any) -> Heard:
        """Queue the next run of a trial from the last checkpoint that was heard of."""
        last = heard.checkpoints[-1]
        old = heard.assignment
        kept = old.model_dump(exclude={"token", "start_step", "checkpoint", "run"})
        reference = CheckpointRef(id=1, step=last.step, uri=last.uri)
        return self.add(
            **kept
            | {"start_step": last.step, "checkpoint": reference.model_dump(), "run": old.run + 1}
            | changes
        )

    def wait(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Until the condition holds, which is looked at after every call."""
        with self.lock:
            assert self.lock.wait_for(lambda: bool(condition()), seconds), "it did not happen in time"

    def wait_end(self, heard: Heard, seconds: float = 60.0) -> EndRequest:
        self.wait(lambda: heard.end is not None, seconds)
        assert heard.end is not None
        return heard.end

    def on_lease(self, request: LeaseRequest) -> LeaseResponse:
        with self.lock:
            self.free = request.free
            self.lock.notify_all()
            self.lock.wait_for(lambda: self._fitting(request), request.wait_seconds)
            return LeaseResponse(assignments=self._give(request))

    def _give(self, request: LeaseRequest, end_of: int | None = None) -> list[Assignment]:
        given = self._fitting(request)
        for assignment in given:
            self.queue.remove(assignment)
            heard = self.heard[assignment.token]
            heard.leased, heard.came_with_end_of = True, end_of
        return given

    def _fitting(self, request: LeaseRequest) -> list[Assignment]:
        cpus, gpus = request.free.cpus, request.free.gpus
        given = []
        for assignment in self.queue:
            wanted = assignment.resources
            if wanted.cpus <= cpus and wanted.gpus <= gpus and len(given) < request.max_runs:
                cpus, gpus = cpus - wanted.cpus, gpus - wanted.gpus
                given.append(assignment)
        return given

    def on_reports(self, request: ReportsRequest) -> ReportsResponse:
        with self.lock:
            replies = []
            for report in request.reports:
                heard = self.heard[report.token]
                self._store(heard, report)
                rule = self.rules.get(report.token)
                last = max(heard.curve, default=0)
                verdict = rule(last, heard.curve.get(last, {})) if rule else Verdict.CONTINUE
                replies.append(ReportReply(token=report.token, verdict=verdict))
            self.lock.notify_all()
            return ReportsResponse(replies=replies)

    def on_end(self, request: EndRequest) -> EndResponse:
        with self.lock:
            heard = self.heard[request.token]
            self._store(heard, request)
            heard.end = request
            self.lock.notify_all()
            following = [] if request.lease is None else self._give(request.lease, request.token)
            self.lock.wait_for(lambda: False, self.slow_end)
            return EndResponse(accepted=True, trial_state="completed", assignments=following)

    def _store(self, heard: Heard, said: Any) -> None:
        if said.seq in heard.seqs:
            return
        heard.seqs.append(said.seq)
        for measurement in said.measurements:
            assert measurement.step not in heard.curve, "a step was measured twice under one token"
            heard.curve[measurement.step] = dict(measurement.metrics)
            heard.seconds[measurement.step] = measurement.seconds
        if said.checkpoint is not None:
            heard.checkpoints.append(said.checkpoint)

    def on_garbage(self) -> GarbageResponse:
        return GarbageResponse(items=[item for item in self.garbage if item.id not in self.deleted])

    def on_orphans(self, request: OrphansRequest) -> OrphansResponse:
        return OrphansResponse(folders=[f for f in request.folders if f.token in self.orphans])

    def on_deleted(self, done: GarbageDone) -> None:
        with self.lock:
            self.deleted.extend(done.ids)
            self.lock.notify_all()
