"""Temporary files of actors: those of the dead are cleared, those of the living are not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.scratch import Scratch

ACTOR = """
import sys, tempfile
from workers.scratch import Scratch
tempfile.tempdir = sys.argv[1]
Scratch("trimtab-scratch-x", sys.argv[2]).use()
print(tempfile.mkdtemp(prefix="trimtab-run-"), flush=True)
sys.stdin.read()
"""


@contextmanager
def actor(temp: Path, incarnation: str) -> Iterator[Path]:
    """A process that uses the scratch folder, killed at the end; a folder it has made."""
    command = [sys.executable, "-c", ACTOR, str(temp), incarnation]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Path(process.stdout.readline().strip())
        process.kill()


def test_the_next_actor_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    with actor(tmp_path, "a") as living:
        with actor(tmp_path, "a") as dead:
            assert dead.is_dir()
        assert dead.is_dir(), "it was killed"
        with actor(tmp_path, "a") as third:
            assert [folder.is_dir() for folder in (living, dead, third)] == [True, False, True]
    with actor(tmp_path, "b") as next_incarnation:
        assert [folder.exists() for folder in (living, third, next_incarnation)] == [False, False, True]


def test_nothing_is_left_when_the_dispatcher_ends(tmp_path: Path) -> None:
    with actor(tmp_path, "a"):
        pass
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path)
    try:
        Scratch("trimtab-scratch-x", "a").remove()
    finally:
        tempfile.tempdir = before
    assert list(tmp_path.iterdir()) == []
