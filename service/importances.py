"""A study's importances, once: ``python -m service.importances``, a child process of the API.

Models are fitted here so that the API stays light. Standard input has one JSON object with ``database`` (a
URL), ``study`` and ``methods``; standard output gets one with ``version`` (the study's, when it was read)
and either ``answer`` (an :class:`~trimtab.wire.importances.ImportancesResponse`) or ``missing``, which says
what the study lacks; or ``gone`` alone, if the study was deleted meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np

from search.importances import Method, TooFewTrialsError, importances
from search.view import StudyView, unforked
from service.db import views
from service.db.engine import Database
from service.errors import NotFoundError
from trimtab.wire.importances import ImportanceBasis, ImportancesResponse, Ranking

SECONDS = 120
"""It ends itself after so long, should nobody wait any more."""
_NICENESS = 3
"""Training comes first, but where it fills every core somebody still waits for this answer."""


def answer(key: str, view: StudyView, methods: list[Method], now: datetime) -> ImportancesResponse:
    """The importances of the study ``key`` as the API answers them.

    Raises :class:`TooFewTrialsError`.
    """
    # The same study with the same history gives the same answer.
    seen = unforked(view)
    found = importances(seen, methods, np.random.default_rng([view.seed, len(seen.trials)]))
    return ImportancesResponse(
        study=key,
        basis=ImportanceBasis(**asdict(found.basis)),
        rankings=[Ranking.model_validate(asdict(ranking)) for ranking in found.rankings],
        computed_at=now,
    )


def main() -> int:
    """Answer the one question."""
    signal.alarm(SECONDS)
    os.nice(_NICENESS)
    question = json.load(sys.stdin)
    database = Database(question["database"], pool_size=1)
    try:
        with database.read() as session:
            version, view = views.of_study(session, question["study"])
    except NotFoundError as error:
        json.dump({"gone": error.detail}, sys.stdout)
        return 0
    finally:
        database.dispose()
    result: dict[str, object]
    try:
        found = answer(question["study"], view, question["methods"], datetime.now(UTC))
        result = {"answer": found.model_dump(mode="json")}
    except TooFewTrialsError as error:
        result = {"missing": str(error)}
    json.dump({"version": version, **result}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
