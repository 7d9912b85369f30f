"""Keeps the last lines that a training printed."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections import deque
from collections.abc import Iterator

from trimtab.wire import limits

MAX_LINES = 100
MAX_LINE_CHARS = 1_000


def clean(text: str, limit: int) -> str:
    """The last ``limit`` characters, without what JSON or a database cannot hold (surrogates, NUL)."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")[-limit:]


class OutputTail(io.TextIOBase):
    """A text stream that remembers its last lines. Safe to write from several threads."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._open = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            *lines, rest = (self._open + text).split("\n")
            for line in lines:
                self._lines.append(_shown(line))
            # A progress bar rewrites its line for hours: what it overwrote is not kept.
            self._open = rest.rpartition("\r")[2] if len(rest) > MAX_LINE_CHARS else rest
            self._open = self._open[-MAX_LINE_CHARS:]
        return len(text)

    def text(self) -> str:
        """The last lines, oldest first."""
        with self._lock:
            lines = [*self._lines, *([_shown(self._open)] if self._open else [])]
        return clean("\n".join(lines), limits.MAX_OUTPUT_TAIL_CHARS)


def _shown(line: str) -> str:
    """What a terminal would show of a line that rewrote itself with carriage returns."""
    return line.rstrip("\r").rpartition("\r")[2][-MAX_LINE_CHARS:]


@contextlib.contextmanager
def capture(tail: OutputTail) -> Iterator[None]:
    """Send what this process prints and logs to ``tail``. For one training at a time."""
    handler = logging.StreamHandler(tail)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with contextlib.redirect_stdout(tail), contextlib.redirect_stderr(tail):
            yield
    finally:
        root.removeHandler(handler)
