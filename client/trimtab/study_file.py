"""Reads a study file (YAML or JSON) and remembers where everything stands in it.

YAML is read by the rules of YAML 1.2: ``1e-4`` is a number, ``yes`` and ``on`` are text, keys are always
text. (``1_000`` is a number too, as in Python.) Keys that stand twice in one mapping are mistakes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from trimtab import check, explain
from trimtab.errors import TrimtabError
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import StudySpec, TrainerSpec

_INT = re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


@dataclass(frozen=True)
class Mistake:
    """One mistake and where it stands."""

    line: int
    """From 1."""
    column: int
    """From 1."""
    problem: FieldProblem


class InvalidStudyFileError(TrimtabError):
    """The file is no study; ``mistakes`` are in the order of the file."""

    def __init__(self, path: Path, text: str, mistakes: list[Mistake]) -> None:
        count = len(mistakes)
        super().__init__(f"{path} has {count} mistake{'s' if count != 1 else ''}")
        self.path = path
        self.lines = text.splitlines()
        self.mistakes = sorted(mistakes, key=lambda mistake: (mistake.line, mistake.column))


def load(path: Path) -> StudySpec:
    """The study in a file, with paths of the user's own script made absolute.

    Raises :class:`InvalidStudyFileError` with every mistake; :class:`TrimtabError` if it cannot be read.
    """
    text = _text(path)
    reader = Reader(path)
    try:
        document = reader.read(text)
    except yaml.MarkedYAMLError as error:
        raise InvalidStudyFileError(path, text, [_syntax(error)]) from error
    except yaml.YAMLError as error:
        mistake = Mistake(1, 1, FieldProblem(pointer="", message=f"is not a text file: {error}"))
        raise InvalidStudyFileError(path, text, [mistake]) from error
    problems: list[FieldProblem] = []
    spec: StudySpec | None = None
    try:
        spec = check.study(document)
    except check.InvalidStudyError as error:
        problems = error.problems
    if spec is not None:
        spec = spec.model_copy(update={"trainer": absolute(spec.trainer, path.resolve().parent)})
        problems = list(_missing_files(spec.trainer))
    mistakes = [Mistake(*reader.position(problem.pointer), problem) for problem in problems]
    if spec is None or reader.mistakes or mistakes:
        raise InvalidStudyFileError(path, text, reader.mistakes + mistakes)
    return spec


def absolute(trainer: TrainerSpec, folder: Path) -> TrainerSpec:
    """The trainer with the paths that are relative to ``folder`` made absolute."""
    update: dict[str, str] = {}
    for name in ("script", "folder"):
        value = getattr(trainer, name)
        if value is not None:
            update[name] = str((folder / Path(value).expanduser()).resolve())
    if trainer.python is not None and "/" in trainer.python:
        # Not resolved: a virtual environment is known by the link's own place.
        update["python"] = str(folder / Path(trainer.python).expanduser())
    return trainer.model_copy(update=update)


def _missing_files(trainer: TrainerSpec) -> Iterator[FieldProblem]:
    if trainer.script is not None and not Path(trainer.script).is_file():
        yield FieldProblem(pointer="/trainer/script", message=f"there is no file {trainer.script}")
    if trainer.folder is not None and not Path(trainer.folder).is_dir():
        yield FieldProblem(pointer="/trainer/folder", message=f"there is no folder {trainer.folder}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = explain.closest(path.name, [p.name for p in path.parent.glob("*.[yj]*")])
        hint = (
            f"did you mean {path.parent / near}?" if near else "give the path of a YAML or JSON study file"
        )
        raise TrimtabError(f"there is no file {path}", hint) from None
    except UnicodeDecodeError as error:
        raise TrimtabError(f"{path} cannot be read: {error}", "a study file is UTF-8 text") from error
    except OSError as error:
        raise TrimtabError(
            f"{path} cannot be read: {error.strerror}", "give the path of a YAML or JSON study file"
        ) from error


def _syntax(error: yaml.MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    message = " ".join(part for part in (error.context, error.problem) if part)
    suggestion = "indent with spaces" if "'\\t'" in message else ""
    return Mistake(
        mark.line + 1 if mark else 1,
        mark.column + 1 if mark else 1,
        FieldProblem(pointer="", message=f"cannot be read: {message}", suggestion=suggestion),
    )


class _Loader(yaml.SafeLoader):
    """Composes nodes only; their values are read by :class:`Reader`."""

    yaml_implicit_resolvers: dict[str, Any] = {}


class Reader:
    """Builds the document from YAML nodes, noting the position of every pointer."""

    def __init__(self, path: Path) -> None:
        self.mistakes: list[Mistake] = []
        self._is_json = path.suffix == ".json"
        self._positions: dict[explain.Pointer, tuple[int, int]] = {(): (1, 1)}

    def read(self, text: str) -> Any:
        # Tabs are legal between the tokens of JSON but not of YAML.
        node = yaml.compose(text.replace("\t", " ") if self._is_json else text, _Loader)
        return None if node is None else self._build(node, (), ())

    def position(self, pointer: str) -> tuple[int, int]:
        """Line and column (from 1) of a pointer, or of its nearest ancestor that is in the file."""
        parts = explain.split(pointer)
        while parts not in self._positions:
            parts = parts[:-1]
        return self._positions[parts]

    def _build(self, node: Node, here: explain.Pointer, above: tuple[Node, ...]) -> Any:
        if any(node is parent for parent in above):
            self._mistake(node, here, "an alias must not contain itself")
            return None
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            self._mistake(node, here, f"the tag {node.tag} means nothing here", "take it away")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, here, above)
        if isinstance(node, SequenceNode):
            return [
                self._item(child, (*here, str(at)), (*above, node)) for at, child in enumerate(node.value)
            ]
        assert isinstance(node, ScalarNode)
        return node.value if node.style is not None else _scalar(node.value)

    def _item(self, node: Node, here: explain.Pointer, above: tuple[Node, ...]) -> Any:
        self._note(node, here)
        return self._build(node, here, above)

    def _mapping(self, node: MappingNode, here: explain.Pointer, above: tuple[Node, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._mistake(key, here, "a key must be a single word")
                continue
            place = (*here, key.value)
            if key.value == "<<" and key.style is None:
                built = self._build(value, here, (*above, node))
                for source in built if isinstance(built, list) else [built]:
                    if isinstance(source, dict):
                        merged = {**source, **merged}
                continue
            if key.value in first:
                message = f"{key.value} stands here twice; first in line {first[key.value]}"
                self._mistake(key, place, message, "keep one of them")
                continue
            first[key.value] = key.start_mark.line + 1
            self._note(key, place)
            own[key.value] = self._build(value, place, (*above, node))
        return {**merged, **own}

    def _note(self, node: Node, pointer: explain.Pointer) -> None:
        self._positions[pointer] = (node.start_mark.line + 1, node.start_mark.column + 1)

    def _mistake(self, node: Node, here: explain.Pointer, message: str, suggestion: str = "") -> None:
        problem = FieldProblem(pointer=explain.join(here), message=message, suggestion=suggestion)
        mark = node.start_mark
        self.mistakes.append(Mistake(mark.line + 1, mark.column + 1, problem))


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text.replace("_", ""), 0 if text[:2] in ("0o", "0x") else 10)
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text


def to_json(mistakes: list[Mistake]) -> list[dict[str, Any]]:
    """Mistakes for machines."""
    return [{"line": m.line, "column": m.column, **m.problem.model_dump()} for m in mistakes]
