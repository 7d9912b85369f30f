"""Make a study's decisions again: ``python -m service.replay STUDY``.

Every answer of search is a function of what it was asked, and that is kept. This program asks again and
says where an answer comes out differently: never, with the same versions of search and its libraries.
"""

from __future__ import annotations

import sys

from search.decide import decide
from search.decision import Answer, Continue, Finish, Fork, Launch, Repeat, Spare, Stop
from service.db.engine import Database
from service.db.reads.replay import Answered, Started, answers
from service.errors import NotFoundError
from service.settings import Settings


def differences(answered: Answered, again: Answer) -> list[str]:
    """What ``again`` has otherwise than the answer that was carried out; nothing: they are the same.

    Of an answer that came when slots had been used otherwise everything or nothing was carried out, but a
    Finish takes effect only once nothing is active.
    """
    started = iter(answered.started)
    before = [
        (kind, next(started) if kind in ("launch", "fork") else trial, target, reason)
        for kind, trial, target, reason in answered.decisions
    ]
    after: list[tuple[str, object, int | None, str]] = []
    for decision in again.decisions:
        kind = type(decision).__name__.lower()
        match decision:
            case Launch():
                made = Started(dict(decision.params), None, 0, decision.schedule)
                after.append((kind, made, decision.target, decision.reason))
            case Fork():
                made = Started(dict(decision.params), decision.parent, decision.step, decision.schedule)
                after.append((kind, made, decision.target, decision.reason))
            case Continue() | Repeat():
                after.append((kind, decision.trial, decision.target, decision.reason))
            case Stop() | Spare():
                after.append((kind, decision.trial, None, decision.reason))
            case Finish():
                after.append((kind, None, None, decision.reason))
    if before == after:
        return []
    return [f"was {was}, now {now}" for was, now in zip(before, after, strict=False) if was != now] or [
        f"{len(before)} decisions were made, now {len(after)}"
    ]


def main(arguments: list[str]) -> int:
    """Exits with 1 if an answer differs, 2 if there is no such study."""
    if len(arguments) != 1:
        print("usage: python -m service.replay STUDY", file=sys.stderr)
        return 2
    database = Database(Settings.from_environment().database_url)
    try:
        with database.read() as session:
            every = list(answers(session, arguments[0]))
    except NotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        database.dispose()
    different = 0
    for number, answered in enumerate(every, start=1):
        found = differences(answered, decide(answered.view, answered.slots, answered.seed))
        different += bool(found)
        for line in found:
            print(f"answer {number}, {len(answered.view.trials)} trials: {line}")
    print(f"{len(every)} answers made again, {different} of them different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
