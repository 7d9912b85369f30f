"""A server on this machine: starts its programs, restarts what dies, and leaves nothing behind.

Every program runs in a process group of its own, so Ctrl-C reaches the supervisor alone, which stops the
dispatcher first (it gives its runs back unharmed) and then the rest. If the supervisor itself is killed,
the kernel stops the programs (:mod:`trimtab.launch`).
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trimtab.client import Client
from trimtab.errors import TrimtabError
from trimtab.launch import adopt_orphans

PROGRAMS = ("service.api", "service.scheduler", "workers.dispatcher")
"""In the order of starting; the last one is stopped before the others."""
MIGRATION = "migrations.upgrade"
DEFAULT_PORT = 8787
QUICK_SECONDS = 30.0
"""A program that dies sooner after its start has died quickly."""
REFUSAL = 2
"""Exit code of a program whose settings are wrong: starting it again would not help."""
QUICK_DEATHS = 5
"""After so many quick deaths in a row the supervisor gives up."""
GRACE_SECONDS = 15.0
"""How long a program may take to stop before it is killed."""
READY_SECONDS = 90.0
PORT_SECONDS = 3.0
MAX_LOG_BYTES = 20 * 1024 * 1024


class LocalServerError(TrimtabError):
    """The server cannot be started or kept up."""


class HomeInUseError(LocalServerError):
    """Another server uses this home; it answers at ``url``."""

    def __init__(self, home: Path, url: str) -> None:
        super().__init__(
            f"a server already uses {home}: {url}",
            "use that one, stop it, or choose another folder with --home or TRIMTAB_HOME",
        )
        self.url = url


@dataclass(frozen=True)
class ServerPlan:
    """Where a server lives and listens."""

    home: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str | None = None

    @property
    def url(self) -> str:
        """The address to reach it at from this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The programs' environment: ``base`` and what this plan says."""
        made = {
            **base,
            "TRIMTAB_HOME": str(self.home),
            "TRIMTAB_HOST": self.host,
            "TRIMTAB_PORT": str(self.port),
            "TRIMTAB_URL": self.url,
            "PYTHONUNBUFFERED": "1",
        }
        made.setdefault("TRIMTAB_DATABASE_URL", f"sqlite:///{self.home / 'trimtab.db'}")
        if self.token:
            made["TRIMTAB_TOKEN"] = self.token
        return made


@dataclass
class _Program:
    module: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    quick_deaths: int = 0
    restart_at: float = 0.0


