"""The event stream: nothing is lost or seen twice, and the server stops whoever listens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx

from trimtab.wire.views import Event


def listen(
    http: httpx.Client, count: int, headers: dict[str, str] | None = None, **query: Any
) -> Iterator[Event]:
    """The first ``count`` events of a stream."""
    with http.stream("GET", "/v1/events", params=query, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        last_id = None
        for line in answer.iter_lines():
            if line.startswith("id:"):
                last_id = int(line[3:])
            if line.startswith("data:"):
                event = Event.model_validate_json(line[5:])
                assert event.id == last_id
                yield event
                count -= 1
                if count == 0:
                    return


def test_a_listener_that_comes_and_goes_misses_nothing_while_writers_write(api: Any) -> None:
    study, other = api.study(), api.study()
    writers, each = 4, 15
    body = {"params": {"lr": 0.1, "optimizer": "adamw"}}

    def write() -> None:
        for _ in range(each):
            api.post(f"/studies/{study}/trials", body, 201)
            api.post(f"/studies/{other}/trials", body, 201)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    seen: list[Event] = []
    expected = 1 + writers * each
    while len(seen) < expected:
        after = str(seen[-1].id if seen else 0)
        seen += listen(api.http, min(7, expected - len(seen)), {"Last-Event-ID": after}, study=study)
    for thread in threads:
        thread.join()
    stored = api.get(f"/studies/{study}/events", limit=500)["items"]
    assert [event.id for event in seen] == [event["id"] for event in stored]
    assert sorted(event.trial for event in seen if event.trial) == list(range(1, expected))


def test_without_an_id_only_news_are_sent(api: Any) -> None:
    study = api.study()
    news: list[Event] = []
    thread = threading.Thread(target=lambda: news.extend(listen(api.http, 1, study=study)))
    thread.start()
    time.sleep(0.5)
    api.post(f"/studies/{study}/pause")
    thread.join(10)
    assert [event.kind for event in news] == ["study.paused"]


def test_wrong_streams_are_refused(api: Any) -> None:
    api.get("/events", 404, study="none")
    api.get("/events", 422, after=-1)
    answer = api.http.get("/v1/events", headers={"Last-Event-ID": "x"})
    assert answer.json()["errors"][0]["pointer"] == "/header/last-event-id"


def test_the_server_stops_quickly_while_clients_wait(databases: Any, tmp_path: Any) -> None:
    environ = os.environ | {
        "TRIMTAB_HOME": str(tmp_path),
        "TRIMTAB_DATABASE_URL": databases.url("sqlite"),
        "TRIMTAB_PORT": "0",
        "TRIMTAB_TOKEN": "",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "service.api"], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("Trimtab API ready at http://127.0.0.1:")
        http = httpx.Client(base_url=ready.split()[-1], timeout=20)
        poll = {"worker": "w", "incarnation": "1", "free": {}, "wait_seconds": 30}
        leased: list[int] = []
        thread = threading.Thread(
            target=lambda: leased.append(http.post("/v1/work/lease", json=poll).status_code)
        )
        with http.stream("GET", "/v1/events") as stream:
            lines = stream.iter_lines()
            assert "listening" in next(lines)
            thread.start()
            time.sleep(0.5)
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(httpx.RemoteProtocolError):  # on a busy machine it is cut off
                assert not [line for line in lines if line.startswith("data:")]
        assert process.wait(10) in (0, -signal.SIGTERM)
        assert time.monotonic() - started < 3  # 2 s, and what a busy machine adds
        thread.join(5)
        assert leased == [200]
    finally:
        process.kill()
