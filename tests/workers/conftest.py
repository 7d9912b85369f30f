"""A stub of the service, and real dispatcher processes with a real local Ray."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.workers.stub_service import StubService
from workers import cluster
from workers.scratch import Scratch
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
WORKER = "w1"


@dataclass
class Process:
    """A running dispatcher."""

    process: subprocess.Popen[bytes]
    home: Path

    @property
    def log(self) -> Path:
        return self.home / "dispatcher.log"

    def folders(self) -> tuple[Path, Path]:
        """Where its actors' temporary files and its Ray's are while it runs."""
        settings = WorkerSettings.read({"TRIMTAB_HOME": str(self.home), "TRIMTAB_WORKER": WORKER})
        scratch = Path(tempfile.gettempdir()) / Scratch.of(settings, "").dispatcher
        return scratch, cluster.local_folder(settings.home)

    def family(self) -> list[psutil.Process]:
        """It and everything below it."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]


def start_dispatcher(url: str, home: Path, *, cpus: int = 2) -> Process:
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("TRIMTAB_", "RAY_"))}
    with (home / "dispatcher.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.dispatcher"],
            cwd=ROOT,
            env=environment
            | {
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}",
                "TRIMTAB_HOME": str(home),
                "TRIMTAB_URL": url,
                "TRIMTAB_TOKEN": "secret",
                "TRIMTAB_WORKER": WORKER,
                "TRIMTAB_CPUS": str(cpus),
                "RAY_worker_niceness": "0",
            },
            stdout=output,
            stderr=output,
        )
    return Process(process, home)


def finish(dispatcher: Process) -> None:
    """Stop it politely; fail with its log if it does not."""
    dispatcher.process.terminate()
    try:
        assert dispatcher.process.wait(30) == 0, dispatcher.log.read_text()
    finally:
        dispatcher.process.kill()


@pytest.fixture(scope="module")
def service() -> Iterator[StubService]:
    stub = StubService()
    stub.start()
    yield stub
    stub.stop()


@pytest.fixture(scope="module")
def dispatcher(service: StubService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One dispatcher with 2 CPUs for the whole module; a test that kills it puts another in its place."""
    started = start_dispatcher(service.url, tmp_path_factory.mktemp("home"))
    yield started
    try:
        finish(started)
    finally:
        for folder in started.folders():
            shutil.rmtree(folder, ignore_errors=True)
