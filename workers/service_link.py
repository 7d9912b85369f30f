"""The dispatcher's side of the worker-facing calls: each is retried until the service has answered it."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from trimtab.wire.problems import Problem
from trimtab.wire.work import (
    Assignment,
    EndRequest,
    EndResponse,
    GarbageDone,
    GarbageItem,
    GarbageResponse,
    LeaseRequest,
    LeaseResponse,
    OrphansRequest,
    OrphansResponse,
    RegisterRequest,
    Report,
    ReportReply,
    ReportsRequest,
    ReportsResponse,
    UploadedFolder,
)

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 20.0
RETRY_FIRST_SECONDS = 0.1
RETRY_MOST_SECONDS = 2.0
_AWAY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_Model = TypeVar("_Model", bound=BaseModel)


class AwayError(Exception):
    """The service cannot be reached or cannot answer right now."""


class RefusedError(Exception):
    """The service understood the call and will not do it; asking again is of no use."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{detail} (HTTP {status})")
        self.status = status


class ServiceLink:
    """One kept-alive connection pool to one service.

    Every call waits as long as the service is away, and raises :class:`RefusedError` if it says no. What
    is sent may be sent twice (the answer got lost): tokens and sequence numbers make that harmless.
    """

    def __init__(self, url: str, token: str | None) -> None:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False
        )
        self._away = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def register(self, request: RegisterRequest) -> None:
        await self._call("POST", "/v1/work/register", request)

    async def lease(self, request: LeaseRequest) -> list[Assignment]:
        answer = await self._call("POST", "/v1/work/lease", request)
        return _parse(LeaseResponse, answer).assignments

    async def report(self, reports: list[Report]) -> list[ReportReply]:
        answer = await self._call("POST", "/v1/work/reports", ReportsRequest(reports=reports))
        return _parse(ReportsResponse, answer).replies

    async def end(self, request: EndRequest) -> EndResponse:
        return _parse(EndResponse, await self._call("POST", "/v1/work/end", request))

    async def garbage(self) -> list[GarbageItem]:
        return _parse(GarbageResponse, await self._call("GET", "/v1/work/garbage")).items

    async def garbage_done(self, ids: list[int]) -> None:
        await self._call("POST", "/v1/work/garbage", GarbageDone(ids=ids))

    async def orphans(self, folders: list[UploadedFolder]) -> list[UploadedFolder]:
        answer = await self._call("POST", "/v1/work/orphans", OrphansRequest(folders=folders))
        return _parse(OrphansResponse, answer).folders

    async def _call(self, method: str, path: str, body: BaseModel | None = None) -> bytes:
        content = None if body is None else body.model_dump_json().encode()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(AwayError),
            wait=wait_exponential_jitter(
                RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS, jitter=RETRY_FIRST_SECONDS
            ),
            before_sleep=self._note_away,
        )
        answer: bytes = await retrying(self._once, method, path, content)
        if self._away:
            self._away = False
            log.info("the service is back")
        return answer

    async def _once(self, method: str, path: str, content: bytes | None) -> bytes:
        try:
            response = await self._http.request(method, path, content=content)
        except httpx.TransportError as error:
            raise AwayError(f"{type(error).__name__}: {error}") from error
        if response.status_code in _AWAY_STATUS:
            raise AwayError(f"HTTP {response.status_code}")
        if not response.is_success:
            raise RefusedError(response.status_code, _detail(response))
        return response.content

    def _note_away(self, state: RetryCallState) -> None:
        if not self._away and state.outcome is not None:
            self._away = True
            log.warning(
                "the service at %s is away (%s); keeping what it must know",
                self._http.base_url,
                state.outcome.exception(),
            )


def _parse(model: type[_Model], content: bytes) -> _Model:
    return model.model_validate_json(content)


def _detail(response: httpx.Response) -> str:
    """What the service says of its refusal, fields included."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return response.text[:500]
    return "; ".join([problem.detail, *(f"{e.pointer}: {e.message}" for e in problem.errors)])
