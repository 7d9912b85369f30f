"""Deletes the files of checkpoints that nobody needs any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from itertools import islice

from trimtab.wire.work import UploadedFolder
from workers.checkpoints import CheckpointStore
from workers.service_link import ServiceLink

log = logging.getLogger(__name__)

GARBAGE_SECONDS = 5.0
SWEEP_SECONDS = 300.0
MAX_FOLDERS_PER_CALL = 1_000


class Cleaner:
    """Keeps one checkpoint store clean. Both loops run until cancelled."""

    def __init__(self, link: ServiceLink, store: CheckpointStore) -> None:
        self._link = link
        self._store = store
        self._left_alone: set[int] = set()
        """Ids of checkpoints that lie elsewhere."""

    async def collect_garbage(self) -> None:
        """Delete the files of checkpoints that nothing can start from any more."""
        while True:
            await asyncio.sleep(GARBAGE_SECONDS)
            done: list[int] = []
            for item in await self._link.garbage():
                if item.id in self._left_alone:
                    continue
                try:
                    await asyncio.to_thread(self._store.delete, item.uri)
                except ValueError as error:
                    self._left_alone.add(item.id)
                    log.warning("a checkpoint is left alone: %s", error)
                except OSError as error:
                    log.warning("could not delete %s: %s", item.uri, error)
                else:
                    done.append(item.id)
            if done:
                await self._link.garbage_done(done)

    async def sweep(self) -> None:
        """Delete the files that attempts uploaded and, killed at that moment, never registered."""
        while True:
            try:
                uploads = await asyncio.to_thread(self._store.uploads)
                for batch in _batches(uploads):
                    for folder in await self._link.orphans(batch):
                        await asyncio.to_thread(self._store.delete, uploads[folder])
                        log.info("deleted an upload that nobody needs: %s", uploads[folder])
            except OSError as error:
                log.warning("could not look for uploads that nobody needs: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)


def _batches(folders: Iterable[UploadedFolder]) -> Iterator[list[UploadedFolder]]:
    rest = iter(folders)
    while batch := list(islice(rest, MAX_FOLDERS_PER_CALL)):
        yield batch
