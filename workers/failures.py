"""Gives each way in which training ends badly its type."""

from __future__ import annotations

import re
import signal
import traceback
from pathlib import Path

from trainers.base import InvalidConfigurationError
from trimtab.wire import limits
from trimtab.wire.states import FailureKind
from trimtab.wire.work import Failure
from workers.output import clean

_MEMORY_TEXT = re.compile(
    r"^(\w+\.)*(MemoryError|OutOfMemoryError)\b|CUDA out of memory|DefaultCPUAllocator: can't allocate",
    re.MULTILINE,
)


class StoreUnreachableError(OSError):
    """The store of checkpoints did not answer: nothing is known to be wrong with the training."""


class ScriptError(RuntimeError):
    """The user's script broke the protocol; the message says how."""


class InvalidJobError(ValueError):
    """The study asks for something this worker cannot start; the message says what."""


def make(kind: FailureKind, message: str, output: str = "") -> Failure:
    """A failure within the wire's limits."""
    return Failure(
        kind=kind,
        message=clean(message[: limits.MAX_TEXT_CHARS], limits.MAX_TEXT_CHARS),
        output_tail=clean(output, limits.MAX_OUTPUT_TAIL_CHARS),
    )


def hang(seconds: float, *, step: int, ends: str | None) -> str:
    """Why a training was given up after ``seconds``; ``ends``: what had told it to end, if anything had."""
    if ends is None:
        return f"no report for {seconds:g} s after step {step}"
    return (
        f"it ignored the verdict to end, or was saving for too long: at step {step} it had not ended "
        f"{seconds:g} s after {ends}"
    )


def of_exception(error: BaseException, output: str) -> Failure:
    """The failure that an exception out of a training means; ``output`` are its last printed lines."""
    if isinstance(error, InvalidConfigurationError | InvalidJobError):
        return make(FailureKind.INVALID, str(error), output)
    if isinstance(error, StoreUnreachableError):
        return make(FailureKind.LOST, str(error), output)
    if isinstance(error, ScriptError):
        return make(FailureKind.CRASH, str(error), output)
    text = "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error))
    kind = FailureKind.OUT_OF_MEMORY if _is_memory(error, text) else FailureKind.CRASH
    return make(kind, text, f"{output}\n{trace}" if output else trace)


def of_exit(code: int, output: str, *, step: int, target: int, memory_kills: int) -> Failure:
    """The failure that a script's exit means.

    ``code`` is the exit code, negative for a signal; ``memory_kills`` counts the processes that the
    kernel killed for lack of memory while the script ran.
    """
    where = f"at step {step} of {target}"
    if code == -signal.SIGKILL and memory_kills > 0:
        return make(
            FailureKind.OUT_OF_MEMORY, f"the kernel killed the script for lack of memory {where}", output
        )
    if code < 0:
        return make(FailureKind.CRASH, f"the script was killed by {_signal_name(-code)} {where}", output)
    if code == 0:
        return make(
            FailureKind.CRASH,
            f"the script ended by itself {where}; let it train until report() returns True",
            output,
        )
    last_lines = "\n".join(output.splitlines()[-5:])
    kind = FailureKind.OUT_OF_MEMORY if _MEMORY_TEXT.search(last_lines) else FailureKind.CRASH
    last_line = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    return make(kind, f"the script exited with code {code} {where}: {last_line}".rstrip(": "), output)


def memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory, as far as this process can see."""
    found = 0
    for path in (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events")):
        try:
            text = path.read_text(encoding="ascii")
        except OSError:
            continue
        found += sum(int(count) for count in re.findall(r"^oom_kill (\d+)$", text, re.MULTILINE))
    return found


def _is_memory(error: BaseException, text: str) -> bool:
    # torch's own class is not imported for this: the actor may run scripts only.
    named = any(base.__name__ == "OutOfMemoryError" for base in type(error).__mro__)
    return isinstance(error, MemoryError) or named or _MEMORY_TEXT.search(text) is not None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
