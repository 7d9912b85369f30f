"""The token of a whole server stays secret; a store or a database that is away loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.conftest import Server, serving
from workers import cluster

TOKEN = "s3cret-of-the-whole.stack"
LOCK_SECONDS = 10
LOCK = f"""
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep({LOCK_SECONDS})
database.execute("ROLLBACK")
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a token."""
    with serving(tmp_path_factory.mktemp("home"), TRIMTAB_TOKEN=TOKEN) as server:
        yield server


def study(trainer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "guards",
        "trainer": trainer,
        "space": {"lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True}},
        "metric": {"name": "loss"},
        "fidelity": {"min": 1, "max": 6, "report_every": 1},
        "budget": {"trials": 1},
        "strategy": {"name": "random"},
        "retries": {"crash": 0, "lost": 0},
    } | changes


def attempts(trial: dict[str, Any]) -> list[dict[str, Any]]:
    return [attempt for run in trial["runs_detail"] for attempt in run["attempts"]]


def test_measurements_outlive_a_store_that_cannot_be_written(guarded: Server) -> None:
    store = guarded.home / "checkpoints"
    shutil.rmtree(store, ignore_errors=True)
    store.write_text("a file where the folder should be")
    key = guarded.post("studies", study({"name": "synthetic"}))["id"]
    guarded.wait_ended(key)
    store.unlink()
    trial = guarded.get(f"studies/{key}/trials/1")
    assert (trial["state"], trial["failure_kind"]) == ("failed", "lost")
    assert f"could not save a checkpoint to {store}" in trial["state_reason"]
    curve = trial["curve"]
    assert [point["step"] for point in curve] == [1, 2, 3, 4, 5, 6]
    guarded.post(f"studies/{key}/trials/1/retry")
    assert guarded.wait_ended(key)["state"] == "completed"
    trial = guarded.get(f"studies/{key}/trials/1")
    assert (trial["state"], trial["curve"]) == ("completed", curve)
    assert list(store.rglob("manifest.json"))


def test_the_token_is_seen_nowhere(guarded: Server, tmp_path: Path) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": b"Bearer \xf6\xff"}):
        for path in ("v1/studies", "", "v1/work/garbage"):
            answer = httpx.get(f"{guarded.url}/{path}", headers=headers)
            assert answer.status_code in (401, 303), path
    script, environment = tmp_path / "nosy.py", tmp_path / "environment"
    script.write_text(
        "import os, pathlib, sys, trimtab\n"
        "trimtab.report(1, loss=1.0)\n"
        "text = '\\n'.join(f'{name}={value}' for name, value in os.environ.items())\n"
        "pathlib.Path(sys.argv[1]).write_text(text)\n"
        "print(text)\n"
        "raise ValueError('seen enough')\n"
    )
    trainer = {"script": str(script), "args": [str(environment)]}
    key = guarded.post("studies", study(trainer))["id"]
    guarded.wait_ended(key)
    trial = guarded.get(f"studies/{key}/trials/1")
    assert "PATH=" in trial["failure"]["output_tail"]
    assert "TRIMTAB_RUN_DIR=" in environment.read_text()
    assert TOKEN not in environment.read_text()
    shown = [
        httpx.get(f"{guarded.url}/{path}", headers=guarded.headers).raise_for_status().text
        for path in (
            f"v1/studies/{key}",
            f"v1/studies/{key}/trials/1",
            f"v1/studies/{key}/events",
            f"v1/studies/{key}/decisions",
            f"studies/{key}",
            f"studies/{key}/trials/1",
            f"studies/{key}/study.yaml",
            f"studies/{key}/trials.csv",
            "v1/ready",
            "v1/openapi.json",
        )
    ]
    shown += [
        subprocess.run(
            [sys.executable, "-m", "trimtab", "export", key, "--format", form],
            env=os.environ | {"TRIMTAB_URL": guarded.url, "TRIMTAB_TOKEN": TOKEN},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for form in ("csv", "json")
    ]
    assert [text[:80] for text in shown if TOKEN in text] == []
    written = [
        path
        for folder in (guarded.home, cluster.local_folder(guarded.home))
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert {"trimtab.db", "api.log", "dispatcher.log", "raylet.out"} <= {path.name for path in written}
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
    family = psutil.Process(guarded.process.pid).children(recursive=True)
    raylets = [child.environ() for child in family if child.name() == "raylet"]
    assert raylets
    assert all(TOKEN not in environ.values() for environ in raylets), "actors inherit it from there"


def test_a_locked_database_is_waited_for(guarded: Server) -> None:
    spec = study({"name": "synthetic", "settings": {"seconds_per_step": 0.05}}, budget={"trials": 4})
    key = guarded.post("studies", spec | {"fidelity": {"min": 1, "max": 40, "report_every": 1}})["id"]

    def measuring() -> bool:
        return any(trial["step"] > 2 for trial in guarded.get(f"studies/{key}/trials")["items"])

    guarded.wait(measuring, 30, "the first measurements")
    programs = [child.pid for child in psutil.Process(guarded.process.pid).children()]
    command = [sys.executable, "-c", LOCK, str(guarded.home / "trimtab.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert guarded.get(f"studies/{key}")["state"] == "running", "reading goes on"
        answer = httpx.post(
            f"{guarded.url}/v1/studies",
            json=study({"name": "external"}),
            headers=guarded.headers,
            timeout=LOCK_SECONDS + 10,
        )
        assert answer.status_code == 201, "late, but done"
    detail = guarded.wait_ended(key)
    assert (detail["state"], detail["trials"]["completed"]) == ("completed", 4)
    for number in range(1, 5):
        trial = guarded.get(f"studies/{key}/trials/{number}")
        assert [point["step"] for point in trial["curve"]] == list(range(1, 41))
        assert [attempt["state"] for attempt in attempts(trial)] == ["finished"]
    assert [child.pid for child in psutil.Process(guarded.process.pid).children()] == programs
