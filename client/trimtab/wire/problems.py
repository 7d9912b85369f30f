"""Errors as RFC 9457 problem details."""

from __future__ import annotations

from pydantic import Field

from trimtab.wire.base import Wire


class FieldProblem(Wire):
    """One thing that is wrong with a document."""

    pointer: str
    """JSON pointer (RFC 6901) to the field, ``""`` for the whole document."""
    message: str
    """What is wrong."""
    suggestion: str = ""
    """What to do about it, often "did you mean ...?"."""


class Problem(Wire):
    """The body of every error answer (application/problem+json)."""

    type: str
    """Stable identifier of the kind of problem, a path below /v1/problems/."""
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: list[FieldProblem] = Field(default_factory=list)
    """Every bad field at once."""
