"""Any process may be killed at any moment: nothing acknowledged is lost, the study goes on by itself."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bench.stack import free_port

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """``trimtab serve`` on SQLite in a home of its own, stopped and checked for orphans at the end."""
    port = free_port()
    environment = os.environ | {"TRIMTAB_HOME": str(tmp_path), "TRIMTAB_PORT": str(port)}
    for variable in ("TRIMTAB_TOKEN", "TRIMTAB_DATABASE_URL", "TRIMTAB_URL"):
        environment.pop(variable, None)
    log = (tmp_path / "serve.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "trimtab", "serve"], env=environment, stdout=log, stderr=subprocess.STDOUT
    )
    url = f"http://127.0.0.1:{port}"
    family: list[psutil.Process] = []
    try:
        _wait_until(lambda: _ready(url), 90, "the server to be ready", tmp_path / "serve.log")
        yield url, process, tmp_path
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(timeout=40)
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, f"left behind: {[child.cmdline() for child in alive]}"
    finally:
        for child in [*family, *_children(process.pid)]:
            if child.is_running():
                child.kill()
        process.kill()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _wait_until(done: Any, seconds: float, what: str, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return
        time.sleep(0.1)
    pytest.fail(f"waited {seconds:.0f} s for {what}; the server printed:\n{log.read_text()[-3000:]}")


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


def test_study_survives_the_death_of_every_process(
    server: tuple[str, subprocess.Popen[bytes], Path],
) -> None:
    url, process, home = server
    study = httpx.post(f"{url}/v1/studies", json=STUDY, timeout=10).raise_for_status().json()["id"]
    database = sqlite3.connect(f"file:{home}/trimtab.db?mode=ro", uri=True)

    def measurements() -> int:
        return int(database.execute("SELECT count(*) FROM measurements").fetchone()[0])

    log = home / "serve.log"
    for needle in ("TrainingActor", "workers.dispatcher", "service.scheduler", "service.api"):
        before = measurements()
        _wait_until(lambda seen=before: measurements() >= seen + 8, 60, "progress", log)
        acknowledged = set(database.execute("SELECT trial_id, step, value FROM measurements"))
        _victim(process.pid, needle).send_signal(signal.SIGKILL)
        _wait_until(lambda: _ready(url), 60, f"recovery from the death of {needle}", log)
        now = set(database.execute("SELECT trial_id, step, value FROM measurements"))
        assert acknowledged <= now, f"killing {needle} lost {acknowledged - now}"

    def detail() -> dict[str, Any]:
        try:
            answer: dict[str, Any] = httpx.get(f"{url}/v1/studies/{study}", timeout=10).json()
        except httpx.TransportError:
            return {"state": "unreachable"}
        return answer

    _wait_until(lambda: detail()["state"] == "completed", 120, "the study to complete", log)
    counts = detail()["trials"]
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
