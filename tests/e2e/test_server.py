"""A whole server: its token stays secret, a store or database that is away loses nothing, forks and paused
suites go on where they were, a law is fitted, and what users' scripts and loops do wrong is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.conftest import TOKEN, Server
from trimtab.client import Client
from workers import cluster

LOCK_SECONDS = 6
"""Longer than SQLite's own default patience, 5 s."""
LOCK = f"""
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep({LOCK_SECONDS})
database.execute("ROLLBACK")
"""


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


def test_measurements_outlive_a_store_that_cannot_be_written(shared: Server) -> None:
    store = shared.home / "checkpoints"
    shutil.rmtree(store, ignore_errors=True)
    store.write_text("a file where the folder should be")
    key = shared.post("studies", study({"name": "synthetic"}))["id"]
    shared.wait_ended(key)
    store.unlink()
    trial = shared.get(f"studies/{key}/trials/1")
    assert (trial["state"], trial["failure_kind"]) == ("failed", "lost")
    assert f"could not save a checkpoint to {store}" in trial["state_reason"]
    curve = trial["curve"]
    assert [point["step"] for point in curve] == [1, 2, 3, 4, 5, 6]
    shared.post(f"studies/{key}/trials/1/retry")
    assert shared.wait_ended(key)["state"] == "completed"
    trial = shared.get(f"studies/{key}/trials/1")
    assert (trial["state"], trial["curve"]) == ("completed", curve)
    assert list(store.rglob("manifest.json"))


def test_the_token_is_seen_nowhere(shared: Server, tmp_path: Path) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": b"Bearer \xf6\xff"}):
        for path in ("v1/studies", "", "v1/work/garbage"):
            answer = httpx.get(f"{shared.url}/{path}", headers=headers)
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
    key = shared.post("studies", study(trainer))["id"]
    shared.wait_ended(key)
    trial = shared.get(f"studies/{key}/trials/1")
    assert "PATH=" in trial["failure"]["output_tail"]
    assert "TRIMTAB_RUN_DIR=" in environment.read_text()
    assert TOKEN not in environment.read_text()
    shown = [
        httpx.get(f"{shared.url}/{path}", headers=shared.headers).raise_for_status().text
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
            env=os.environ | {"TRIMTAB_URL": shared.url, "TRIMTAB_TOKEN": TOKEN},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for form in ("csv", "json")
    ]
    assert [text[:80] for text in shown if TOKEN in text] == []
    written = [
        path
        for folder in (shared.home, cluster.local_folder(shared.home))
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert {"trimtab.db", "api.log", "dispatcher.log", "raylet.out"} <= {path.name for path in written}
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
    family = psutil.Process(shared.process.pid).children(recursive=True)
    raylets = [child.environ() for child in family if child.name() == "raylet"]
    assert raylets
    assert all(TOKEN not in environ.values() for environ in raylets), "actors inherit it from there"


def test_a_locked_database_is_waited_for(shared: Server) -> None:
    spec = study({"name": "synthetic", "settings": {"seconds_per_step": 0.05}}, budget={"trials": 2})
    key = shared.post("studies", spec | {"fidelity": {"min": 1, "max": 40, "report_every": 1}})["id"]

    def measuring() -> bool:
        return any(trial["step"] > 2 for trial in shared.get(f"studies/{key}/trials")["items"])

    shared.wait(measuring, 30, "the first measurements")
    programs = [child.pid for child in psutil.Process(shared.process.pid).children()]
    command = [sys.executable, "-c", LOCK, str(shared.home / "trimtab.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert shared.get(f"studies/{key}")["state"] == "running", "reading goes on"
        answer = httpx.post(
            f"{shared.url}/v1/studies",
            json=study({"name": "external"}),
            headers=shared.headers,
            timeout=LOCK_SECONDS + 10,
        )
        assert answer.status_code == 201, "late, but done"
    detail = shared.wait_ended(key)
    assert (detail["state"], detail["trials"]["completed"]) == ("completed", 2)
    for number in (1, 2):
        trial = shared.get(f"studies/{key}/trials/{number}")
        assert [point["step"] for point in trial["curve"]] == list(range(1, 41))
        assert [attempt["state"] for attempt in attempts(trial)] == ["finished"]
    assert [child.pid for child in psutil.Process(shared.process.pid).children()] == programs


SINGLE: dict[str, Any] = {
    "name": "single",
    "trainer": {"name": "synthetic"},
    "space": {"lr": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True}},
    "metric": {"name": "loss"},
    "fidelity": {"min": 10, "max": 40, "report_every": 5},
    "budget": {"trials": 9},
    "strategy": {"name": "random"},
    "enqueue": [{"params": {"lr": 0.01}, "to_end": True}],
}


def test_a_person_forks_a_trial_at_its_checkpoint(shared: Server) -> None:
    study = shared.post("studies", SINGLE)["id"]

    def trials() -> list[Any]:
        items: list[Any] = shared.get(f"studies/{study}/trials?limit=500")["items"]
        return items

    shared.wait(lambda: trials()[0]["state"] == "completed", 240, "the first trial")
    path = f"studies/{study}/trials/1"
    assert shared.get(path)["can_fork"] == [40]
    same = shared.post(f"{path}/fork", {"target_step": 60})["number"]
    other = shared.post(f"{path}/fork", {"target_step": 60, "params": {"lr": 0.002}, "seed": 5})["number"]
    planned = shared.post(f"{path}/fork", {"target_step": 60, "schedule": [[0, 0.002]], "seed": 5})[
        "number"
    ]
    refused = httpx.post(
        f"{shared.url}/v1/{path}/fork", json={"step": 20}, headers=shared.headers, timeout=30
    )
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "Trial 1 has no checkpoint at step 20; it has checkpoints at 40.",
    )
    # Trained on itself, the parent comes to the very same values as a fork that changes nothing.
    shared.post(f"{path}/continue", {"target_step": 60})

    def ended() -> bool:
        return all(t["step"] == 60 for t in trials() if t["number"] in (1, same, other, planned))

    shared.wait(ended, 240, "the forks")

    def curve(number: int) -> dict[int, float]:
        points = shared.get(f"studies/{study}/trials/{number}")["curve"]
        return {p["step"]: p["metrics"]["loss"] for p in points if p["step"] > 40}

    assert curve(same) == curve(1)
    assert list(curve(other)) == list(curve(planned)) == [45, 50, 55, 60]
    assert min(curve(other).values()) > max(curve(1).values()), "its learning rate is worse"
    assert min(curve(planned).values()) > max(curve(1).values())


def workload(name: str, target: float, **settings: float) -> dict[str, Any]:
    wanted = {"metric": "loss", "at_most": target}
    return {"name": name, "trainer": "synthetic", "steps": 60, "settings": settings, "target": wanted}


SUITE: dict[str, Any] = {
    "name": "suite",
    "trainer": {
        "name": "suite",
        "workloads": [
            workload("quick", 3.0, seconds_per_step=0.02),
            workload("slow", 1.9, seconds_per_step=0.05),
            workload("never", 0.5),
        ],
    },
    "space": {"lr": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True}},
    "metric": {"name": "score"},
    "fidelity": {"unit": "rounds", "min": 2, "max": 20, "report_every": 1},
    "budget": {"trials": 2},
    "strategy": {"name": "random"},
    "enqueue": [{"params": {"lr": 0.01}}, {"params": {"lr": 0.01}}],
}


