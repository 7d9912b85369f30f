"""Every statement that the service makes finds its rows by an index, on both databases."""

from __future__ import annotations

import ast
import math
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import Connection, PrimaryKeyConstraint, UniqueConstraint, event, select
from sqlalchemy.orm import Session

import service.db
from search.decide import decide
from search.decision import Answer, Continue, Finish, Fork, Stop
from service.db import (
    checkpoints,
    decisions,
    ends,
    events,
    facts,
    fits,
    imports,
    leases,
    processes,
    reads,
    reports,
    schema,
    sources,
    studies,
    trials,
    views,
)
from service.db.engine import Database
from service.db.models import Base, StudyRow, TrialRow
from service.db.reads import replay
from service.db.reads.trials import TrialSort
from service.errors import ConflictError
from service.loops.upkeep import Complete, Heartbeat, Learn, Reap
from tests.service.conftest import study_spec
from tests.service.test_scaling import SPEC as SCALING
from trimtab.wire.laws import FitCounts, FitRequest, FitSource
from trimtab.wire.states import StudyState, TrialState
from trimtab.wire.views import ContinueRequest, EnqueueRequest, ExtendRequest, ForkRequest
from trimtab.wire.work import (
    AskRequest,
    Assignment,
    Capacity,
    EndRequest,
    ImportRequest,
    LeaseRequest,
    RegisterRequest,
    ReportsRequest,
    UploadedFolder,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = ("processes", "alembic_version")
"""Tables that may be read whole: a row for each scheduler and dispatcher, and one row."""
TABLES = "|".join(name for name in Base.metadata.tables if name not in SMALL)

NEWEST = re.compile(
    r"FROM studies\s+(WHERE (?!.*studies\.state = ).*)?ORDER BY studies\.id DESC"
    r"|FROM fits\s+ORDER BY fits\.id DESC",
    re.DOTALL,
)
"""The lists of studies and of fits walk their ids downwards until a page is full. A part of a name and a
tag have no index: studies are few, and what is asked for is mostly among the newest."""

Calls = set[tuple[str, str]]


@contextmanager
def recorded(database: Database) -> Iterator[tuple[dict[str, Any], Calls]]:
    """The statements executed meanwhile, each with one set of its parameters, and by what functions."""
    statements: dict[str, Any] = {}
    calls: Calls = set()
    home = str(Path(service.db.__file__).parent)

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if re.match(r"\s*(SELECT|UPDATE|DELETE)", statement):
            statements.setdefault(statement, parameters[0] if many else parameters)
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if frame.f_code.co_filename.startswith(home):
                calls.add((Path(frame.f_code.co_filename).name, frame.f_code.co_name))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield statements, calls
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def functions_with_queries() -> Calls:
    """The functions of ``service.db`` that execute statements themselves, by file."""
    methods = {"execute", "scalar", "scalars", "get", "get_one", "refresh"}
    found: Calls = set()
    for path in Path(service.db.__file__).parent.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and any(
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in methods
                and ast.unparse(node.func.value) in ("session", "connection", "session.connection()")
                for node in ast.walk(function)
            ):
                found.add((path.name, function.name))
    return found


class Life:
    """Calls everything that the service can be asked, as people, workers, scheduler and readers do."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = START

    def write(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        with self.database.write() as session:
            return call(session, *arguments, **named)

    def read(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        with self.database.read() as session:
            return call(session, *arguments, **named)

    def create(self, key: str, **changes: Any) -> None:
        spec = study_spec(**{"name": key, "fidelity": {"min": 1, "max": 9}, "parallelism": 9} | changes)
        self.write(studies.create, spec, key=key, idempotency_key=f"for {key}", now=self.now)
        self.write(studies.create, spec, key="again", idempotency_key=f"for {key}", now=self.now)

    def lease(self, most: int) -> list[Assignment]:
        request = LeaseRequest(worker="w", incarnation="1", free=Capacity(cpus=99), max_runs=most)
        found: list[Assignment] = self.write(leases.lease, request, self.now).assignments
        return found

    def report(self, work: list[Assignment], step: int, value: float = 1.0) -> None:
        self.now += timedelta(seconds=10)
        document = [
            {
                "token": each.token,
                "seq": step,
                "measurements": [{"step": step, "metrics": {"loss": value * each.trial / step}}],
                "checkpoint": {"step": step, "uri": f"mem://{each.token}/{step}"},
            }
            for each in work
        ]
        self.write(reports.record, ReportsRequest.model_validate({"reports": document}), self.now)

    def end(self, work: Assignment, outcome: str, step: int) -> None:
        request = EndRequest.model_validate({"token": work.token, "outcome": outcome, "step": step})
        self.write(ends.end, request, self.now)

    def decide(self, key: str, *answers: Answer | None, between: Callable[[], Any] | None = None) -> None:
        """Ask about a study and carry out the answers; None stands for the strategy's own."""
        curves = views.Curves()
        for answer in answers:
            running = self.read(decisions.running)
            (study_id,) = [study.study_id for study in running if study.key == key]
            question = self.read(decisions.question, study_id, curves=curves, attempt=0, now=self.now)
            assert question is not None
            if between is not None:
                between()
            chosen = answer or decide(question.view, question.slots, question.seed)
            self.write(decisions.apply, question, chosen, seconds=0.1, now=self.now)
            self.write(decisions.note_error, study_id, "an error", now=self.now)

    def populate(self) -> None:
        point = [{"step": step, "metrics": {"loss": 9.0 / step}} for step in (1, 2, 3)]
        rows = [{"params": {"lr": 0.1 + i / 1000}, "curve": point} for i in range(100)]
        for number in range(20):
            self.create(f"other{number}", tags=["old"])
            self.write(studies.pause, f"other{number}", self.now)
        imported = ImportRequest.model_validate({"trials": rows})
        self.write(imports.import_trials, "other0", imported, self.now)
        self.rows = rows
        lrs = [{"params": {"lr": 0.001 * i}, "label": "default"} for i in range(1, 9)]
        self.create(
            "main",
            enqueue=lrs,
            strategy={"name": "asha"},
            stopping=[{"rule": "median"}, {"rule": "predicted", "min_trials": 5}],
            checkpoints={"keep": "best"},
            budget={
                "trials": 100,
                "fidelity": 9000,
                "gpu_hours": 9,
                "wall_clock_seconds": 1e9,
                "target": 0,
            },
        )
        self.create("warm", warm_start={"studies": ["other0"]})
        goals: dict[str, Any] = {
            "objectives": [{"name": "cost"}],
            "limits": [{"metric": "ms", "at_most": 9}],
            "checkpoints": {"keep": "best"},
        }
        self.create("goals", strategy={"name": "random"}, enqueue=lrs[:1], **goals)
        ends = [{"step": 9, "metrics": {"loss": 1.0, "cost": 1.0 + i, "ms": 5.0}} for i in range(3)]
        found = ImportRequest.model_validate({"trials": [lrs[0] | {"curve": [end]} for end in ends]})
        self.write(imports.import_trials, "goals", found, self.now)
        sizes = {
            "lr": {"type": "float", "low": 0.001, "high": 1},
            "width": {"type": "int", "low": 1, "high": 9},
        }
        self.create(
            "sized",
            trainer={"name": "external"},
            space=sizes,
            strategy={"name": "mf-bo", "options": {"along": "width"}},
            enqueue=[{"params": {"lr": 0.1, "width": 1}}],
        )
        workload = {"trainer": "synthetic", "steps": 9, "target": {"metric": "loss", "at_most": 0.1}}
        self.create(
            "suite",
            trainer={"name": "suite", "workloads": [{"name": name, **workload} for name in ("a", "b")]},
            metric={"name": "score"},
            enqueue=lrs[:1],
        )
        self.create("population", strategy={"name": "pbt"}, enqueue=lrs[:1])
        self.create(
            "seeded",
            trainer={"name": "external"},
            strategy={"name": "random"},
            budget={"trials": 2},
            enqueue=[row | {"to_end": True} for row in lrs[:2]],
            seeds={"tuning": [0, 1], "test": [7, 8], "finalists": 1},
            checkpoints={"keep": "best"},
        )
        self.create("asked", trainer={"name": "external"}, enqueue=lrs[:1])
        self.create("spent", budget={"fidelity": 5}, enqueue=[row | {"to_end": True} for row in lrs[:3]])
        limits = {"strategy": {"name": "random"}, "limits": goals["limits"]}
        self.create("hopeless", retries={"crash": 0}, enqueue=lrs[:6], **limits)
        self.create("failing", retries={"crash": 0}, enqueue=lrs[:1])

    def learn(self) -> None:
        whole = [{"step": step, "metrics": {"loss": 9.0 / step}} for step in range(1, 10)]
        finished = [row | {"curve": whole} for row in self.rows[:9]]
        request = ImportRequest.model_validate({"trials": finished})
        self.write(imports.import_trials, "main", request, self.now)
        Learn(self.database).tick(self.now)

    def train(self) -> None:
        register = RegisterRequest(worker="w", incarnation="1")
        self.write(leases.register, register, self.now)
        self.write(leases.ask, "asked", AskRequest(), self.now)
        self.report([self.write(leases.ask, "sized", AskRequest(), self.now).assignment], 1)
        work: dict[str, list[Assignment]] = {}
        for each in self.lease(18):
            work.setdefault(each.study, []).append(each)
        for each in (*work["hopeless"], *work["failing"]):
            self.end(each, "failed", 0)
        self.decide("failing", Answer((Finish("nothing is left"),)))
        main = work["main"]
        for step in range(1, 6):
            self.report([*main[:5], *work["spent"], *work["goals"], *work["population"]], step)
        self.report(main[5:], 1, value=math.nan)
        Complete(self.database).tick(self.now)
        self.end(main[0], "finished", 9)
        self.end(main[1], "finished", main[1].target_step)
        self.end(main[2], "failed", 5)
        self.end(main[3], "released", 5)
        self.write(studies.pause, "main", self.now)
        self.report(main[4:5], 6)
        self.end(main[4], "finished", 6)
        self.write(studies.resume, "main", self.now)
        folder = UploadedFolder(study="main", token=main[0].token, step=99)
        self.read(checkpoints.orphans, [folder])

    def search(self) -> None:
        queue = EnqueueRequest(params={"lr": 0.5}, to_end=True)
        self.decide("main", None, None, between=lambda: self.write(trials.enqueue, "main", queue, self.now))
        paused = self.read(reads.list_trials, "main", state=TrialState.PAUSED).items
        first, second = (trial.number for trial in paused[:2])
        self.decide("main", Answer((Continue(first, 9, "good"),)), Answer((Stop(second, "bad"),)))
        self.decide("main", Answer((Fork(1, 5, {"lr": 0.4}, 9, "better"),)))
        self.decide("warm", None)

    def repeat(self) -> None:
        for _ in range(30):
            detail = self.read(reads.study_detail, "seeded", self.now)
            work = self.write(leases.ask, "seeded", AskRequest(), self.now).assignment
            if detail.state == "completed":
                break
            if work is not None:
                self.report([work], 9)
                self.end(work, "finished", 9)
            elif detail.finals is None:
                self.decide("seeded", None)
            else:
                Complete(self.database).tick(self.now)
        assert detail.finals is not None
        assert detail.finals.winner is not None

    def command(self) -> None:
        queued = self.read(reads.list_trials, "main", state=TrialState.QUEUED).items[0].number
        self.write(trials.stop, "main", queued, self.now)
        self.write(trials.retry, "main", queued, self.now)
        self.write(trials.train_on, "main", 1, ContinueRequest(target_step=20), self.now)
        self.write(trials.fork, "main", 1, ForkRequest(target_step=30), self.now)
        self.write(studies.extend, "spent", ExtendRequest(fidelity=500), self.now)
        self.write(studies.prune, "spent", self.now)
        self.write(studies.unprune, "spent", self.now)

    @staticmethod
    def plan(session: Session) -> None:
        """Give a trial a schedule, as a strategy would have when it was launched."""
        main = select(StudyRow.id).where(StudyRow.key == "main").scalar_subquery()
        wanted = select(TrialRow).where(TrialRow.study_id == main, TrialRow.number == 1)
        session.scalars(wanted).one().schedule = [[0, 0.1]]

    def look(self) -> None:
        for wanted in ({}, {"state": StudyState.RUNNING}, {"name": "other"}, {"tag": "old"}):
            page = self.read(reads.list_studies, now=self.now, limit=1, **wanted)
            self.read(reads.list_studies, now=self.now, cursor=page.next_cursor, limit=1, **wanted)
        for call in (reads.study_detail, reads.summary):
            self.read(call, "main", self.now)
        self.read(reads.best, "main")
        self.read(reads.version, "main")
        self.read(views.of_study, "main")
        self.read(reads.stops, "main")
        with pytest.raises(ConflictError):
            self.read(reads.schedule, "main", number=1)
        self.write(self.plan)
        self.read(reads.schedule, "main", number=1)
        with pytest.raises(ConflictError):
            self.read(reads.profile, "suite")
        self.read(reads.front, "goals", others=5)
        self.read(lambda session: list(replay.answers(session, "main")))
        self.read(reads.curves, "main", max_points=10)
        self.read(reads.curves, "main", max_points=10, max_lines=4)
        for sort in get_args(TrialSort):
            for state in (None, TrialState.COMPLETED):
                page = self.read(reads.list_trials, "other0", limit=2, state=state, sort=sort)
                cursor = page.next_cursor
                self.read(reads.list_trials, "other0", limit=2, state=state, sort=sort, cursor=cursor)
        self.read(reads.trial_detail, "main", 1)
        self.read(reads.trial_detail, "seeded", 1)
        self.read(reads.list_trials, "seeded", limit=2, replicas=False)
        self.read(reads.best, "seeded")
        page = self.read(reads.decisions, "main", limit=1)
        self.read(reads.decisions, "main", limit=1, cursor=page.next_cursor)
        for key in (None, "main"):
            self.read(events.read, after=3, study_key=key, limit=10)
        self.read(events.settled)
        self.read(processes.components, self.now)
        self.read(schema.mistake)

    def fit(self) -> None:
        request = FitRequest(name="law", studies=["main"])
        self.read(reads.fit_trials, ["main"])
        counts = FitCounts(runs=9, diverged=0, cells=3, n=(1.0, 2.0), d=(1.0, 2.0))
        source = FitSource(
            kind="studies", studies=["main"], columns={}, batch_unit=None, sequence_length=None
        )
        for number in range(4):
            new = fits.NewFit(request, source, counts, {})
            key = f"idempotent{number}"
            self.write(fits.create, new, key=f"f{number}", idempotency_key=key, now=self.now)
            self.read(fits.earlier, key, request)
        self.read(fits.waiting, self.now)
        taken = [self.write(fits.take, self.now) for _ in range(3)]
        self.write(fits.renew, taken[0], 0.5, self.now)
        self.write(fits.give_back, taken[1])
        self.write(fits.finish, taken[0], law={}, summary={}, cautions=[], now=self.now)
        self.write(fits.fail, taken[2], "no", self.now)
        page = self.read(reads.list_fits, limit=2)
        self.read(reads.list_fits, cursor=page.next_cursor)
        self.read(reads.fit_detail, "f0")
        self.read(reads.fit_state, "f0")
        self.read(reads.stored_law, "f0")
        self.write(fits.remove, "f3")
        self.create("scaled", **SCALING)
        self.write(studies.cancel, "scaled", self.now)  # its laws are those of its end
        assert self.read(reads.study_detail, "scaled", self.now).scaling is not None

    def finish(self) -> None:
        heartbeat = Heartbeat(self.database, name="s", incarnation="1")
        for _ in range(2):
            heartbeat.tick(self.now)
            self.now += timedelta(minutes=1)
        self.write(leases.register, RegisterRequest(worker="w", incarnation="2"), self.now)
        self.lease_again()
        Reap(self.database).tick(self.now)
        for key in ("main", "spent", "goals", "population"):
            self.write(studies.cancel, key, self.now)
            self.write(studies.delete, key)
        garbage = self.write(checkpoints.garbage)
        self.write(checkpoints.done, [item.id for item in garbage])

    def lease_again(self) -> None:
        request = LeaseRequest(worker="w", incarnation="2", free=Capacity(cpus=99), max_runs=2)
        self.write(leases.lease, request, self.now)
        self.now += timedelta(days=1)


def sqlite_scans(connection: Connection, statement: str, parameters: Any) -> list[str]:
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return [row[3] for row in plan if re.match(rf"SCAN ({TABLES})(_\d+)?\b", row[3])]


def postgresql_scans(connection: Connection, statement: str, parameters: Any) -> list[str]:
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    found: list[str] = []

    def walk(node: dict[str, Any]) -> None:
        name, relation = node["Node Type"], node.get("Relation Name") or node.get("Index Name", "")
        whole_table = name == "Seq Scan" and re.fullmatch(TABLES, relation)
        whole_index = "Index" in name and "Index Cond" not in node and not relation.startswith(SMALL)
        if whole_table or whole_index:
            found.append(f"{name} on {relation}")
        for child in node.get("Plans", ()):
            walk(child)

    walk(plan["Plan"])
    return found


def test_no_statement_reads_a_whole_table(new_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_TRIALS", 50)  # so that one has more
    monkeypatch.setattr(facts, "_facts", OrderedDict())  # what another test has read is read again
    with recorded(new_database) as (statements, calls):
        life = Life(new_database)
        for part in (
            life.populate,
            life.learn,
            life.train,
            life.search,
            life.repeat,
            life.command,
            life.look,
            life.fit,
            life.finish,
        ):
            part()
    assert functions_with_queries() <= calls, "some make statements that this test does not see"
    unindexed = "SELECT number FROM trials WHERE label = 'x'"
    scans: dict[str, list[str]] = {}
    with new_database.engine.connect() as connection:
        if not new_database.is_sqlite:  # tables this small would be read whole for good reasons
            connection.exec_driver_sql("SET enable_seqscan = off")
        look = sqlite_scans if new_database.is_sqlite else postgresql_scans
        assert look(connection, unindexed, ())  # the check itself can fail
        for statement, parameters in statements.items():
            if NEWEST.search(statement) is None and (found := look(connection, statement, parameters)):
                scans[statement] = found
    assert scans == {}


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_rows_that_go_with_another_are_found_by_an_index(table: str) -> None:
    """Deleting a study deletes what refers to it: each foreign key begins an index of its table."""
    found = Base.metadata.tables[table]
    keys = [each for each in found.constraints if isinstance(each, PrimaryKeyConstraint | UniqueConstraint)]
    first = {next(iter(each.columns)).name for each in (*keys, *found.indexes)}
    assert {column.name for column in found.columns if column.foreign_keys} <= first
