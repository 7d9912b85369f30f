"""What all commands share: options, consoles, and how numbers, states and errors look."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from trimtab.errors import ApiError, TrimtabError
from trimtab.study_file import InvalidStudyFileError, to_json

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="TRIMTAB_URL", show_default=False, help="Server (http://127.0.0.1:8787)."),
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="TRIMTAB_TOKEN", show_default=False, help="The server's token."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's id, or its name if that is unique.")]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

STATE_STYLES = {
    "running": "bold cyan",
    "queued": "blue",
    "paused": "yellow",
    "completed": "green",
    "done": "green",
    "finished": "green",
    "active": "bold cyan",
    "stopped": "magenta",
    "failed": "red",
    "lost": "red",
    "cancelled": "red",
}


def print_json(value: BaseModel | dict[str, Any] | list[Any], *, one_line: bool = False) -> None:
    """One JSON document on stdout; non-finite numbers are strings."""
    indent = None if one_line else 2
    if isinstance(value, BaseModel):
        print(value.model_dump_json(indent=indent), flush=True)
    else:
        print(json.dumps(value, indent=indent), flush=True)


def styled(state: str) -> str:
    """A state in its colour, as rich markup."""
    return f"[{STATE_STYLES.get(state, 'white')}]{state}[/]"


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve in one line of blocks, at most ``width`` wide; gaps where values are not finite."""
    if len(values) > width:
        edges = [round(at * len(values) / width) for at in range(width + 1)]
        values = [values[end - 1] for end in edges[1:]]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    blocks = "▁▂▃▄▅▆▇█"
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(blocks[round((v - low) * scale)] if math.isfinite(v) else " " for v in values)


def print_error(error: TrimtabError, *, as_json: bool) -> None:
    """An error on stderr: what was wrong, where, and what to do."""
    if as_json:
        err.print_json(json.dumps({"error": _error_document(error)}))
        return
    if isinstance(error, InvalidStudyFileError):
        _print_mistakes(error)
    message, _, rest = str(error).partition("\n")
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    if rest:
        err.print(escape(rest), soft_wrap=True, style="dim")
    if isinstance(error, ApiError):
        for field in error.fields:
            line = f"  [cyan]{escape(field.pointer or '/')}[/]  {escape(field.message)}"
            err.print(line + _suggestion(field.suggestion), soft_wrap=True)
    if error.hint:
        err.print(f"  [dim]→[/] {escape(error.hint)}", soft_wrap=True)


def _print_mistakes(error: InvalidStudyFileError) -> None:
    for mistake in error.mistakes:
        problem = mistake.problem
        pointer = f"  [cyan]{escape(problem.pointer)}[/]" if problem.pointer else ""
        err.print(
            f"[bold]{escape(str(error.path))}:{mistake.line}:{mistake.column}[/]{pointer}  "
            f"{escape(problem.message)}{_suggestion(problem.suggestion)}",
            soft_wrap=True,
        )
        if mistake.line <= len(error.lines):
            line = error.lines[mistake.line - 1].replace("\t", " ")
            err.print(Text(f"  {mistake.line:>4} │ {line}", style="dim"), no_wrap=True, overflow="ellipsis")
            err.print(Text(" " * 6 + " │ " + " " * (mistake.column - 1) + "^", style="red"), no_wrap=True)


def _suggestion(text: str) -> str:
    return f" [green]({escape(text)})[/]" if text else ""


def _error_document(error: TrimtabError) -> dict[str, Any]:
    document: dict[str, Any] = {"message": str(error), "hint": error.hint}
    if isinstance(error, InvalidStudyFileError):
        document["file"] = str(error.path)
        document["problems"] = to_json(error.mistakes)
    elif isinstance(error, ApiError):
        document["status"] = error.problem.status
        document["problems"] = [field.model_dump() for field in error.fields]
    return document
