"""A real server for a benchmark: the four programs as child processes on a database of their own."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

START_SECONDS = 90.0


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ensure_runtime_folder() -> None:
    """Make a folder for sockets where no login has made one, as in a container; deleted with this process.

    PostgreSQL's package looks for it when it is imported.
    """
    if "XDG_RUNTIME_DIR" not in os.environ and not Path(f"/run/user/{os.getuid()}").is_dir():
        folder = tempfile.mkdtemp(prefix="trimtab-runtime-")
        os.environ["XDG_RUNTIME_DIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


@dataclass
class Stack:
    """Running programs and how to reach them."""

    url: str
    home: Path
    programs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def memory_mb(self, program: str) -> float:
        """Resident memory of a program and its children, in MiB (shared pages counted once each)."""
        process = psutil.Process(self.programs[program].pid)
        members = [process, *process.children(recursive=True)]
        return sum(member.memory_full_info().uss for member in members) / 2**20


@contextmanager
def stack(
    *, programs: tuple[str, ...], database_url: str | None = None, home: Path | None = None
) -> Iterator[Stack]:
    """Migrate a fresh database and run ``programs`` (module names) until the block ends."""
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as scratch:
        folder = home or Path(scratch)
        port = free_port()
        url = database_url or f"sqlite:///{folder}/trimtab.db"
        environment = os.environ | {
            "TRIMTAB_HOME": str(folder),
            "TRIMTAB_DATABASE_URL": url,
            "TRIMTAB_PORT": str(port),
            "TRIMTAB_URL": f"http://127.0.0.1:{port}",
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        environment.pop("TRIMTAB_TOKEN", None)
        subprocess.run([sys.executable, "-m", "migrations.upgrade", url], env=environment, check=True)
        running = Stack(url=environment["TRIMTAB_URL"], home=folder)
        try:
            for program in programs:
                log = (folder / f"{program}.log").open("wb")
                running.programs[program] = subprocess.Popen(
                    [sys.executable, "-m", program],
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            _wait_until_up(running, everything="workers.dispatcher" in programs)
            yield running
        finally:
            for program in reversed(list(running.programs)):
                _end(running.programs[program])


def _wait_until_up(running: Stack, *, everything: bool) -> None:
    path = "/v1/ready" if everything else "/v1/health"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(running.url + path, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        for name, process in running.programs.items():
            if process.poll() is not None:
                tail = (running.home / f"{name}.log").read_text()[-2000:]
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{tail}")
        time.sleep(0.1)
    raise RuntimeError(f"the server was not up after {START_SECONDS:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
