"""Runs the user's own script or module as a child process, in the user's interpreter and folder.

The child talks through the files of :mod:`trimtab.run_folder`. What it leaves in its checkpoint folder is
uploaded when it ends at its target, by an order to pause, or because the dispatcher shuts down, if it wrote
anything there; it counts as the state of the last reported step. A script that exits with code 0 below its
target without having been told to has not done its job: that is a crash, and the message says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

import trimtab
from trimtab import run_folder
from trimtab.run_folder import RunFolderError, ScriptAssignment
from trimtab.wire.study import TrainerSpec
from trimtab.wire.work import Assignment, Measurement
from workers import failures, guard
from workers.checkpoints import CheckpointStore, DamagedCheckpointError, place
from workers.failures import InvalidJobError, ScriptError
from workers.messages import Channel, Ended, Order

POLL_SECONDS = 0.01
GRACE_SECONDS = 30.0
"""A script that was told to save and exit is asked to terminate after so long, and killed soon after."""
TERMINATE_SECONDS = 5.0
GUARD_SECONDS = 6.0
"""How long the guard may take to kill what a script has started."""


def train(
    assignment: Assignment,
    store: CheckpointStore,
    channel: Channel,
    *,
    grace_seconds: float = GRACE_SECONDS,
) -> Ended:
    """Run the script to the assignment's target, or until it has obeyed an order to end.

    Raises :class:`InvalidJobError` if the script cannot be started, :class:`ScriptError` if it writes
    something that is no report.
    """
    with tempfile.TemporaryDirectory(prefix="trimtab-run-", ignore_cleanup_errors=True) as scratch:
        run = Path(scratch)
        start_step = _restore(assignment, store, channel, run / run_folder.CHECKPOINT_FOLDER)
        run_folder.write_assignment(
            run,
            ScriptAssignment(
                params={**assignment.trainer.settings, **assignment.params},
                start_step=start_step,
                target_step=assignment.target_step,
                max_step=assignment.max_step,
                report_every=assignment.report_every,
                seed=assignment.training_seed,
                schedule=assignment.schedule,
                parent=assignment.parent,
                forked_at=assignment.forked_at,
            ),
        )
        before = _contents(run / run_folder.CHECKPOINT_FOLDER)
        kills_before = failures.memory_kills()
        with _child(assignment.trainer, run, channel) as child:
            told = _follow(child, run, assignment, channel, grace_seconds)
            code = child.poll()
        if channel.order is Order.LOST:
            return Ended("finished", channel.step)
        reached = channel.step >= assignment.target_step
        if not reached and (not told or code not in (0, None)):
            failure = failures.of_exit(
                code if code is not None else -signal.SIGKILL,
                channel.output.text(),
                step=channel.step,
                target=assignment.target_step,
                memory_kills=failures.memory_kills() - kills_before,
            )
            return Ended("failed", channel.step, failure=failure)
        wanted = assignment.save_at_end if reached else channel.order is not Order.STOP
        checkpoint = None
        if wanted and _contents(run / run_folder.CHECKPOINT_FOLDER) != before:
            checkpoint = store.save(
                run / run_folder.CHECKPOINT_FOLDER, place=place(assignment, channel.step), step=channel.step
            )
        released = channel.order is Order.RELEASE and not reached
        return Ended("released" if released else "finished", channel.step, checkpoint)


def _restore(assignment: Assignment, store: CheckpointStore, channel: Channel, folder: Path) -> int:
    """Fill the checkpoint folder; the step it stands at."""
    folder.mkdir()
    if assignment.checkpoint is None:
        return 0
    try:
        store.load(assignment.checkpoint.uri, folder)
    except DamagedCheckpointError as error:
        if assignment.parent is not None:
            raise  # what a forked trial went through before cannot be repeated from nothing
        channel.output.write(f"{error}; training starts from nothing\n")
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        return 0
    return assignment.checkpoint.step


def _follow(
    child: subprocess.Popen[bytes],
    run: Path,
    assignment: Assignment,
    channel: Channel,
    grace_seconds: float,
) -> bool:
    """Pass reports on until the child has ended. Whether it was told to end."""
    offset = 0
    told_at: float | None = None
    while True:
        # Asked before the reading: what a child wrote last is read even if it ends meanwhile.
        ended = child.poll() is not None
        offset = _forward(run, offset, assignment, channel)
        if ended:
            return told_at is not None
        if channel.order is Order.LOST:
            return True
        reached = channel.step >= assignment.target_step
        if told_at is None and (reached or channel.order is not Order.CONTINUE):
            run_folder.give_verdict(run, "stop" if channel.order is Order.STOP else "pause")
            told_at = time.monotonic()
        if told_at is not None and time.monotonic() - told_at > grace_seconds:
            channel.output.write(f"told to end, it went on for {grace_seconds:g} s and was killed\n")
            _terminate(child)
            _forward(run, offset, assignment, channel)
            return True
        time.sleep(POLL_SECONDS)


def _forward(run: Path, offset: int, assignment: Assignment, channel: Channel) -> int:
    """Send the new reports up to the first at or beyond the target; where to read on."""
    try:
        while True:
            reports, offset = run_folder.read_reports(run, offset)
            for report in reports:
                if channel.step < assignment.target_step:
                    channel.send(Measurement(step=report.step, metrics=dict(report.metrics)))
            if not reports:
                break
    except (RunFolderError, ValidationError) as error:
        raise ScriptError(f"the script wrote something that is no report: {error}") from error
    return offset


@contextlib.contextmanager
def _child(trainer: TrainerSpec, run: Path, channel: Channel) -> Iterator[subprocess.Popen[bytes]]:
    """The running script; at the end nothing of what it started is left."""
    command, folder = _command(trainer)
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, *command],
        cwd=folder,
        env=_environment(os.environ, run),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=_read_output, args=(child, channel), daemon=True)
    reader.start()
    try:
        yield child
        # The last lines it printed may still be in the pipe.
        if child.poll() is not None:
            reader.join(timeout=1.0)
    finally:
        assert child.stdin is not None
        child.stdin.close()  # the guard's word to take everything down
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GUARD_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        reader.join(timeout=1.0)


def _command(trainer: TrainerSpec) -> tuple[list[str], Path]:
    """What to run and where. Raises :class:`InvalidJobError` if it is not there."""
    if trainer.script is not None:
        script = Path(trainer.script).absolute()
        if not script.is_file():
            raise InvalidJobError(f"the script {script} is not on this worker")
        target, folder = [str(script)], Path(trainer.folder) if trainer.folder else script.parent
    else:
        assert trainer.module is not None
        assert trainer.folder is not None
        target, folder = ["-m", trainer.module], Path(trainer.folder)
    if not folder.is_dir():
        raise InvalidJobError(f"the folder {folder} is not on this worker")
    return [trainer.python or sys.executable, *target, *trainer.args], folder


def _environment(parent: Mapping[str, str], run: Path) -> dict[str, str]:
    """The worker's environment without the service's settings and Ray's, with the run's folder.

    The client package is put in reach, alone: the user's interpreter need not have it, and nothing else
    of the worker's packages shows up in it.
    """
    kept = {n: value for n, value in parent.items() if not n.startswith(("TRIMTAB_", "RAY_", "PYTHONPATH"))}
    packages = run / "python"
    packages.mkdir()
    (packages / "trimtab").symlink_to(Path(trimtab.__file__).parent)
    return {
        **kept,
        run_folder.RUN_DIR_VARIABLE: str(run),
        "PYTHONPATH": str(packages),
        "PYTHONUNBUFFERED": "1",
    }


def _read_output(child: subprocess.Popen[bytes], channel: Channel) -> None:
    assert child.stdout is not None
    while data := os.read(child.stdout.fileno(), 65_536):
        channel.output.write(data.decode(errors="replace"))


def _terminate(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(TERMINATE_SECONDS)


def _contents(folder: Path) -> dict[str, tuple[int, int]]:
    """What would show a change: each file's size and time."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }
