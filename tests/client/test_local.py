"""The supervisor, with tiny programs in the place of the server's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_programs
import pytest

from trimtab.local import LocalServerError, ServerPlan, free_port, require

API, SCHEDULER, DISPATCHER = "fake_service.api", "fake_service.scheduler", "fake_workers.dispatcher"
CLIENT = str(Path(__file__).parents[2] / "client")
Start = Callable[..., subprocess.Popen[str]]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    fake_programs.write(tmp_path)
    started: list[subprocess.Popen[str]] = []
    port = free_port("127.0.0.1", 28_700 + os.getpid() % 1_000)

    def run(*modules: str, home: Path = tmp_path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", fake_programs.RUN, str(home), str(port), *modules],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([CLIENT, str(tmp_path)])},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def pids(home: Path) -> list[int]:
    lines = (home / "pids.log").read_text().splitlines()
    return [int(pid) for line in lines for pid in line.split()[1:]]


def test_stopping_leaves_nothing_behind_and_the_dispatcher_goes_first(start: Start, tmp_path: Path) -> None:
    process = start(API, SCHEDULER, DISPATCHER)
    assert line(process) == "ready"
    until(lambda: (tmp_path / "pids.log").exists() and len(pids(tmp_path)) == 4)
    process.terminate()
    assert line(process) == "bye"
    assert (tmp_path / "stopped.log").read_text().split() == ["dispatcher", "scheduler"]
    until(lambda: not any(alive(pid) for pid in pids(tmp_path)))


def test_a_killed_supervisor_takes_its_programs_with_it(start: Start, tmp_path: Path) -> None:
    process = start(API, SCHEDULER)
    assert line(process) == "ready"
    until(lambda: (tmp_path / "pids.log").exists() and len(pids(tmp_path)) >= 2)
    process.send_signal(signal.SIGKILL)
    until(lambda: not alive(pids(tmp_path)[0]))
    os.kill(pids(tmp_path)[1], signal.SIGKILL)  # the fake's grandchild has no one to stop it


def test_what_dies_is_started_again(start: Start, tmp_path: Path) -> None:
    process = start(API, SCHEDULER)
    assert line(process) == "ready"
    until(lambda: (tmp_path / "pids.log").exists())
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    assert line(process).startswith(f"{SCHEDULER} was killed by SIGKILL; starting it again in 1 s")
    until(lambda: len(pids(tmp_path)) == 4)
    assert alive(pids(tmp_path)[2])


def test_a_program_that_keeps_dying_ends_it_with_the_log(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("fake_service.crasher")
    lines = [line(process) for _ in range(3)]
    assert all("ended with code 3" in text for text in lines)
    assert "in 4 s" in lines[2]


def test_a_program_that_refuses_its_settings_is_not_started_again(start: Start) -> None:
    process = start("fake_service.refuser")
    assert line(process).startswith("error: fake_service.refuser cannot be started like this:")
    assert line(process).startswith("TRIMTAB_X is wrong | ")


def test_a_folder_that_cannot_be_written_is_named(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("")
    assert line(start(API, home=home)).startswith(
        f"error: the folder {home} cannot be used: Not a directory"
    )


def test_two_servers_do_not_share_a_home(start: Start, tmp_path: Path) -> None:
    first = start(API)
    assert line(first) == "ready"
    second = start(API)
    message = line(second)
    assert message.startswith(f"error: a server already uses {tmp_path}: http://127.0.0.1:")
    assert "TRIMTAB_HOME" in message


def test_a_taken_port_is_named_with_a_free_one(start: Start, tmp_path: Path) -> None:
    assert line(start(API)) == "ready"
    other = tmp_path / "other"
    other.mkdir()
    message = line(start(API, home=other))
    assert "is taken by another program" in message
    assert "--port" in message


def test_a_missing_server_says_what_to_install() -> None:
    with pytest.raises(LocalServerError) as caught:
        require("no_such_package_anywhere.api")
    assert caught.value.hint == "pip install trimtab-server"


def test_the_environment_of_the_programs(tmp_path: Path) -> None:
    plan = ServerPlan(tmp_path, host="0.0.0.0", port=9, token="secret")
    made = plan.environment({"TRIMTAB_DATABASE_URL": "postgresql://db"})
    assert made["TRIMTAB_URL"] == "http://127.0.0.1:9"
    assert made["TRIMTAB_DATABASE_URL"] == "postgresql://db"
    assert made["TRIMTAB_TOKEN"] == "secret"
