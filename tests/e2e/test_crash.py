"""Any process may be killed at any moment: nothing acknowledged is lost, the study goes on by itself."""

from __future__ import annotations

import signal
import sqlite3
from typing import Any

import psutil

from tests.e2e.conftest import Server

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


def test_study_survives_the_death_of_every_process(server: Server) -> None:
    study = server.post("studies", STUDY)["id"]
    database = sqlite3.connect(f"file:{server.home}/trimtab.db?mode=ro", uri=True)

    def measurements() -> int:
        return int(database.execute("SELECT count(*) FROM measurements").fetchone()[0])

    for needle in ("TrainingActor", "workers.dispatcher", "service.scheduler", "service.api"):
        before = measurements()
        server.wait(lambda seen=before: measurements() >= seen + 8, 60, "progress")
        acknowledged = set(database.execute("SELECT trial_id, step, value FROM measurements"))
        _victim(server.process.pid, needle).send_signal(signal.SIGKILL)
        server.wait(server.ready, 60, f"recovery from the death of {needle}")
        now = set(database.execute("SELECT trial_id, step, value FROM measurements"))
        assert acknowledged <= now, f"killing {needle} lost {acknowledged - now}"

    detail = server.wait_ended(study, 120)
    assert detail["state"] == "completed"
    counts = detail["trials"]
    assert counts["failed"] == counts["queued"] == counts["running"] == 0
    assert counts["completed"] + counts["paused"] + counts["stopped"] == TRIALS
    assert counts["completed"] >= 1
    rows = database.execute(
        "SELECT t.number, t.step, t.target_step, group_concat(m.step) FROM trials t "
        "JOIN measurements m ON m.trial_id = t.id GROUP BY t.id"
    ).fetchall()
    assert len(rows) == TRIALS
    for number, step, target, steps in rows:
        curve = sorted(int(text) for text in steps.split(","))
        assert curve == list(range(1, target + 1)), f"trial {number}: gaps or duplicates in {curve}"
        assert step == target
    active = database.execute("SELECT count(*) FROM attempts WHERE state = 'active'").fetchone()[0]
    assert active == 0
    lost = database.execute("SELECT count(*) FROM attempts WHERE state = 'lost'").fetchone()[0]
    assert lost >= 1, "the kills must have hit running attempts, or this test shows nothing"
