"""The commands that bring a server up on this machine: ``serve`` and ``demo``."""

from __future__ import annotations

import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

import trimtab
from trimtab import study_file
from trimtab.cli import watch
from trimtab.cli.output import Json, err, out, print_json
from trimtab.client import ENDED, Client
from trimtab.errors import TrimtabError
from trimtab.figures import duration, number, parameter, percent, spent
from trimtab.local import (
    DEFAULT_PORT,
    HomeInUseError,
    ServerPlan,
    Supervisor,
    free_port,
)
from trimtab.wire.states import StudyState
from trimtab.wire.study import StudySpec
from trimtab.wire.views import StudyDetail, StudySummary

DEMO_FILE = Path("examples/gpt-lr.yaml")
TEND_SECONDS = 0.25

Home = Annotated[
    Path,
    typer.Option("--home", envvar="TRIMTAB_HOME", help="Folder of the database, checkpoints and logs."),
]
Host = Annotated[str, typer.Option("--host", envvar="TRIMTAB_HOST", help="Address to listen at.")]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="TRIMTAB_TOKEN", show_default=False, help="Ask every caller for this."),
]


def serve(
    home: Home = Path(".trimtab"),
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", envvar="TRIMTAB_PORT", min=1, max=65535)] = DEFAULT_PORT,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Run a server here until Ctrl-C: service, scheduler, dispatcher and a local Ray.

    What was running when it was last stopped goes on.

    Example: trimtab serve --port 8788
    """
    plan = ServerPlan(home.resolve(), host, port, token)
    supervisor = Supervisor(plan, _say)
    with _stop_signals():
        try:
            supervisor.start()
            supervisor.wait_ready()
            _print_server(plan, as_json)
            while True:
                supervisor.tend()
                time.sleep(TEND_SECONDS)
        except KeyboardInterrupt:
            _say("stopping ...")
        finally:
            _ignore_signals()
            supervisor.stop()
    _say("stopped; studies go on at the next: trimtab serve")


def demo(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A study file; examples/gpt-lr.yaml by default.")
    ] = None,
    home: Home = Path(".trimtab"),
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--exit",
            show_default=False,
            help="Serve on after the result, until Ctrl-C, or exit. By default: keep in a terminal.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a server, run the example study and show what it found.

    Ctrl-C stops everything; the study goes on at the next demo or serve.

    Example: trimtab demo
    """
    spec = study_file.load(file or _demo_file())
    plan = ServerPlan(home.resolve(), port=free_port("127.0.0.1", DEFAULT_PORT))
    serving = (sys.stdin.isatty() and out.is_terminal) if keep is None else keep
    server = _ServerThread(plan)
    with _stop_signals():
        try:
            url = server.start()
            _run_demo(url, spec, server, as_json)
            if serving and server.is_own:
                _say(f"the dashboard stays up until Ctrl-C: {url}")
                while True:
                    server.check()
                    time.sleep(TEND_SECONDS)
        except KeyboardInterrupt:
            _say("stopping ...")
            interrupted = True
        else:
            interrupted = False
        finally:
            _ignore_signals()
            server.stop()
    if interrupted and not server.study_ended:
        _say("stopped; the study keeps its place and goes on at the next: make serve (or trimtab serve)")
        raise typer.Exit(130)
    if server.is_own:
        _say("the results are kept; see them again with: make serve (or trimtab serve)")


class _ServerThread:
    """A server for as long as the demo runs, kept up by a thread of its own."""

    def __init__(self, plan: ServerPlan) -> None:
        self._supervisor = Supervisor(plan, _say)
        self._url = plan.url
        self._stop = threading.Event()
        self._outcome: queue.Queue[TrimtabError | None] = queue.Queue()
        self._thread = threading.Thread(target=self._keep, name="trimtab-supervisor")
        self.is_own = True
        self.study_ended = False

    def start(self) -> str:
        """Its address, when it is ready; or that of the server that already uses this home."""
        self._thread.start()
        while True:
            try:
                error = self._outcome.get(timeout=TEND_SECONDS)
            except queue.Empty:
                continue
            if isinstance(error, HomeInUseError):
                self.is_own = False
                _say(f"using the server that is running already: {error.url}")
                return error.url
            if error is not None:
                raise error
            return self._url

    def check(self) -> None:
        """Raises what made the server give up."""
        try:
            error = self._outcome.get_nowait()
        except queue.Empty:
            return
        if error is not None:
            raise error

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        # Starting, tending and stopping share this thread: the programs live as long as it does.
        try:
            self._supervisor.start()
            self._supervisor.wait_ready(cancelled=self._stop.is_set)
            self._outcome.put(None)
            while not self._stop.wait(TEND_SECONDS):
                self._supervisor.tend()
        except TrimtabError as error:
            self._outcome.put(error)
        finally:
            self._supervisor.stop()


def _run_demo(url: str, spec: StudySpec, server: _ServerThread, as_json: bool) -> None:
    with Client(url) as client:
        study = _continue_or_create(client, spec)
        if not as_json:
            out.print(f"dashboard: [bold]{url}/studies/{study.id}[/]\n", soft_wrap=True)
        state = watch.follow(client, study.id, as_json=as_json, check=server.check)
        server.study_ended = True
        summary = client.summary(study.id)
        default = summary.default
        final = None if default is None else client.trial(study.id, default.number).value
        if as_json:
            print_json(summary, one_line=True)
        else:
            _print_result(summary, final, url)
    if state != StudyState.COMPLETED:
        raise TrimtabError(
            f"the study {state}: {summary.study.state_reason}", f"see {url}/studies/{study.id}"
        )


def _continue_or_create(client: Client, spec: StudySpec) -> StudyDetail:
    """The unfinished study of an earlier, interrupted demo, or a new one."""
    for item in client.studies(name=spec.name):
        if item.name == spec.name and item.state not in ENDED:
            study = client.study(item.id)
            if study.spec != spec:
                continue
            _say("going on with the study of the last, interrupted demo")
            return client.resume(study.id) if study.state == StudyState.PAUSED else study
    return client.create(spec)


def _print_result(summary: StudySummary, default_value: float | None, url: str) -> None:
    study, best, default = summary.study, summary.study.best, summary.default
    out.print()
    if best is not None:
        table = Table(
            box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title="[bold]Best configuration[/]"
        )
        table.add_column("", style="dim")
        table.add_column(f"best (trial {best.number})", justify="right", style="green")
        if default is not None:
            table.add_column(f"default (trial {default.number})", justify="right")
        for name, value in best.params.items():
            theirs = [] if default is None else [escape(parameter(default.params.get(name)))]
            table.add_row(name, escape(parameter(value)), *theirs)
        table.add_section()
        table.add_row(
            study.metric,
            f"[bold]{number(best.value)}[/]",
            *([] if default is None else [number(default_value)]),
        )
        out.print(table)
    savings, unit = study.savings, study.spec.fidelity.unit
    if savings.useful is not None:
        out.print(f"training         {spent(savings.useful, savings.trained, unit)}", soft_wrap=True)
    else:
        out.print(
            f"early stopping   saved [bold]{percent(savings.fraction_saved)}[/]: "
            f"{savings.trained:,} {unit} trained instead of {savings.full:,}",
            soft_wrap=True,
        )
    out.print(f"wall time        {duration(study.elapsed_seconds)} for {study.trials.total} trials")
    out.print(f"dashboard        [bold]{url}/studies/{study.id}[/]", soft_wrap=True)


def _demo_file() -> Path:
    beside_source = Path(trimtab.__file__).parents[2] / DEMO_FILE
    for path in (DEMO_FILE, beside_source):
        if path.is_file():
            return path
    raise TrimtabError(f"there is no {DEMO_FILE} here", "name a study file: trimtab demo FILE")


def _print_server(plan: ServerPlan, as_json: bool) -> None:
    if as_json:
        print_json({"url": plan.url, "api": f"{plan.url}/docs", "logs": str(plan.logs)}, one_line=True)
        return
    out.print("[bold green]Trimtab is up[/]  (Ctrl-C stops it)")
    out.print(f"  dashboard  [bold]{plan.url}[/]", soft_wrap=True)
    out.print(f"  API docs   {plan.url}/docs", soft_wrap=True)
    out.print(f"  logs       {escape(str(plan.logs))}", soft_wrap=True)
    out.print("  next       trimtab submit FILE --watch", style="dim")


def _say(message: str) -> None:
    err.print(message, style="dim", soft_wrap=True, markup=False)


@contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _ignore_signals() -> None:
    """Stopping takes its time and must not be cut short."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
