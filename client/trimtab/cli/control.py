"""Commands that change how a study goes on: pause, resume, extend, stop."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from trimtab.cli.output import Json, Study, Token, Url, out, print_json, styled
from trimtab.client import Client
from trimtab.errors import TrimtabError
from trimtab.figures import words
from trimtab.wire.states import StudyState, TrialState
from trimtab.wire.views import ExtendRequest, StudyDetail


def pause(study: Study, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """Pause a study: its trials save their state and wait.

    Example: trimtab pause gpt-lr
    """
    with Client(url, token) as client:
        _print_state(client.pause(client.find(study).id), as_json)


def resume(study: Study, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """Let a paused study go on.

    Example: trimtab resume gpt-lr
    """
    with Client(url, token) as client:
        found = client.find(study)
        if found.state == StudyState.COMPLETED:
            raise TrimtabError(
                f"{found.name} is completed: {found.state_reason}",
                f"to go on, give it a larger budget, such as: trimtab extend {found.id} --trials N",
            )
        _print_state(client.resume(found.id), as_json)


def extend(
    study: Study,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="Configurations, those so far counted.")
    ] = None,
    fidelity: Annotated[
        int | None, typer.Option("--fidelity", min=1, help="Units of training, those so far counted.")
    ] = None,
    gpu_hours: Annotated[float | None, typer.Option("--gpu-hours", help="Hours times GPUs.")] = None,
    wall_clock_seconds: Annotated[
        float | None, typer.Option("--wall-clock-seconds", help="Seconds since the study started.")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Raise limits of a study's budget, each to a new total; one that was completed goes on.

    Example: trimtab extend gpt-lr --trials 80
    """
    wanted = {
        "trials": trials,
        "fidelity": fidelity,
        "gpu_hours": gpu_hours,
        "wall_clock_seconds": wall_clock_seconds,
    }
    try:
        limits = ExtendRequest.model_validate(wanted)
    except ValidationError as error:
        wrong = error.errors()[0]
        message = f"{wrong['input']:g}: {wrong['msg']}"
        raise typer.BadParameter(message, param_hint=_option(str(wrong["loc"][0]))) from error
    with Client(url, token) as client:
        found = client.study(client.find(study).id)
        if all(limit is None for limit in wanted.values()):
            limited = found.spec.budget.model_dump(include=set(wanted), exclude_none=True)
            have = ", ".join(f"{_option(name)} {limit:g}" for name, limit in limited.items())
            raise TrimtabError(
                "say which limit is to be raised, and to what",
                f"{found.name} has {have}" if have else f"{found.name} has no limit that can be raised",
            )
        extended = client.extend(found.id, limits)
    if as_json:
        print_json(extended)
        return
    uses = ", ".join(
        f"{use.limit:g} {words(use.name)}" for use in extended.budget if wanted.get(use.name) is not None
    )
    out.print(f"{escape(extended.name)} is {styled(extended.state)}, with {uses}", soft_wrap=True)


def stop(
    study: Study,
    trial: Annotated[int | None, typer.Option("--trial", "-t", min=1, help="Stop this trial only.")] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Stop a study for good (its results stay), or one of its trials.

    Example: trimtab stop gpt-lr --trial 12
    """
    with Client(url, token) as client:
        found = client.find(study)
        if trial is None:
            _print_state(client.cancel(found.id), as_json)
            return
        item = client.stop_trial(found.id, trial)
    if as_json:
        print_json(item)
    elif item.state == TrialState.RUNNING:
        out.print(f"trial {item.number} of {escape(found.name)} will stop at its next report")
    else:
        out.print(f"trial {item.number} of {escape(found.name)} is {styled(item.state)}")


def _option(limit: str) -> str:
    return "--" + limit.replace("_", "-")


def _print_state(study: StudyDetail, as_json: bool) -> None:
    if as_json:
        print_json(study)
    else:
        out.print(f"{escape(study.name)} is {styled(study.state)}", soft_wrap=True)
