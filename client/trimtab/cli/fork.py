"""The command ``fork``: a new trial from a checkpoint of another."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from trimtab.cli.output import Json, Study, Token, Url, out, print_json
from trimtab.client import Client
from trimtab.errors import TrimtabError
from trimtab.figures import exact, number
from trimtab.wire.base import ParamValue
from trimtab.wire.views import ForkRequest


def fork(
    study: Study,
    trial: Annotated[int, typer.Option("--trial", "-t", min=1, help="The trial to fork.")],
    step: Annotated[
        int | None, typer.Option("--step", help="Of the checkpoint to start from; the newest when absent.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="NAME=VALUE", help="A parameter that differs; may be repeated."
        ),
    ] = None,
    target: Annotated[
        int | None, typer.Option("--target", help="Train to this step; a full training when absent.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule",
            metavar="STEP:RATE,...",
            help="The learning rate; straight lines between.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="For another order of the data; its parent's when absent."),
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="A name for it.")] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Start a new trial from a checkpoint of another one, with a changed configuration.

    Example: trimtab fork gpt-lr --trial 12 --step 120 --set lr=0.001
    """
    try:
        request = ForkRequest.model_validate(
            {
                "params": dict(_setting(text) for text in change or ()),
                "step": step,
                "target_step": target,
                "schedule": [] if schedule is None else [_point(text) for text in schedule.split(",")],
                "seed": seed,
                "label": label,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TrimtabError(f"{place}: {first['msg']}", "see trimtab fork --help") from error
    with Client(url, token) as client:
        found = client.find(study)
        made = client.fork_trial(found.id, trial, request)
    if as_json:
        print_json(made)
        return
    out.print(
        f"trial {made.number} of {escape(found.name)} goes on from trial {trial} at step "
        f"{number(made.forked_at)}, to {number(made.target_step)}",
        soft_wrap=True,
    )
    for name, value in made.params.items():
        out.print(f"  {name}: {escape(exact(value))}", soft_wrap=True)


def _setting(text: str) -> tuple[str, ParamValue]:
    """NAME=VALUE: a number, true or false as such, anything else as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise TrimtabError(f"--set {text} is no parameter with a value", "write it as --set lr=0.001")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    return name.strip(), parsed if isinstance(parsed, bool | int | float | str) else value


def _point(text: str) -> tuple[int, float]:
    step, _, rate = text.partition(":")
    try:
        return int(step), float(rate)
    except ValueError:
        raise TrimtabError(
            f"--schedule: {text.strip()!r} is no step with a rate", "write it as --schedule 0:0.1,100:0.01"
        ) from None
