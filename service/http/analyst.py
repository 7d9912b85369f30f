"""Importances for the API: computed by a child process, kept until the study moves on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool

from service.db import reads
from service.db.engine import Database
from service.errors import ConflictError, NotFoundError, UnavailableError
from trimtab.wire.importances import ImportanceMethod, ImportancesResponse

SECONDS = 100.0
"""What one computation may take, from the start of its process."""
MAX_WAITING = 8
"""Computations that may wait for their turn: there is one process at a time."""
KEPT = 128

Question = tuple[str, tuple[ImportanceMethod, ...]]
"""A study and the methods asked for."""
Found = ImportancesResponse | ConflictError


class Analyst:
    """Answers how much parameters matter. All methods belong to one event loop.

    Who waits holds no thread. Who asks what somebody waits for already gets the same answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[Question, tuple[int, Found]] = OrderedDict()
        """The newest answer to each question, with the study's version that it is true of."""
        self._asked: dict[Question, asyncio.Task[Found]] = {}
        self._turn = asyncio.Semaphore(1)
        self._closed = False

    async def importances(self, study: str, methods: Sequence[ImportanceMethod]) -> ImportancesResponse:
        """How much each parameter of the study matters, as of its last ended run or new trial.

        Raises:
            NotFoundError: there is no such study.
            ConflictError: too few trials have a result.
            UnavailableError: too much is asked at once, it took too long, or the service stops.
        """
        version = await run_in_threadpool(self._version, study)
        question = (study, tuple(methods))
        known_version, found = self._kept.get(question, (None, None))
        if found is None or known_version != version:
            found = await self._computed(question)
        if isinstance(found, ConflictError):
            raise found
        return found

    async def close(self) -> None:
        """End the child process; whoever waits is answered at once."""
        self._closed = True
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _computed(self, question: Question) -> Found:
        task = self._asked.get(question)
        if task is None:
            if self._closed or len(self._asked) > MAX_WAITING:
                raise UnavailableError("Too many importances are being computed: ask again in a moment.")
            task = asyncio.create_task(self._compute(question))
            self._asked[question] = task
            task.add_done_callback(lambda _: self._asked.pop(question, None))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._closed:
                raise UnavailableError("The service is stopping.") from None
            raise

    async def _compute(self, question: Question) -> Found:
        study, methods = question
        async with self._turn:
            url = self._database.engine.url.render_as_string(hide_password=False)
            document = await _child({"database": url, "study": study, "methods": list(methods)})
        found: Found
        if "gone" in document:
            raise NotFoundError(str(document["gone"]))
        if "missing" in document:
            missing = str(document["missing"])
            found = ConflictError(f"{missing[:1].upper()}{missing[1:]}.")
        else:
            found = ImportancesResponse.model_validate(document["answer"])
        self._kept[question] = (int(document["version"]), found)
        self._kept.move_to_end(question)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def _version(self, study: str) -> int:
        with self._database.read() as session:
            return reads.version(session, study)


async def _child(question: dict[str, object]) -> dict[str, Any]:
    """What :mod:`service.importances` answers in a process of its own.

    Raises :class:`UnavailableError` if it takes too long, :class:`RuntimeError` if it fails.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.importances",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            # One core at most: the machine has other work.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    try:
        output, errors = await asyncio.wait_for(child.communicate(json.dumps(question).encode()), SECONDS)
    except TimeoutError:
        raise UnavailableError(
            f"The importances took longer than {SECONDS:.0f} seconds. Ask for one method: ped-anova is the "
            "quickest."
        ) from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode != 0:
        raise RuntimeError(f"service.importances ended with {child.returncode}: {errors.decode()[-4000:]}")
    document: dict[str, Any] = json.loads(output)
    return document
