"""Text with labels, for classification and tagging: from files on this machine, nothing is downloaded.

``tagging``: every byte of Python source gets the kind of token that it belongs to, as Python's own
``tokenize`` says. A window begins anywhere, so whether it lies inside a string must be found out from what
follows, too.

``classification``: which folder a window of text is from. By default the folders are packages of Python's
standard library. Windows to validate with are from files that none to train on are from.

Of each file only the first :data:`FILE_BYTES` are taken, so that little text is still from many files.
"""

from __future__ import annotations

import hashlib
import io
import keyword
import os
import sysconfig
import token
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainers import text
from trainers.base import InvalidConfigurationError

Starts = npt.NDArray[np.int64]

TASKS = ("tagging", "classification")
TAGS = ("space", "comment", "string", "number", "keyword", "definition", "name", "operator")
"""``definition``: the name after ``def`` or ``class``."""
PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")
"""Of the standard library: those with the most source that every Python brings."""

FILE_BYTES = 16_384
_LOOKED_THROUGH = 16
"""How many times the bytes wanted are read to find them."""


@dataclass(frozen=True)
class Part:
    """Bytes, and the label of each: for classification all bytes of a block have the same one."""

    text: text.Bytes
    labels: npt.NDArray[np.uint8]
    blocks: tuple[tuple[int, int], ...]
    """Begin and end of each stretch that a window must not leave."""

    def random_starts(self, draw: np.random.Generator, count: int, context: int) -> Starts:
        """Where ``count`` windows of ``context`` bytes begin: all blocks alike, anywhere in them."""
        begins, ends = np.array(self.blocks, dtype=np.int64).T
        blocks = draw.integers(0, len(self.blocks), count)
        starts: Starts = draw.integers(begins[blocks], ends[blocks] - context + 1)
        return starts

    def even_starts(self, count: int, context: int) -> Starts:
        """The same with even distances, for validation; as many from each block, give or take one."""
        shares = np.array_split(np.arange(count), len(self.blocks))
        return np.concatenate(
            [
                np.linspace(begin, end - context, len(share), dtype=np.int64)
                for (begin, end), share in zip(self.blocks, shares, strict=True)
            ]
        )


@dataclass(frozen=True)
class LabelledText:
    """What to learn, and what to validate with."""

    classes: tuple[str, ...]
    train: Part
    validation: Part
    digest: str
    """SHA-256 of all bytes and labels."""

    def check(self, context: int) -> None:
        """Raises :class:`InvalidConfigurationError` if a window would be longer than some block."""
        for part in (self.train, self.validation):
            for index, (begin, end) in enumerate(part.blocks):
                if end - begin < context:
                    where = f"of class {self.classes[index]} " if len(part.blocks) > 1 else ""
                    raise InvalidConfigurationError(
                        f"context: must be at most {end - begin}, the bytes {where}"
                        f"to {'train on' if part is self.train else 'validate with'}"
                    )


@lru_cache(maxsize=4)
def load(task: str, source: str, max_bytes: int) -> LabelledText:
    """Text for ``task`` from ``source`` (empty: the standard library), ``max_bytes`` at most.

    For tagging, ``source`` is a Python file or a folder of them; for classification a folder with one
    subfolder of text files per class. Files are split as :func:`trainers.text.load` says.

    :raises InvalidConfigurationError: nothing there, or less than two classes
    """
    folders = [source] if task == "tagging" else _class_folders(source)
    share = max_bytes / len(folders)
    texts = [text.load(folder, round(share * _LOOKED_THROUGH)) for folder in folders]
    limits = share * (1 - text.VALIDATION_SHARE), share * text.VALIDATION_SHARE
    if task == "tagging":
        classes: tuple[str, ...] = TAGS
        train, validation = (
            _tagged(found, limit) for found, limit in zip(_parts(texts[0]), limits, strict=True)
        )
    else:
        classes = tuple(Path(folder).name for folder in folders)
        train, validation = (
            _joined([b"\x00".join(_heads(found, limit)) for found in each])
            for each, limit in zip(zip(*map(_parts, texts), strict=True), limits, strict=True)
        )
    digest = hashlib.sha256(repr(classes).encode())
    for part in (train, validation):
        digest.update(part.text.tobytes())
        digest.update(part.labels.tobytes())
    return LabelledText(classes, train, validation, digest=digest.hexdigest())