def test_a_paused_suite_goes_on_as_if_nothing_had_been(shared: Server) -> None:
    study = shared.post("studies", SUITE)["id"]

    def curve(number: int) -> dict[int, dict[str, float]]:
        points = shared.get(f"studies/{study}/trials/{number}")["curve"]
        return {point["step"]: point["metrics"] for point in points}

    def one_is_over() -> bool:
        measured = curve(1)
        return bool(measured) and "quick/steps_to_target" in measured[max(measured)]

    shared.wait(one_is_over, 240, "the first target")
    shared.post(f"studies/{study}/pause")
    shared.wait(lambda: shared.get(f"studies/{study}")["trials"]["running"] == 0, 60, "the pause")
    stood = shared.get(f"studies/{study}/trials/1")
    shared.post(f"studies/{study}/resume")
    assert shared.wait_ended(study, 240)["state"] == "completed"
    assert 0 < stood["step"] < 20, "it was interrupted on its way"
    assert shared.get(f"studies/{study}/trials/1")["runs"] > 1

    def without_clock(number: int) -> dict[int, dict[str, float]]:
        return {
            step: {name: value for name, value in metrics.items() if not name.endswith("seconds_to_target")}
            for step, metrics in curve(number).items()
        }

    # The second trial has the same configuration, and was trained in one go.
    assert list(curve(1)) == list(range(1, 21))
    assert without_clock(1) == without_clock(2)
    profile = shared.get(f"studies/{study}/profile")
    assert [trial["score"] for trial in profile["trials"]] == [pytest.approx(2 / 3)] * 2
    assert [each["reached"] for each in profile["workloads"]] == [2, 2, 0]


