"""Mistakes about learning-rate schedules that a table describes: one that is missing or cannot be read.

The trainers read tables by the same rules; a test holds both together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from trimtab.catalogue import entry_of
from trimtab.domain import listed
from trimtab.draft import Draft
from trimtab.explain import join
from trimtab.wire.base import ParamValue
from trimtab.wire.problems import FieldProblem

SCHEDULE, TABLE = "schedule", "schedule_table"
_EXAMPLE = "0:0.1, 300:1, 600:0"


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """What is wrong with the schedule ``table``, where the study may come to it."""
    entry = entry_of(draft.trainer)
    if entry is None or entry.setting(TABLE) is None:
        return
    wanted = [pointer for pointer, value in _values(draft, SCHEDULE) if value == "table"]
    tables = list(_values(draft, TABLE))
    if wanted and not tables:
        yield FieldProblem(
            pointer=wanted[0],
            message=f"the schedule table needs the setting {TABLE}",
            suggestion=f'name steps with shares of the peak, such as {TABLE}: "{_EXAMPLE}"',
        )
    for pointer, value in tables if wanted else ():
        wrong = mistake(value) if isinstance(value, str) else ""
        if wrong:
            yield FieldProblem(
                pointer=pointer,
                message=f"{TABLE}: {wrong}",
                suggestion=f'write step:share, with steps that grow, as in "{_EXAMPLE}"',
            )


def mistake(table: str) -> str:
    """What is wrong with a table such as ``"0:0.1, 300:1, 600:0"``; empty if nothing is."""
    last = -1
    for part in table.split(","):
        step, _, share = part.partition(":")
        try:
            at, value = int(step), float(share)
        except ValueError:
            return f"{part.strip()!r} is no point"
        if at < 0 or not 0 <= value < math.inf:
            return f"{part.strip()}: steps and shares are not negative, shares finite"
        if at <= last:
            return f"step {at} follows step {last}: steps must grow"
        last = at
    return ""


def _values(draft: Draft, name: str) -> Iterator[tuple[str, ParamValue]]:
    """The values that a setting may come to have, with the place of each."""
    if draft.trainer is not None and name in draft.trainer.settings:
        yield join(("trainer", "settings", name)), draft.trainer.settings[name]
    if name in draft.parameters:
        for value in listed(draft.parameters[name]) or []:
            yield join(("space", name)), value
