"""Everything the client raises: one tree. Each message says what was wrong and what to do."""

from __future__ import annotations

from trimtab.wire.problems import FieldProblem, Problem


class TrimtabError(Exception):
    """Base of all errors of this package; ``hint`` says what to do, where the message does not."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConnectionFailedError(TrimtabError):
    """The service could not be reached, or did not answer in time."""


class ApiError(TrimtabError):
    """The service refused; ``problem`` is its answer."""

    def __init__(self, problem: Problem, hint: str = "") -> None:
        super().__init__(problem.detail or problem.title, hint)
        self.problem = problem

    @property
    def fields(self) -> list[FieldProblem]:
        """Every bad field of the request."""
        return self.problem.errors


class UnauthorizedError(ApiError):
    """401: the token is missing or wrong."""


class ForbiddenError(ApiError):
    """403: the operator has not allowed this."""


class NotFoundError(ApiError):
    """404"""


class ConflictError(ApiError):
    """409: the state of the study or trial does not allow the call."""


class InvalidError(ApiError):
    """422: ``fields`` names every mistake."""


class UnavailableError(ApiError):
    """429, 502, 503 or 504, after all retries."""


class ServerFaultError(ApiError):
    """Another 5xx: a fault of the service, not of the request."""


class UnknownFitError(TrimtabError):
    """No fit of a scaling law, or more than one, has this id or name."""


class UnknownStudyError(TrimtabError):
    """No study, or more than one, has this id or name."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


def api_error(problem: Problem) -> ApiError:
    """The error for a problem+json answer."""
    if problem.status == 401:
        return UnauthorizedError(problem, "give the server's token: --token, or TRIMTAB_TOKEN")
    kind = _BY_STATUS.get(problem.status, ServerFaultError if problem.status >= 500 else ApiError)
    return kind(problem)
