"""Checkpoints on any fsspec store: whole or not at all.

A checkpoint is a folder of files and a manifest, written last, with each file's size and SHA-256. Without
its manifest, or with a file that differs from it, a checkpoint is damaged and never loaded. Object stores
cannot rename a folder, so the order of writing stands for the atomic move.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fsspec.core import url_to_fs
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from trimtab.wire.work import Assignment, SavedCheckpoint, UploadedFolder
from workers.failures import StoreUnreachableError

MANIFEST = "manifest.json"
TRIES = 4
_T = TypeVar("_T")


def place(assignment: Assignment, step: int) -> str:
    """Where a checkpoint of this attempt goes below the root; the token keeps attempts apart."""
    return f"{assignment.study}/{assignment.trial}/{assignment.token}/step-{step}"


_PLACE = re.compile(r"([^/]{1,120})/\d+/([1-9]\d{0,17})/step-(\d{1,12})")


class DamagedCheckpointError(Exception):
    """The checkpoint is missing, half written or changed; the message says what was found."""


class CheckpointStore:
    """The checkpoints below one root: a path, a ``file://`` URL or any other fsspec URL."""

    def __init__(self, root: str, *, retry_seconds: float = 0.5) -> None:
        self._fs, path = url_to_fs(root)
        self._root = path.rstrip("/")
        self._retry_seconds = retry_seconds

    def save(self, folder: Path, *, place: str, step: int) -> SavedCheckpoint:
        """Upload all files of ``folder`` to ``ROOT/place``.

        Raises :class:`StoreUnreachableError` after some tries.
        """
        target = f"{self._root}/{place}"
        files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        manifest = {name: {"bytes": p.stat().st_size, "sha256": _digest(p)} for name, p in files.items()}

        def upload() -> None:
            # What an earlier try under this name left must not pass for whole meanwhile.
            if self._fs.exists(f"{target}/{MANIFEST}"):
                self._fs.rm(f"{target}/{MANIFEST}")
            for parent in {f"{target}/files/{name}".rpartition("/")[0] for name in ("", *files)}:
                self._fs.makedirs(parent, exist_ok=True)
            for name, path in files.items():
                self._fs.put_file(str(path), f"{target}/files/{name}")
            self._fs.pipe_file(
                f"{target}/{MANIFEST}", json.dumps({"step": step, "files": manifest}).encode()
            )

        try:
            self._try(upload, f"could not save a checkpoint to {target}")
        except StoreUnreachableError:
            # Half of it must not keep a full store full.
            with contextlib.suppress(OSError):
                self._fs.rm(target, recursive=True)
            raise
        total = sum(path.stat().st_size for path in files.values())
        return SavedCheckpoint(step=step, uri=self._fs.unstrip_protocol(target), bytes=total)

    def load(self, uri: str, folder: Path) -> None:
        """Download the checkpoint ``uri`` into an existing, empty folder and verify every file.

        Raises :class:`DamagedCheckpointError`, or :class:`StoreUnreachableError` after some tries.
        """
        source = self._path(uri)

        def read_manifest() -> bytes | None:
            try:
                return bytes(self._fs.cat_file(f"{source}/{MANIFEST}"))
            except FileNotFoundError:
                return None

        text = self._try(read_manifest, f"could not read {uri}")
        if text is None:
            raise DamagedCheckpointError(f"{uri} has no {MANIFEST}: it is gone or was never finished")
        for name, expected in _parse_manifest(text, uri).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)

            def fetch(name: str = name, path: Path = path) -> bool:
                try:
                    self._fs.get_file(f"{source}/files/{name}", str(path))
                except FileNotFoundError:
                    return False
                return True

            if not self._try(fetch, f"could not read {uri}"):
                raise DamagedCheckpointError(f"{uri}: the file {name} is missing")
            if _digest(path) != expected:
                raise DamagedCheckpointError(f"{uri}: the file {name} is not what was saved")

    def delete(self, uri: str) -> None:
        """Delete the checkpoint; one that is gone already is fine.

        Raises ``ValueError`` for a place outside the root, ``OSError`` if the store refuses.
        """
        path = self._path(uri)
        # The manifest goes first: a half deleted checkpoint must not pass for whole.
        for part in (f"{path}/{MANIFEST}", path):
            try:
                self._fs.rm(part, recursive=True)
            except FileNotFoundError:
                continue
        parent = path.rpartition("/")[0]
        while parent != self._root and self._fs.isdir(parent) and not self._fs.ls(parent, detail=False):
            self._fs.rmdir(parent)
            parent = parent.rpartition("/")[0]

    def uploads(self) -> dict[UploadedFolder, str]:
        """Every attempt's folder of a checkpoint below the root, whole or not, with its URI.

        Raises ``OSError`` if the store does not answer.
        """
        found = {}
        for path in self._fs.glob(f"{self._root}/*/*/*/step-*"):
            path = str(path).rstrip("/")
            named = _PLACE.fullmatch(path.removeprefix(f"{self._root}/"))
            if named is not None:
                study, token, step = named.groups()
                folder = UploadedFolder(study=study, token=int(token), step=int(step))
                found[folder] = str(self._fs.unstrip_protocol(path))
        return found

    def _path(self, uri: str) -> str:
        """The path of ``uri`` on this store. Raises ``ValueError`` if it is not below the root."""
        try:
            fs, path = url_to_fs(uri)
        except ImportError as error:  # a store whose package is not installed cannot be this one
            raise ValueError(f"{uri} is not below {self._fs.unstrip_protocol(self._root)}") from error
        inside = path.startswith(f"{self._root}/") and ".." not in path.split("/")
        if fs.protocol != self._fs.protocol or not inside:
            raise ValueError(f"{uri} is not below {self._fs.unstrip_protocol(self._root)}")
        return str(path).rstrip("/")

    def _try(self, act: Callable[[], _T], problem: str) -> _T:
        retrying = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential(self._retry_seconds),
            retry=retry_if_exception_type(OSError),
            reraise=True,
        )
        try:
            return retrying(act)
        except OSError as error:
            raise StoreUnreachableError(f"{problem}: {error}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse_manifest(text: bytes, uri: str) -> dict[str, str]:
    """Each file's digest by its relative name."""
    try:
        digests = {str(name): str(entry["sha256"]) for name, entry in json.loads(text)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{uri}: {MANIFEST} cannot be read: {error!r}") from error
    for name in digests:
        if name.startswith("/") or ".." in name.split("/"):
            raise DamagedCheckpointError(f"{uri}: {MANIFEST} names a file outside the checkpoint: {name}")
    return digests
