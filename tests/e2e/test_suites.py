"""A cross-workload study on real workers, paused while one of its workloads is over and others go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Server, serving


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home")) as running:
        yield running


def test_a_paused_suite_goes_on_as_if_nothing_had_been(server: Server) -> None:
    study = server.post("studies", SUITE)["id"]

    def curve(number: int) -> dict[int, dict[str, float]]:
        points = server.get(f"studies/{study}/trials/{number}")["curve"]
        return {point["step"]: point["metrics"] for point in points}

    def one_is_over() -> bool:
        measured = curve(1)
        return bool(measured) and "quick/steps_to_target" in measured[max(measured)]

    server.wait(one_is_over, 240, "the first target")
    server.post(f"studies/{study}/pause")
    server.wait(lambda: server.get(f"studies/{study}")["trials"]["running"] == 0, 60, "the pause")
    stood = server.get(f"studies/{study}/trials/1")
    server.post(f"studies/{study}/resume")
    assert server.wait_ended(study, 240)["state"] == "completed"
    assert 0 < stood["step"] < 20, "it was interrupted on its way"
    assert server.get(f"studies/{study}/trials/1")["runs"] > 1

    def without_clock(number: int) -> dict[int, dict[str, float]]:
        return {
            step: {name: value for name, value in metrics.items() if not name.endswith("seconds_to_target")}
            for step, metrics in curve(number).items()
        }

    # The second trial has the same configuration, and was trained in one go.
    assert list(curve(1)) == list(range(1, 21))
    assert without_clock(1) == without_clock(2)
    profile = server.get(f"studies/{study}/profile")
    assert [trial["score"] for trial in profile["trials"]] == [pytest.approx(2 / 3)] * 2
    assert [each["reached"] for each in profile["workloads"]] == [2, 2, 0]