class Supervisor:
    """Keeps a server's programs running. Use :meth:`start`, then :meth:`tend` again and again, then
    :meth:`stop`, all from one thread: the programs are stopped by the kernel when that thread ends."""

    def __init__(
        self, plan: ServerPlan, say: Callable[[str], None], programs: Sequence[str] = PROGRAMS
    ) -> None:
        self.plan = plan
        self._say = say
        self._programs = [_Program(name, plan.logs / f"{name.rpartition('.')[2]}.log") for name in programs]
        self._lock: IO[str] | None = None

    def start(self, migration: str | None = MIGRATION) -> None:
        """Take the home, migrate the database, start the programs.

        Raises :class:`LocalServerError` (:class:`HomeInUseError` if another server is there).
        """
        require(*(program.module for program in self._programs))
        try:
            self.plan.logs.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.plan)
        except OSError as error:
            raise LocalServerError(
                f"the folder {self.plan.home} cannot be used: {error.strerror}",
                "choose one that can be written, with --home or TRIMTAB_HOME",
            ) from error
        adopt_orphans()
        try:
            require_port(self.plan.host, self.plan.port)
            if migration is not None:
                self._migrate(migration)
            for program in self._programs:
                self._launch(program)
        except BaseException:
            self.stop()
            raise

    def wait_ready(
        self, seconds: float = READY_SECONDS, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Until every part of the service says it is alive, or ``cancelled`` says True.

        Raises :class:`LocalServerError` if that takes longer than ``seconds``.
        """
        deadline = time.monotonic() + seconds
        missing = "nothing answers"
        with Client(self.plan.url, self.plan.token, attempts=1, timeout_seconds=5.0) as client:
            while time.monotonic() < deadline:
                if cancelled():
                    return
                self.tend()
                try:
                    readiness = client.ready()
                except TrimtabError as error:
                    missing = str(error)
                else:
                    if readiness.ready:
                        return
                    dead = [part for part in readiness.components if not part.alive]
                    missing = ", ".join(f"{part.name}: {part.detail}" for part in dead)
                time.sleep(0.1)
        raise LocalServerError(
            f"the server was not ready after {seconds:.0f} s ({missing})",
            f"see the logs in {self.plan.logs}",
        )

    def tend(self) -> None:
        """Start again what has died.

        Raises :class:`LocalServerError` with the end of its log when a program keeps dying, or at once when
        it refuses its settings.
        """
        now = time.monotonic()
        for program in self._programs:
            if program.process is None:
                if now >= program.restart_at:
                    self._launch(program)
                continue
            code = program.process.poll()
            if code is None:
                continue
            program.process = None
            if code == REFUSAL:
                raise LocalServerError(
                    f"{program.module} cannot be started like this:\n{_tail(program.log, 1)}",
                    f"the whole log: {program.log}",
                )
            quick = now - program.started < QUICK_SECONDS
            program.quick_deaths = program.quick_deaths + 1 if quick else 0
            if program.quick_deaths >= QUICK_DEATHS:
                raise LocalServerError(
                    f"{program.module} died {QUICK_DEATHS} times in a row ({_ending(code)}); "
                    f"its log ends:\n{_tail(program.log)}",
                    f"the whole log: {program.log}",
                )
            pause = 0.5 * 2**program.quick_deaths if program.quick_deaths else 0.0
            program.restart_at = now + pause
            after = f"in {pause:g} s" if pause else "now"
            self._say(f"{program.module} {_ending(code)}; starting it again {after} (log: {program.log})")

    def stop(self) -> None:
        """Stop everything: ask, wait, kill. The dispatcher goes first: it can give its runs back."""
        *others, dispatcher = self._programs
        for group in ([dispatcher], others):
            _stop([program.process for program in group if program.process is not None])
            for program in group:
                program.process = None
        _kill_orphans()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _migrate(self, module: str) -> None:
        log = self.plan.logs / "migrate.log"
        with log.open("wb") as output:
            done = subprocess.run(
                [sys.executable, "-m", module],
                env=self.plan.environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,
            )
        if done.returncode != 0:
            raise LocalServerError(
                f"the server cannot start, its database cannot be made ready:\n{_tail(log)}",
                f"the whole log: {log}",
            )

    def _launch(self, program: _Program) -> None:
        if program.log.exists() and program.log.stat().st_size > MAX_LOG_BYTES:
            program.log.replace(program.log.with_suffix(".log.1"))
        with program.log.open("ab") as output:
            program.process = subprocess.Popen(
                [sys.executable, "-m", "trimtab.launch", str(os.getpid()), program.module],
                env=self.plan.environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        program.started = time.monotonic()


def require(*modules: str) -> None:
    """Raises :class:`LocalServerError` if the server's packages are not installed."""
    for module in modules:
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            raise LocalServerError(
                "this needs the server, and only the client is installed here", "pip install trimtab-server"
            )


def require_port(host: str, port: int) -> None:
    """Raises :class:`LocalServerError` if another program listens there."""
    if not _is_free(host, port):
        raise LocalServerError(
            f"port {port} is taken by another program",
            f"choose another one: --port {free_port(host, port)}",
        )


def free_port(host: str, first: int) -> int:
    """The first free port from ``first`` on."""
    for port in range(first, min(first + 100, 65_536)):
        if _is_free(host, port):
            return port
    raise LocalServerError(f"no free port from {first} on", "choose one with --port")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise LocalServerError(
                f"port {port} may not be used: {error}", "choose one above 1023"
            ) from error
        except socket.gaierror as error:
            raise LocalServerError(f"{host} is no address of this machine: {error}") from error
        except OSError:
            return False
    return True


def _lock(plan: ServerPlan) -> IO[str]:
    """Hold the home; the kernel lets go when this process ends."""
    path = plan.home / "server.lock"
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        text = file.read()
        file.close()
        raise HomeInUseError(plan.home, json.loads(text)["url"] if text else "(starting)") from None
    file.truncate(0)
    file.write(json.dumps({"url": plan.url, "pid": os.getpid()}))
    file.flush()
    return file


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """All at once: each has its time to stop from now on."""
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _kill_orphans() -> None:
    """Kill descendants that escaped their group; as a subreaper this process is their ancestor still."""
    if sys.platform != "linux":
        return
    for pid in _descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _tail(log: Path, lines: int = 20) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in text[-lines:]) or "  (empty)"
