"""What an attempt tells the service: in order, within the limits, nothing twice, nothing left out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.stub_service import StubService
from trimtab.wire import limits
from trimtab.wire.states import Verdict
from trimtab.wire.work import Measurement, ReportReply, SavedCheckpoint
from workers.attempt import Attempt, Killed
from workers.messages import Ended, Message, Order
from workers.output import MAX_LINES, OutputTail


def make() -> Attempt:
    return Attempt(StubService().add().assignment, now=0.0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 1_500), st.integers(1, 64), st.booleans()), max_size=6), st.booleans()
)
def test_all_news_arrive_once_and_in_order(batches: list[tuple[int, int, bool]], own: bool) -> None:
    attempt, sent, step = make(), [], 0
    for points, metrics, saved in batches:
        values = {f"m{i}": 0.0 for i in range(metrics)}
        batch: list[Message] = []
        for _ in range(points):
            step += 1
            batch.append(Measurement(step=step, metrics=values))
        if saved:
            batch.append(SavedCheckpoint(step=step, uri=f"x{step}"))
        attempt.take(batch, 0.0)
        sent += batch
    last = SavedCheckpoint(step=step, uri="last") if own else None
    attempt.take([Ended("finished", step, last)], 0.0)
    heard: list[Message] = []
    seqs = []
    while (end := attempt.end(None)) is None:
        report = attempt.report(0.0)
        assert report is not None
        assert attempt.report(0.0) == report, "unanswered, it is sent again as it was"
        assert attempt.end(None) is None, "the end waits for the answer"
        assert len(report.measurements) <= limits.MAX_POINTS_PER_REPORT
        heard += [*report.measurements, *([report.checkpoint] if report.checkpoint else [])]
        seqs.append(report.seq)
        attempt.acknowledge(ReportReply(token=report.token, verdict=Verdict.CONTINUE), 0.0)
    heard += [*end.measurements, *([end.checkpoint] if end.checkpoint else [])]
    assert heard == sent + ([last] if last else [])
    assert [*seqs, end.seq] == list(range(1, len(seqs) + 2))


def test_an_idle_attempt_renews_its_lease() -> None:
    attempt = make()
    assert attempt.report(1.0) is None
    renewal = attempt.report(4.0)
    assert renewal is not None
    assert renewal.measurements == []


def test_only_a_lost_token_overrides_an_earlier_order() -> None:
    attempt = make()

    def hear(verdict: Verdict) -> Order | None:
        return attempt.acknowledge(ReportReply(token=1, verdict=verdict), 0.0)

    verdicts = (
        Verdict.CONTINUE,
        Verdict.PAUSE,
        Verdict.PAUSE,
        Verdict.STOP,
        Verdict.CONTINUE,
        Verdict.LOST,
    )
    assert [hear(verdict) for verdict in verdicts] == [None, Order.PAUSE, None, None, None, Order.LOST]
    assert attempt.report(100.0) is None


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.CONTINUE, "no report for 60 s after step 7"),
        (Verdict.STOP, "it ignored the verdict to end, .* at step 7 .* 75 s after the verdict to stop"),
    ],
)
def test_a_training_that_is_killed_has_hung_or_ignored_its_verdict(verdict: Verdict, words: str) -> None:
    attempt = make()
    attempt.take([Measurement(step=6, metrics={"loss": 1.0})], 10.0)
    report = attempt.report(10.0)
    assert report is not None
    attempt.acknowledge(ReportReply(token=report.token, verdict=verdict), 20.0)
    attempt.take([Measurement(step=7, metrics={"loss": 1.0})], 50.0)
    assert attempt.deadline == (125.0 if verdict is Verdict.CONTINUE else 95.0)
    attempt.killed = Killed.HUNG
    attempt.end_without_actor("")
    assert attempt.ended is not None
    assert attempt.ended.failure is not None
    assert re.search(words, attempt.ended.failure.message)


def test_the_output_tail_keeps_the_last_lines_as_a_terminal_shows_them() -> None:
    tail = OutputTail()
    for number in range(500):
        tail.write(f"line {number}\n")
    tail.write("10%\r50%\r100%\n\x00and\ud800 no end")
    lines = tail.text().split("\n")
    assert len(lines) == MAX_LINES + 1
    assert lines[-3:] == ["line 499", "100%", "\ufffdand? no end"]
