"""A stub of the service, and real dispatcher processes with a real local Ray."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.workers.stub_service import StubService
from workers import cluster
from workers.scratch import Scratch
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]


@dataclass
class Process:
    """A running dispatcher."""

    process: subprocess.Popen[bytes]
    log: Path

    def family(self) -> list[psutil.Process]:
        """It and everything below it."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]


def start_dispatcher(url: str, home: Path, *, worker: str = "w1", cpus: int = 2) -> Process:
    home.mkdir(exist_ok=True)
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("TRIMTAB_", "RAY_"))}
    log = home / "dispatcher.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.dispatcher"],
            cwd=ROOT,
            env=environment
            | {
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}",
                "TRIMTAB_HOME": str(home),
                "TRIMTAB_URL": url,
                "TRIMTAB_TOKEN": "secret",
                "TRIMTAB_WORKER": worker,
                "TRIMTAB_CPUS": str(cpus),
            },
            stdout=output,
            stderr=output,
        )
    return Process(process, log)


def finish(dispatcher: Process) -> None:
    """Stop it politely; fail with its log if it does not."""
    dispatcher.process.terminate()
    try:
        assert dispatcher.process.wait(30) == 0, dispatcher.log.read_text()
    finally:
        dispatcher.process.kill()


Start = Callable[..., Process]


@pytest.fixture
def stub() -> Iterator[StubService]:
    """A service of the test's own."""
    stub = StubService()
    stub.start()
    yield stub
    stub.stop()


@pytest.fixture
def start(stub: StubService, tmp_path: Path) -> Iterator[Start]:
    """Starts dispatchers for ``stub``; those that still run at the end are killed."""
    started: list[Process] = []

    def start_one(*, cpus: int = 2) -> Process:
        started.append(start_dispatcher(stub.url, tmp_path / "home", cpus=cpus))
        return started[-1]

    yield start_one
    for dispatcher in started:
        dispatcher.process.kill()
        dispatcher.process.wait()
    settings = WorkerSettings.read({"TRIMTAB_HOME": str(tmp_path / "home"), "TRIMTAB_WORKER": "w1"})
    for folder in (
        cluster.local_folder(settings.home),
        Path(tempfile.gettempdir()) / Scratch.of(settings, "").dispatcher,
    ):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def service() -> Iterator[StubService]:
    stub = StubService()
    stub.start()
    yield stub
    stub.stop()


@pytest.fixture(scope="module")
def dispatcher(service: StubService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One dispatcher with 2 CPUs for the whole module."""
    started = start_dispatcher(service.url, tmp_path_factory.mktemp("home"))
    yield started
    finish(started)
