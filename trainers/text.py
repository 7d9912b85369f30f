"""Text as bytes, split into training and validation by file.

Nothing is downloaded: the default text is the source of Python's standard library on this machine.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainers.base import InvalidConfigurationError

Bytes = npt.NDArray[np.uint8]

VALIDATION_SHARE = 0.1
_END_OF_FILE = b"\x00"
_STANDARD_LIBRARY_LEAVES_OUT = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}


@dataclass(frozen=True)
class Text:
    """Bytes to train on and bytes to validate with. Files end in a zero byte."""

    train: Bytes
    validation: Bytes
    digest: str
    """SHA-256 of both."""


@lru_cache(maxsize=4)
def load(source: str, max_bytes: int) -> Text:
    """Read the text file or folder ``source`` (empty: Python's standard library), ``max_bytes`` at most.

    Files are taken in the order of a hash of their path within the folder, and that hash decides which
    part a file belongs to: the split is the same everywhere, whatever else the folder holds. Hidden files,
    links, empty and binary files (a zero byte in the first KiB) are left out. A single file, or a folder
    that gives one part nothing, is split by position: the last tenth of the bytes validates.

    Texts are kept in memory: trials that follow each other in one process read them once.

    :raises InvalidConfigurationError: nothing there, or a file that may not be read
    """
    # os.path: a ~user whom nobody knows stays as it is, and then does not exist.
    root = Path(os.path.expanduser(source) if source else sysconfig.get_paths()["stdlib"])  # noqa: PTH111
    if not root.exists():
        raise InvalidConfigurationError(f"data: {root} does not exist")
    files = [root] if root.is_file() else _files(root, standard_library=not source)
    parts: dict[bool, list[bytes]] = {False: [], True: []}
    left = max_bytes
    for path in files:
        content = _read(path, left)
        if content:
            parts[_validates(path.relative_to(root))].append(content)
            left -= len(content)
    train, validation = b"".join(parts[False]), b"".join(parts[True])
    if not train or not validation:
        whole = train + validation
        cut = round(len(whole) * (1 - VALIDATION_SHARE))
        train, validation = whole[:cut], whole[cut:]
    if not train or not validation:
        raise InvalidConfigurationError(f"data: {root} holds no text")
    return Text(
        train=np.frombuffer(train, dtype=np.uint8),
        validation=np.frombuffer(validation, dtype=np.uint8),
        digest=hashlib.sha256(train + validation).hexdigest(),
    )


def _files(root: Path, *, standard_library: bool) -> list[Path]:
    """Files below ``root`` in the order of their hashes."""
    left_out = _STANDARD_LIBRARY_LEAVES_OUT if standard_library else set()
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in left_out]
        found += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and (name.endswith(".py") or not standard_library)
        ]
    return sorted(
        (path for path in found if path.is_file() and not path.is_symlink()),
        key=lambda path: _hash(path.relative_to(root)),
    )


def _hash(relative: Path) -> bytes:
    return hashlib.sha256(relative.as_posix().encode(errors="surrogateescape")).digest()


def _validates(relative: Path) -> bool:
    # The hash's last bytes: its first ones decide the order, and both must not go together.
    return int.from_bytes(_hash(relative)[-4:], "big") < VALIDATION_SHARE * 2**32


def _read(path: Path, limit: int) -> bytes:
    """Up to ``limit`` bytes of a text file and its end mark; nothing of an empty or binary file."""
    if limit <= len(_END_OF_FILE):
        return b""
    try:
        with path.open("rb") as file:
            content = file.read(limit - len(_END_OF_FILE))
    except OSError as error:
        raise InvalidConfigurationError(f"data: cannot read {path}: {error.strerror}") from error
    return content + _END_OF_FILE if content and b"\x00" not in content[:1024] else b""
