"""Forks on real workers: a population that outlives its dispatcher, and a person's fork of a digits net."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.conftest import Server, serving

POPULATION: dict[str, Any] = {
    "name": "population",
    "trainer": {"name": "synthetic", "settings": {"seconds_per_step": 0.1}},
    "space": {
        "lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
        "width": {"type": "ordered", "values": [16, 32, 64]},
    },
    "metric": {"name": "loss"},
    "fidelity": {"min": 6, "max": 24, "report_every": 2},
    "budget": {"fidelity": 4 * 24},
    "parallelism": 2,
    "strategy": {"name": "pbt", "options": {"population": 4, "interval": 6, "quantile": 0.5}},
}
DIGITS: dict[str, Any] = {
    "name": "digits",
    "trainer": {"name": "digits", "settings": {"channels": 4, "device": "cpu"}},
    "space": {"lr": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True}},
    "metric": {"name": "val_loss"},
    "fidelity": {"min": 10, "max": 40, "report_every": 5},
    "budget": {"trials": 9},
    "strategy": {"name": "random"},
    "checkpoints": {"every": 20},
    "enqueue": [{"params": {"lr": 0.01}, "to_end": True}],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home")) as running:
        yield running


def trials(server: Server, study: str) -> list[Any]:
    items: list[Any] = server.get(f"studies/{study}/trials?limit=500")["items"]
    return items


def test_a_population_outlives_the_dispatcher(server: Server) -> None:
    study = server.post("studies", POPULATION)["id"]

    def a_fork_is_under_way() -> bool:
        return any(t["parent"] and t["state"] in ("queued", "running") for t in trials(server, study))

    server.wait(a_fork_is_under_way, 240, "a fork")
    before = {t["number"]: t for t in trials(server, study)}
    for child in psutil.Process(server.process.pid).children(recursive=True):
        if "workers.dispatcher" in " ".join(child.cmdline()):
            child.send_signal(signal.SIGKILL)
            break
    detail = server.wait_ended(study, 240)
    assert detail["state"] == "completed"
    after = {t["number"]: t for t in trials(server, study)}
    assert detail["trials"]["failed"] == 0
    forks = [t for t in after.values() if t["parent"] is not None]
    assert forks
    for number, trial in after.items():
        assert number not in before or trial["step"] >= before[number]["step"]
        curve = [point["step"] for point in server.get(f"studies/{study}/trials/{number}")["curve"]]
        assert curve == list(range(trial["forked_at"] + 2, trial["step"] + 1, 2)), number
    for fork in forks:
        parent = after[fork["parent"]]
        assert fork["forked_at"] <= parent["step"]
        assert fork["params"]["width"] == parent["params"]["width"], "no checkpoint fits another width"
        shown = server.get(f"studies/{study}/trials/{fork['parent']}")["children"]
        assert fork["number"] in [child["number"] for child in shown]
    assert max(trial["step"] for trial in after.values()) == 24


def test_a_person_forks_a_net_at_any_of_its_checkpoints(server: Server, tmp_path: Path) -> None:
    study = server.post("studies", DIGITS)["id"]
    server.wait(lambda: trials(server, study)[0]["state"] == "completed", 240, "the first trial")
    server.post(f"studies/{study}/pause")  # of what random has begun nothing matters
    path = f"studies/{study}/trials/1"
    assert server.get(path)["can_fork"] == [40]
    same = server.post(f"{path}/fork", {"target_step": 60})
    other = server.post(f"{path}/fork", {"target_step": 60, "params": {"lr": 0.002}, "seed": 5})
    planned = server.post(f"{path}/fork", {"target_step": 60, "schedule": [[40, 0.05], [60, 0.0]]})
    refused = httpx.post(f"{server.url}/v1/{path}/fork", json={"step": 20}, timeout=30)
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "Trial 1 has no checkpoint at step 20; it has checkpoints at 40.",
    )
    server.post(f"studies/{study}/resume")

    def ended() -> bool:
        done = {t["number"] for t in trials(server, study) if t["state"] == "completed"}
        return {same["number"], other["number"], planned["number"]} <= done

    server.wait(ended, 240, "the forks")
    # Trained on itself, the parent comes to the very same values.
    server.post(f"{path}/continue", {"target_step": 60})
    server.wait(lambda: server.get(path)["step"] == 60, 240, "the parent")

    def curve(number: int) -> dict[int, tuple[float, float]]:
        points = server.get(f"studies/{study}/trials/{number}")["curve"]
        return {p["step"]: (p["metrics"]["val_loss"], p["metrics"]["lr"]) for p in points if p["step"] > 40}

    assert curve(same["number"]) == curve(1)
    assert curve(other["number"]) != curve(1)
    rates = {step: lr for step, (_, lr) in curve(planned["number"]).items()}
    assert rates == pytest.approx({45: 0.04, 50: 0.0275, 55: 0.015, 60: 0.0025})
