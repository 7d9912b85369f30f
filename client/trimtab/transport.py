"""One HTTP connection to the service: retries, errors, and the event stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import httpx
import tenacity
from pydantic import BaseModel, ValidationError

from trimtab import __version__
from trimtab.errors import ApiError, ConnectionFailedError, TrimtabError, UnavailableError, api_error
from trimtab.wire.base import Wire
from trimtab.wire.problems import Problem
from trimtab.wire.views import Event

M = TypeVar("M", bound=BaseModel)

STREAM_SILENCE_SECONDS = 60.0
"""The service sends a sign of life more often than this; after it a stream counts as broken."""


class _NotReachedError(ConnectionFailedError):
    """The request never reached the service: any call may be repeated."""


class _NoAddressError(ConnectionFailedError):
    """There is no sense in repeating any call."""


class Transport:
    """Sends requests and turns answers into wire models or :mod:`trimtab.errors`.

    A call that is ``safe`` (repeating it changes nothing more) is tried again after any connection error
    and after 429, 502, 503 and 504; another one only if it was surely not carried out (429, 503, or the
    connection was refused). No other answer is tried again.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout_seconds: float,
        attempts: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"User-Agent": f"trimtab/{__version__}"}
        if token:
            if not (token.isascii() and token.isprintable()):
                raise TrimtabError(
                    "the token has characters that no server takes",
                    "give the server's token: --token, or TRIMTAB_TOKEN",
                )
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_seconds)
        self._attempts = attempts
        self._sleep = sleep

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        answer: type[M],
        *,
        body: Wire | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool = False,
        wait_seconds: float = 0.0,
        accept: tuple[int, ...] = (),
    ) -> M:
        """The answer of one call; statuses in ``accept`` count as success.

        Raises :class:`~trimtab.errors.ApiError` or :class:`~trimtab.errors.ConnectionFailedError`.
        """
        response = self._retrying(safe)(
            self._send,
            method,
            path,
            body=body,
            query=query,
            headers=headers,
            wait=wait_seconds,
            accept=accept,
        )
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise ConnectionFailedError(
                f"{self.url} answered {method} {path} with something unexpected",
                "is it a Trimtab server, and of the same version? (trimtab version)",
            ) from error

    def send(
        self, method: str, path: str, *, body: Wire | None = None, query: Mapping[str, Any] | None = None
    ) -> None:
        """A call whose answer is empty; it must be safe to repeat."""
        self._retrying(True)(self._send, method, path, body=body, query=query)

    def text(self, path: str) -> str:
        """A file of the server as text."""
        response: httpx.Response = self._retrying(True)(self._send, "GET", path)
        return response.text

    def events(self, query: Mapping[str, Any], after: int, patience_seconds: float) -> Iterator[Event]:
        """Events with ids above ``after``, without end: a broken stream is taken up where it broke.

        Raises :class:`ConnectionFailedError` when the service is away for ``patience_seconds``.
        """
        last_seen = time.monotonic()
        pause = 0.2
        while True:
            try:
                for event in self._stream({**query, "after": after}):
                    after, last_seen, pause = event.id, time.monotonic(), 0.2
                    yield event
            except (httpx.TransportError, ConnectionFailedError, UnavailableError) as error:
                if time.monotonic() - last_seen > patience_seconds:
                    raise self._unreachable(error) from error
            self._sleep(pause)
            pause = min(pause * 2, 5.0)

    def _stream(self, query: Mapping[str, Any]) -> Iterator[Event]:
        timeout = httpx.Timeout(10.0, read=STREAM_SILENCE_SECONDS)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(query["after"])}
        with self._http.stream(
            "GET", "/v1/events", params=_present(query), headers=headers, timeout=timeout
        ) as answer:
            if answer.is_error:
                answer.read()
                raise self._refusal(answer)
            data: list[str] = []
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif not line and data:
                    yield Event.model_validate_json("\n".join(data))
                    data = []

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: Wire | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
        accept: tuple[int, ...] = (),
    ) -> httpx.Response:
        content = None if body is None else body.model_dump_json(exclude_unset=True).encode()
        sent = dict(headers or {})
        if content is not None:
            sent["Content-Type"] = "application/json"
        timeout = self._http.timeout.read
        try:
            response = self._http.request(
                method,
                path,
                content=content,
                params=_present(query or {}),
                headers=sent,
                timeout=None if timeout is None else timeout + wait,
            )
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise self._unreachable(error, _NoAddressError) from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable(error, _NotReachedError) from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.is_error and response.status_code not in accept:
            raise self._refusal(response)
        return response

    def _retrying(self, safe: bool) -> tenacity.Retrying:
        def again(error: BaseException) -> bool:
            if isinstance(error, _NoAddressError):
                return False
            if isinstance(error, UnavailableError):
                return safe or error.problem.status in (429, 503)
            return isinstance(error, ConnectionFailedError if safe else _NotReachedError)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(again),
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=tenacity.wait_exponential(multiplier=0.2, max=5.0) + tenacity.wait_random(0.0, 0.2),
            sleep=self._sleep,
            reraise=True,
        )

    def _unreachable(
        self, error: Exception, kind: type[ConnectionFailedError] = ConnectionFailedError
    ) -> ConnectionFailedError:
        if isinstance(error, httpx.TimeoutException):
            return kind(f"{self.url} did not answer in time", "is the server busy or stuck? see its logs")
        if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
            return kind(f"{self.url!r} is no address", "write it like http://127.0.0.1:8787")
        return kind(
            f"no server answers at {self.url}",
            "start one with: trimtab serve (or name another with --url or TRIMTAB_URL)",
        )

    def _refusal(self, response: httpx.Response) -> ApiError:
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            problem = Problem(
                type="about:blank",
                title=response.reason_phrase,
                status=response.status_code,
                detail=f"{self.url} answered {response.status_code} {response.reason_phrase}",
            )
        if problem.status == 401:
            # The service's words are about the header, which is not the caller's business here.
            known = "Authorization" in self._http.headers
            detail = "the server does not take this token" if known else "the server asks for a token"
            problem = problem.model_copy(update={"detail": detail})
        return api_error(problem)


def _present(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
