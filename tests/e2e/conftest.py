"""``trimtab serve`` in a home of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bench.stack import free_port
from trimtab.launch import die_with_parent
from workers import cluster
from workers.scratch import Scratch
from workers.settings import WorkerSettings


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    home: Path
    headers: dict[str, str]
    http: httpx.Client
    """One for all calls: making one takes longer than most calls."""

    def ready(self) -> bool:
        try:
            return self.http.get("/v1/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str) -> Any:
        answer = self.http.get(f"/v1/{path}")
        return answer.raise_for_status().json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.http.post(f"/v1/{path}", json=body)
        return answer.raise_for_status().json()

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if done():
                return
            time.sleep(0.1)
        printed = (self.home / "serve.log").read_text()[-3000:]
        pytest.fail(f"waited {seconds:.0f} s for {what}; the server printed:\n{printed}")

    def wait_ended(self, study: str, seconds: float = 90) -> Any:
        """The study, once it has ended."""

        def ended() -> bool:
            try:
                return self.get(f"studies/{study}")["state"] not in ("running", "paused")
            except httpx.TransportError:
                return False

        self.wait(ended, seconds, f"the study {study} to end")
        return self.get(f"studies/{study}")


@contextmanager
def serving(home: Path, **variables: str) -> Iterator[Server]:
    """On SQLite, unless ``variables`` of the environment say otherwise.

    Stopped at the end, and checked for orphans; it ends with this process, too, if that is killed.
    """
    this = os.getpid()

    def prepare() -> None:
        # A suite that runs in the background of a shell hands down an ignored Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        die_with_parent(this)

    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
    environment |= {"TRIMTAB_HOME": str(home), "TRIMTAB_PORT": str(port)} | variables
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "trimtab", "serve"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=prepare,
        )
    token = variables.get("TRIMTAB_TOKEN")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{port}"
    # A connection is given up before the server would: not to be closed by both at once.
    limits = httpx.Limits(keepalive_expiry=2)
    http = httpx.Client(base_url=url, headers=headers, timeout=30, limits=limits)
    server = Server(url, process, home, headers, http)
    settings = WorkerSettings.read(environment)
    folders = (
        cluster.local_folder(settings.home),
        Path(tempfile.gettempdir()) / Scratch.of(settings, "").dispatcher,
    )
    left: list[str] = []
    try:
        server.wait(server.ready, 90, "the server to be ready")
        yield server
    finally:
        http.close()
        left = _stop(process)
        # What a killed dispatcher leaves is cleared at its next start, which there may not have been.
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    assert left == [], "it left processes behind"


def _stop(process: subprocess.Popen[bytes]) -> list[str]:
    """Stop the server as Ctrl-C does. What was still there after that, killed now."""
    family = _children(process.pid)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=40)
    except subprocess.TimeoutExpired:
        family += _children(process.pid)
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    left = []
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            left.append(" ".join(child.cmdline()))
            child.kill()
    return left


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


TOKEN = "s3cret-of-the-whole.stack"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a token for all tests of a module."""
    with serving(tmp_path_factory.mktemp("home"), TRIMTAB_TOKEN=TOKEN) as running:
        yield running