def _class_folders(source: str) -> list[str]:
    if not source:
        root = Path(sysconfig.get_paths()["stdlib"])
        folders = [root / name for name in PACKAGES if (root / name).is_dir()]
    else:
        # os.path: a ~user whom nobody knows stays as it is, and then does not exist.
        root = Path(os.path.expanduser(source))  # noqa: PTH111
        if not root.is_dir():
            raise InvalidConfigurationError(f"data: {root} is not a folder")
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not 2 <= len(folders) <= 256:
        raise InvalidConfigurationError(
            "data: classification needs a folder with one subfolder of text files for each of 2 to 256 "
            f"classes; in {root} there are {len(folders)}"
        )
    return [str(folder) for folder in folders]


def _parts(found: text.Text) -> tuple[text.Bytes, text.Bytes]:
    return found.train, found.validation


def _heads(source: text.Bytes, limit: float) -> Iterator[bytes]:
    """The beginnings of the files in ``source``, about ``limit`` bytes together, cut at lines' ends."""
    for file in source.tobytes().split(b"\x00"):
        if limit <= 0:
            return
        head = file[: min(FILE_BYTES, ceil(limit))]
        yield head if head == file else head[: head.rfind(b"\n") + 1] or head
        limit -= len(head)


def _joined(texts: list[bytes]) -> Part:
    ends = np.cumsum([len(found) for found in texts]).tolist()
    labels = np.repeat(np.arange(len(texts), dtype=np.uint8), [len(found) for found in texts])
    return Part(
        np.frombuffer(b"".join(texts), dtype=np.uint8),
        labels,
        tuple(zip([0, *ends[:-1]], ends, strict=True)),
    )


def _tagged(source: text.Bytes, limit: float) -> Part:
    heads, tagged = [], []
    for head in _heads(source, limit):
        tagged.append(tags(head))
        heads.append(head[: len(tagged[-1])])
    both = [np.frombuffer(b"".join(found), dtype=np.uint8) for found in (heads, tagged)]
    return Part(both[0], both[1], ((0, len(both[0])),))


def tags(source: bytes) -> bytes:
    """The tag of each byte of a Python file, as indices of :data:`TAGS`, up to its first mistake.

    What is between tokens is ``space``.
    """
    # Latin-1: one character per byte, whatever the bytes are.
    lines = io.StringIO(source.decode("latin-1"), newline="").readlines()
    offsets = np.cumsum([0, *(len(line) for line in lines)])
    found = bytearray(len(source))
    before, end = "", 0
    try:
        for item in tokenize.generate_tokens(iter(lines).__next__):
            if item.type in (token.INDENT, token.DEDENT, token.NEWLINE, tokenize.NL, token.ENDMARKER):
                continue
            begin = int(offsets[item.start[0] - 1]) + item.start[1]
            end = int(offsets[item.end[0] - 1]) + item.end[1]
            found[begin:end] = bytes([TAGS.index(_tag(item, before))]) * (end - begin)
            before = item.string
    except (tokenize.TokenError, SyntaxError):
        pass  # a file that was cut off, or is no Python: what came before is right
    return bytes(found[:end])


def _tag(item: tokenize.TokenInfo, before: str) -> str:
    if item.type == token.NAME:
        if keyword.iskeyword(item.string):
            return "keyword"
        return "definition" if before in ("def", "class") else "name"
    kinds = {tokenize.COMMENT: "comment", token.STRING: "string", token.NUMBER: "number"}
    # From Python 3.12 on an f-string is several tokens.
    return "string" if token.tok_name[item.type].startswith("FSTRING") else kinds.get(item.type, "operator")
