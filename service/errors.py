"""The errors the service answers with: one tree, each turned into problem+json at the edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from trimtab.wire.problems import FieldProblem


class ServiceError(Exception):
    """Base: something the caller must know and can act on. ``detail`` says what to do."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, detail: str, errors: Sequence[FieldProblem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class NotFoundError(ServiceError):
    status = 404
    kind = "not-found"
    title = "There is no such thing"


class ConflictError(ServiceError):
    """The thing exists but its state does not allow the call."""

    status = 409
    kind = "conflict"
    title = "The state does not allow this"


class InvalidError(ServiceError):
    """The request is well-formed but says something that cannot be done; ``errors`` name the fields."""

    status = 422
    kind = "invalid"
    title = "The request has mistakes"


class UnavailableError(ServiceError):
    """Not now: there is too much to do, or it took too long. The same call may succeed later."""

    status = 503
    kind = "unavailable"
    title = "The service cannot do this now"


class ForbiddenError(ServiceError):
    """The operator has not switched this capability on."""

    status = 403
    kind = "forbidden"
    title = "This is not allowed here"
