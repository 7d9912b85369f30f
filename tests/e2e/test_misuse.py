"""What users' scripts and loops do wrong, from submission to what the service says of it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Server
from trimtab.client import Client


def study(trainer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "misuse",
        "trainer": trainer,
        "space": {"lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True}},
        "metric": {"name": "loss"},
        "fidelity": {"min": 3, "max": 27},
        "budget": {"trials": 1},
        "strategy": {"name": "random"},
        "hang_after_seconds": 2,
        "retries": {"crash": 1, "hang": 0},
    } | changes


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
        studies[name] = shared.post("studies", study({"script": str(script)}))["id"]
    for name, (_, kind, words, attempts) in SCRIPTS.items():
        shared.wait_ended(studies[name])
        trial = shared.get(f"studies/{studies[name]}/trials/1")
        assert (trial["state"], trial["failure_kind"]) == ("failed", kind), name
        assert words in trial["state_reason"], name
        assert f"about to {name}" in trial["failure"]["output_tail"]
        assert [point["step"] for point in trial["curve"]][:2] == [1, 2], name
        assert sum(len(run["attempts"]) for run in trial["runs_detail"]) == attempts, name
        page = httpx.get(f"{shared.url}/studies/{studies[name]}/trials/1", timeout=10)
        assert f"about to {name}" in page.text


def test_a_study_in_which_nothing_worked_has_failed_and_can_be_mended(
    shared: Server, tmp_path: Path
) -> None:
    script = tmp_path / "later.py"
    key = shared.post("studies", study({"script": str(script)}))["id"]
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
    spec = study({"name": "external"}, strategy={"name": "asha"}, budget={"trials": 10})
    key = shared.post("studies", spec)["id"]
    starts = []
    with Client(shared.url) as client:
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
    httpx.delete(f"{shared.url}/v1/studies/{key}", timeout=10).raise_for_status()
    assert shared.get("work/garbage")["items"] == []
