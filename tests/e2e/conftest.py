"""``trimtab serve`` in a home of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bench.stack import free_port


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    home: Path

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v1/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}/v1/{path}", timeout=10).raise_for_status().json()

    def post(self, path: str, body: Any = None) -> Any:
        return httpx.post(f"{self.url}/v1/{path}", json=body, timeout=10).raise_for_status().json()

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
def serving(home: Path) -> Iterator[Server]:
    """On SQLite; stopped, and checked for orphans, at the end."""
    port = free_port()
    environment = os.environ | {"TRIMTAB_HOME": str(home), "TRIMTAB_PORT": str(port)}
    for variable in ("TRIMTAB_TOKEN", "TRIMTAB_DATABASE_URL", "TRIMTAB_URL"):
        environment.pop(variable, None)
    log = (home / "serve.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "trimtab", "serve"],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        # A suite that runs in the background of a shell hands down an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    server = Server(f"http://127.0.0.1:{port}", process, home)
    family: list[psutil.Process] = []
    try:
        server.wait(server.ready, 90, "the server to be ready")
        yield server
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=40)
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, f"left behind: {[child.cmdline() for child in alive]}"
    finally:
        for child in [*family, *_children(process.pid)]:
            if child.is_running():
                child.kill()
        process.kill()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own."""
    with serving(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of a module."""
    with serving(tmp_path_factory.mktemp("home")) as running:
        yield running
