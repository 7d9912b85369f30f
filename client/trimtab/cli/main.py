"""The command ``trimtab``."""

from __future__ import annotations

import os
import sys

import typer

from trimtab import __version__
from trimtab.cli import (
    control,
    export,
    fork,
    front,
    importances,
    law,
    profile,
    schedule,
    server,
    stops,
    studies,
    watch,
)
from trimtab.cli.output import Json, err, out, print_error, print_json
from trimtab.errors import ConnectionFailedError, TrimtabError

app = typer.Typer(
    name="trimtab",
    help="Tune hyperparameters: start a server, submit studies, watch them learn.",
    epilog="Exit codes: 0 done, 1 it could not be done (the message says why), 2 wrong usage, "
    "3 the server was not reached, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("serve")(server.serve)
app.command("demo")(server.demo)
app.command("validate")(studies.validate)
app.command("submit")(studies.submit)
app.command("watch")(watch.watch)
app.command("list")(studies.list_studies)
app.command("show")(studies.show)
app.command("best")(studies.best)
app.command("front")(front.front)
app.command("profile")(profile.profile)
app.command("importances")(importances.importances)
app.command("prune")(importances.prune)
app.command("stops")(stops.stops)
app.command("pause")(control.pause)
app.command("resume")(control.resume)
app.command("extend")(control.extend)
app.command("stop")(control.stop)
app.command("fork")(fork.fork)
app.command("schedule")(schedule.schedule)
app.command("export")(export.export)
app.add_typer(law.app, name="law")


@app.command("version")
def version(as_json: Json = False) -> None:
    """Print the version of this client.

    Example: trimtab version
    """
    if as_json:
        print_json({"version": __version__})
    else:
        out.print(f"trimtab {__version__}")


def main() -> None:
    """Run the command line; errors end it with a message and an exit code, never a stack trace."""
    as_json = "--json" in sys.argv[1:]
    try:
        app(prog_name="trimtab")
    except ConnectionFailedError as error:
        print_error(error, as_json=as_json)
        sys.exit(3)
    except TrimtabError as error:
        print_error(error, as_json=as_json)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
