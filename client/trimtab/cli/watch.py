"""The command ``watch``: a live view, fed by the event stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import typer
from rich.live import Live
from rich.markup import escape

from trimtab.cli import view
from trimtab.cli.output import Json, Study, Token, Url, err, out, print_json
from trimtab.client import ENDED, Client
from trimtab.errors import ConnectionFailedError, TrimtabError
from trimtab.wire.states import StudyState

REDRAW_SECONDS = 0.5
"""Not faster, however many events arrive."""
LINE_SECONDS = 5.0
"""Between two lines where the output is no terminal."""
AWAY_SECONDS = 300.0
"""How long the server may be away before the watch gives up."""


def watch(study: Study, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """Watch a study live until it ends. Ctrl-C ends the watching, not the study.

    Where the output is no terminal, one line is printed every few seconds; with --json, one JSON document
    per line. The exit code is 0 if the study completed, 1 if it failed or was cancelled.

    Example: trimtab watch gpt-lr
    """
    with Client(url, token) as client:
        run(client, client.find(study).id, as_json=as_json)


def run(client: Client, study: str, *, as_json: bool) -> None:
    """Watch until the study ends; raises ``typer.Exit`` with the exit code that says how."""
    try:
        state = follow(client, study, as_json=as_json)
    except KeyboardInterrupt:
        name = client.study(study).name
        err.print(
            f"\nno longer watching; {escape(name)} goes on. Watch it again with: trimtab watch {study}",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    raise typer.Exit(0 if state == StudyState.COMPLETED else 1)


def follow(
    client: Client, study: str, *, as_json: bool = False, check: Callable[[], None] | None = None
) -> StudyState:
    """Show a study until it ends, and return the state it ended in.

    ``check`` is called several times a second and may raise to end the watching.
    """
    with _Changes(client, study) as changes:
        if as_json or not out.is_terminal:
            return _follow_lines(client, study, changes, as_json, check)
        return _follow_live(client, study, changes, check)


class _Changes:
    """Listens to a study's events in a thread; the watching thread waits for the next one."""

    def __init__(self, client: Client, study: str) -> None:
        self._client = client.another()
        self._study = study
        self._changed = threading.Event()
        self._changed.set()
        self._over = False

    def wait(self, seconds: float, check: Callable[[], None] | None) -> bool:
        """Until something has changed, or ``seconds`` have passed; whether something has changed."""
        deadline = time.monotonic() + seconds
        while True:
            if check is not None:
                check()
            left = deadline - time.monotonic()
            if self._changed.wait(max(0.0, min(0.25, left))):
                self._changed.clear()
                return True
            if left <= 0:
                return False

    def __enter__(self) -> _Changes:
        threading.Thread(target=self._listen, daemon=True, name="trimtab-events").start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over = True

    def _listen(self) -> None:
        try:
            for _ in self._client.events(self._study, patience_seconds=AWAY_SECONDS):
                if self._over:
                    return
                self._changed.set()
        except TrimtabError:
            # The watching thread meets the same trouble at its next request, and tells.
            self._changed.set()
        finally:
            self._client.close()


def _follow_live(
    client: Client, study: str, changes: _Changes, check: Callable[[], None] | None
) -> StudyState:
    snapshot: view.Snapshot | None = None
    away_since: float | None = None
    with Live(console=out, auto_refresh=False, transient=False, vertical_overflow="crop") as live:
        while True:
            try:
                snapshot = view.look(client, study)
                away_since = None
            except ConnectionFailedError:
                away_since = away_since or time.monotonic()
                if snapshot is None or time.monotonic() - away_since > AWAY_SECONDS:
                    raise
            notice = "" if away_since is None else "the server does not answer; trying again ..."
            live.update(view.render(snapshot, out.width, notice=notice), refresh=True)
            if snapshot.study.state in ENDED:
                return snapshot.study.state
            started = time.monotonic()
            changes.wait(1.0, check)
            _pause(REDRAW_SECONDS - (time.monotonic() - started), check)


def _follow_lines(
    client: Client, study: str, changes: _Changes, as_json: bool, check: Callable[[], None] | None
) -> StudyState:
    shown_state: StudyState | None = None
    shown_at = -LINE_SECONDS
    while True:
        detail = client.study(study)
        now = time.monotonic()
        if detail.state != shown_state or now - shown_at >= LINE_SECONDS:
            shown_state, shown_at = detail.state, now
            if as_json:
                print_json(detail, one_line=True)
            else:
                print(view.line(detail), flush=True)
        if detail.state in ENDED:
            return detail.state
        changes.wait(LINE_SECONDS, check)
        _pause(REDRAW_SECONDS, check)


def _pause(seconds: float, check: Callable[[], None] | None) -> None:
    if check is not None:
        check()
    time.sleep(max(0.0, seconds))
