"""Tuning seeds and test seeds on real workers: the scheduler and the dispatcher die among the test runs."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.conftest import Server, serving
from trimtab.client import Client

STUDY: dict[str, Any] = {
    "name": "seeds",
    "trainer": {"name": "synthetic", "settings": {"noise": 0.2, "seconds_per_step": 0.05}},
    "space": {"lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
    "metric": {"name": "loss"},
    "fidelity": {"max": 12, "report_every": 2},
    "budget": {"trials": 4},
    "parallelism": 2,
    "strategy": {"name": "random"},
    "seeds": {"tuning": [1, 2], "test": [100, 101, 102], "finalists": 2},
}


def trials(server: Server, study: str) -> list[Any]:
    items: list[Any] = server.get(f"studies/{study}/trials?limit=500")["items"]
    return items


def kill(server: Server, needle: str) -> None:
    for child in psutil.Process(server.process.pid).children(recursive=True):
        if needle in " ".join(child.cmdline()):
            child.send_signal(signal.SIGKILL)
            return
    raise AssertionError(f"no process {needle}")


def test_the_tests_outlive_scheduler_and_dispatcher(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        study = server.post("studies", STUDY)["id"]

        def testing(done: int) -> bool:
            tested = [trial for trial in trials(server, study) if trial["test"]]
            ended = sum(trial["state"] == "completed" for trial in tested)
            return ended >= done and any(trial["state"] == "running" for trial in tested)

        for done, needle in ((0, "service.scheduler"), (1, "workers.dispatcher")):
            server.wait(lambda done=done: testing(done), 240, f"a test run after {done}")
            kill(server, needle)
            server.wait(server.ready, 60, f"recovery from the death of {needle}")
        detail = server.wait_ended(study, 240)
        every = trials(server, study)
        with Client(server.url) as client:
            best = client.best(study)
    assert detail["state"] == "completed"
    assert Counter(trial["state"] for trial in every) == {"completed": len(every)}
    own = [trial for trial in every if trial["replica_of"] is None]
    assert len(own) == 4
    assert {trial["seed"] for trial in own} == {1}
    seeds = Counter((trial["replica_of"], trial["seed"]) for trial in every if trial["replica_of"])
    assert set(seeds.values()) == {1}, "nothing is trained twice"
    assert sum(trial["test"] for trial in every) == 6
    finals = detail["finals"]
    assert finals["winner"] == finals["scores"][0]["trial"] == best.number
    assert [len(score["seeds"]) for score in finals["scores"]] == [3, 3]
    values = [seed["value"] for seed in finals["scores"][0]["seeds"]]
    assert len(set(values)) == 3, "seeds make a difference"
    assert best.final is not None
    assert best.final.low is not None
    assert best.final.high is not None
    assert best.final.low < sum(values) / 3 < best.final.high