def brittle(trainer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A study of one trial that may crash once."""
    return study(
        trainer,
        **{
            "fidelity": {"min": 3, "max": 27},
            "hang_after_seconds": 2,
            "retries": {"crash": 1, "hang": 0},
        }
        | changes,
    )


SCRIPTS = {
    "crash": ("raise ValueError('the data is gone')", "crash", "ValueError: the data is gone", 2),
    "early": ("raise SystemExit(0)", "crash", "ended by itself at step 2 of 27", 2),
    "memory": ("raise MemoryError", "out_of_memory", "MemoryError", 1),
    "hang": ("import time; time.sleep(1000)", "hang", "no report for 2 s after step 2", 1),
    "deaf": (
        "import itertools, time\n"
        "for step in itertools.count(3):\n"
        "    time.sleep(0.05)\n"
        "    trimtab.report(step, loss=1.0 / step)\n",
        "hang",
        "it ignored the verdict to end, or was saving for too long: at step 27 it had not ended 2 s after "
        "its target",
        1,
    ),
    "segfault": ("import os; os.kill(os.getpid(), 11)", "crash", "SIGSEGV", 2),
    "nonsense": (
        """
        import os, pathlib, time
        file = pathlib.Path(os.environ["TRIMTAB_RUN_DIR"], "reports.jsonl").open("a")
        file.write('{"step": 1e999, "metrics": {"loss": 1}}\\n')
        file.close()
        time.sleep(1000)
        """,
        "crash",
        "reports.jsonl, line 3: not a report",
        2,
    ),
}


def test_each_way_a_script_ends_badly_is_typed_and_loses_no_measurement(
    shared: Server, tmp_path: Path
) -> None:
    studies = {}
    for name, (ending, *_) in SCRIPTS.items():
        script = tmp_path / f"{name}.py"
        script.write_text(
            "import trimtab\nfor step in (1, 2):\n    trimtab.report(step, loss=1.0 / step)\n"
            f"print('about to {name}')\n{textwrap.dedent(ending)}\n"
        )
        studies[name] = shared.post("studies", brittle({"script": str(script)}))["id"]
    for name, (_, kind, words, tries) in SCRIPTS.items():
        shared.wait_ended(studies[name])
        trial = shared.get(f"studies/{studies[name]}/trials/1")
        assert (trial["state"], trial["failure_kind"]) == ("failed", kind), name
        assert words in trial["state_reason"], name
        assert f"about to {name}" in trial["failure"]["output_tail"]
        assert [point["step"] for point in trial["curve"]][:2] == [1, 2], name
        assert len(attempts(trial)) == tries, name
        address = f"{shared.url}/studies/{studies[name]}/trials/1"
        page = httpx.get(address, headers=shared.headers, timeout=10)
        assert f"about to {name}" in page.text


def test_a_study_in_which_nothing_worked_has_failed_and_can_be_mended(
    shared: Server, tmp_path: Path
) -> None:
    script = tmp_path / "later.py"
    key = shared.post("studies", brittle({"script": str(script)}))["id"]
    ended = shared.wait_ended(key)
    assert ended["state"] == "failed"
    assert f"the script {script} is not on this worker" in ended["state_reason"]
    script.write_text(
        "import trimtab\nstep = 1\nwhile not trimtab.report(step, loss=1.0 / step):\n    step += 1\n"
    )
    shared.post(f"studies/{key}/trials/1/retry")
    ended = shared.wait_ended(key)
    assert (ended["state"], ended["best_value"]) == ("completed", pytest.approx(1 / 27))


@pytest.mark.parametrize("saves", [False, True])
def test_a_loop_of_ones_own_is_continued_with_or_without_checkpoints(shared: Server, saves: bool) -> None:
    spec = brittle({"name": "external"}, strategy={"name": "asha"}, budget={"trials": 10})
    key = shared.post("studies", spec)["id"]
    starts = []
    with Client(shared.url, TOKEN) as client:
        for trial in client.loop(key):
            starts.append((trial.start_step, trial.target_step, trial.checkpoint and trial.checkpoint.uri))
            for step in range(trial.start_step + 1, trial.target_step + 1):
                assert trial.report(step, loss=trial.params["lr"] + 1 / step) == "continue"
            # No store for this address is installed here: the service must never try to open it.
            trial.complete(f"s3://mine/{trial.number}/{trial.target_step}" if saves else None)
    assert shared.get(f"studies/{key}")["trials"]["completed"] >= 1
    last = next(start for start in starts if start[1] == 27)
    assert last[0] == (9 if saves else 0)
    assert (last[2] or "").endswith("/9" if saves else "")
    httpx.delete(f"{shared.url}/v1/studies/{key}", headers=shared.headers, timeout=10).raise_for_status()
    garbage = shared.get("work/garbage")["items"]
    assert [item for item in garbage if item["uri"].startswith("s3:")] == []


def test_a_law_is_fitted_to_a_table_and_asked_from_the_command_line(shared: Server) -> None:
    def trimtab(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "trimtab", "law", *arguments, "--json"],
            env=os.environ | {"TRIMTAB_URL": shared.url, "TRIMTAB_TOKEN": TOKEN},
            check=True,
            capture_output=True,
            text=True,
            timeout=150,
        )
        return json.loads(done.stdout)

    table = Path(__file__).parents[2] / "examples" / "runs.csv"
    columns = ("--n", "params", "--d", "tokens", "--lr", "lr", "--batch", "batch_tokens")
    made = trimtab("fit", str(table), *columns, "--option", "draws=20")
    assert (made["state"], made["counts"]["runs"], made["counts"]["diverged"]) == ("done", 189, 3)
    said = trimtab("predict", "runs", "--n", "1e9", "--d", "2e10")
    assert said["fit"] == made["id"]
    for name in ("lr", "batch", "loss"):
        assert said[name]["low"] < said[name]["value"] < said[name]["high"]
