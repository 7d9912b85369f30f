"""Turns pydantic's errors into sentences for people, with JSON pointers into the document they wrote.

Pydantic's own locations name union members (``('space', 'lr', 'float', 'low')``), which stand nowhere in
the document; walking the model's annotations along the location leaves them out, and tells which fields
would have been allowed where an unknown one stands.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from trimtab.wire.problems import FieldProblem

Pointer = tuple[str, ...]


def problems(
    error: ValidationError, model: type[BaseModel], document: Any, prefix: Pointer = ()
) -> list[FieldProblem]:
    """Every mistake of ``document``, which ``model`` refused with ``error``, in pydantic's order.

    ``prefix`` stands before every pointer, where the document is a part of a larger one.
    """
    details = [(detail, _place(model, detail["loc"])) for detail in error.errors(include_url=False)]
    misspelt = {
        (*place.pointer[:-1], closest(place.pointer[-1], place.fields))
        for detail, place in details
        if detail["type"] == "extra_forbidden"
    }
    found: dict[Pointer, FieldProblem] = {}
    for detail, place in details:
        if detail["type"] == "missing" and place.pointer in misspelt:
            continue
        if place.union is not None and not _speaks(detail, place, _value(document, place.pointer)):
            continue
        pointer, message, suggestion = _explain(detail, place)
        problem = FieldProblem(pointer=join(prefix + pointer), message=message, suggestion=suggestion)
        found.setdefault(pointer, problem)
    return list(found.values())


def join(parts: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901) from its parts."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def split(pointer: str) -> Pointer:
    """The parts of a JSON pointer."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was most likely meant to be."""
    by_folded = {name.lower().replace("-", "_"): name for name in known}
    matches = difflib.get_close_matches(word.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def did_you_mean(word: str, known: Sequence[str], otherwise: str = "known are") -> str:
    """A suggestion for an unknown word: the closest known one, or a list of what is known."""
    meant = closest(word, known)
    if meant is not None:
        return f"did you mean {meant}?"
    if not known:
        return ""
    return f"{otherwise} {enumerate_words(known)}"


def enumerate_words(words: Sequence[str], most: int = 12) -> str:
    """``a, b, c``, with the rest counted when there are many."""
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"


def show(value: Any) -> str:
    """A value as the user wrote it, short enough for a sentence."""
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return f'"{value if len(value) <= 40 else value[:37] + "..."}"'
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return str(value)


@dataclass(frozen=True)
class _Place:
    """Where an error stands in the document."""

    pointer: Pointer
    fields: tuple[str, ...] = ()
    """Fields that are allowed beside it."""
    tags: tuple[str, ...] = ()
    """What its ``type`` (or ``rule``) may say."""
    union: Literal["scalar", "list", "fields"] | None = None
    """The value may be of several types; this error speaks for one of them."""
    list_allowed: bool = False
    """One of those types is a list."""
    fields_allowed: bool = False
    """One of those types has named fields."""


def _place(model: type[BaseModel], location: Sequence[str | int]) -> _Place:
    annotation: Any = model
    parts: list[str] = []
    fields: tuple[str, ...] = ()
    union: Literal["scalar", "list", "fields"] | None = None
    list_allowed = fields_allowed = False
    rest = list(location)
    while rest:
        annotation, discriminator = _bare(annotation)
        part = rest.pop(0)
        if part == "[key]":  # About the name, whatever stands behind it.
            break
        if discriminator is not None:
            annotation = _tagged(annotation, discriminator, part)
        elif get_origin(annotation) in (Union, UnionType):
            list_member = next((m for m in get_args(annotation) if get_origin(m) is list), None)
            list_allowed = list_member is not None
            model_member = next((m for m in get_args(annotation) if _is_model(m)), None)
            fields_allowed = model_member is not None
            union = "list" if str(part).startswith("list[") else "scalar"
            annotation = list_member
            # A model with a validator of its own goes by "function-after[_check(), NAME]".
            if model_member is not None and model_member.__name__ in str(part):
                union, annotation = "fields", model_member
        else:
            parts.append(str(part))
            fields = ()
            if _is_model(annotation):
                fields = tuple(annotation.model_fields)
                field = annotation.model_fields.get(str(part))
                annotation = None if field is None else _restore(field)
            else:
                annotation = next(reversed(get_args(annotation)), None)
    annotation, discriminator = _bare(annotation)
    tags = () if discriminator is None else tuple(_tag(m, discriminator) for m in get_args(annotation))
    return _Place(tuple(parts), fields, tags, union, list_allowed, fields_allowed)


def _speaks(detail: ErrorDetails, place: _Place, value: Any) -> bool:
    """Whether an error of one union member is about what the user wrote, not about a road not taken."""
    if place.union == "fields":
        return detail["type"] not in ("model_type", "model_attributes_type")
    if place.fields_allowed and isinstance(value, Mapping):
        return False
    if place.list_allowed and isinstance(value, list) != (place.union == "list"):
        return False
    return (
        detail["type"] not in _TYPE_ERRORS
        or not isinstance(value, bool | int | str | float)
        or (detail["type"] == "finite_number")
    )


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _restore(field: FieldInfo) -> Any:
    """A field's annotation with the discriminator that pydantic took off it."""
    return Annotated[field.annotation, field] if field.discriminator is not None else field.annotation


def _bare(annotation: Any) -> tuple[Any, str | None]:
    """An annotation without ``Annotated`` and ``None``, and the discriminator of its union."""
    discriminator: str | None = None
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *metadata = get_args(annotation)
            for item in metadata:
                if isinstance(item, FieldInfo) and isinstance(item.discriminator, str):
                    discriminator = item.discriminator
        elif get_origin(annotation) in (Union, UnionType) and NoneType in get_args(annotation):
            members = [member for member in get_args(annotation) if member is not NoneType]
            if len(members) > 1:
                return Union[tuple(members)], discriminator  # noqa: UP007 - built at run time
            annotation = members[0]
        else:
            return annotation, discriminator


def _tag(member: type[BaseModel], discriminator: str) -> str:
    return str(get_args(member.model_fields[discriminator].annotation)[0])


def _tagged(union: Any, discriminator: str, tag: str | int) -> Any:
    return next((member for member in get_args(union) if _tag(member, discriminator) == tag), None)


def _value(document: Any, pointer: Pointer) -> Any:
    for part in pointer:
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def _explain(detail: ErrorDetails, place: _Place) -> tuple[Pointer, str, str]:
    kind, given, context = detail["type"], detail.get("input"), detail.get("ctx", {})
    pointer = place.pointer
    last = pointer[-1] if pointer else ""
    if detail["loc"] and detail["loc"][-1] == "[key]":
        return pointer, *_explain_key(kind, given)
    if place.union in ("scalar", "list") and kind in _TYPE_ERRORS and kind != "finite_number":
        return pointer, f"must be a number, text, true or false, not {show(given)}", ""
    if kind == "missing":
        return pointer, f"{last} is missing", f"add {last}: ..."
    if kind == "extra_forbidden":
        return pointer, f"unknown field {last}", did_you_mean(last, place.fields, "allowed here are")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _explain_tag(place, kind, given, context)
    if kind in ("enum", "literal_error"):
        allowed = [word.strip(" '") for word in str(context["expected"]).replace(" or ", ", ").split(",")]
        suggestion = did_you_mean(given, allowed) if isinstance(given, str) else ""
        suggestion = suggestion if suggestion.startswith("did") else ""
        return pointer, f"must be {' or '.join(allowed)}, not {show(given)}", suggestion
    if kind == "value_error":
        return pointer, str(context["error"]), ""
    if kind in _TYPE_ERRORS:
        wanted, suggest = _TYPE_ERRORS[kind]
        return pointer, f"must be {wanted}, not {show(given)}", suggest(given)
    if kind in _LIMITS:
        sentence = _LIMITS[kind].format(**context)
        return pointer, f"{sentence}, not {show(given)}" if isinstance(given, int | float) else sentence, ""
    message = detail["msg"]
    return pointer, message[:1].lower() + message[1:], ""


def _explain_key(kind: str, given: Any) -> tuple[str, str]:
    if kind == "string_type":
        return f"a name must be text, not {show(given)}", f'put it in quotes: "{given}"'
    if kind == "string_pattern_mismatch":
        return (
            f"{show(given)} cannot be a name here",
            "start with a letter or _, go on with letters, digits and _ . - /",
        )
    return f"{show(given)} is too long or too short for a name", ""


def _explain_tag(
    place: _Place, kind: str, given: Any, context: Mapping[str, Any]
) -> tuple[Pointer, str, str]:
    field = str(context["discriminator"]).strip("'")
    pointer = (*place.pointer, field)
    if kind == "union_tag_not_found":
        return pointer, f"{field} is missing", f"say {field}: {' or '.join(place.tags)}"
    written = str(context["tag"])
    return pointer, f'unknown {field} "{written}"', did_you_mean(written, place.tags, "allowed are")


def _no_suggestion(given: Any) -> str:
    return ""


def _suggest_whole(given: Any) -> str:
    if isinstance(given, float) and given == int(given):
        return f"write {int(given)}"
    return _suggest_number(given)


def _suggest_number(given: Any) -> str:
    if isinstance(given, str):
        try:
            float(given)
        except ValueError:
            return ""
        return "take the quotes away"
    return ""


def _suggest_bool(given: Any) -> str:
    if isinstance(given, str) and given.lower() in ("yes", "on", "y"):
        return "write true"
    if isinstance(given, str) and given.lower() in ("no", "off", "n"):
        return "write false"
    return ""


def _suggest_text(given: Any) -> str:
    return f'put it in quotes: "{show(given)}"' if isinstance(given, bool | int | float) else ""


def _suggest_list(given: Any) -> str:
    return f"write [{show(given)}]" if isinstance(given, str | bool | int | float) else ""


_WHOLE = ("a whole number", _suggest_whole)
_NUMBER = ("a number", _suggest_number)
_BOOL = ("true or false", _suggest_bool)
_FIELDS = ("named fields", _no_suggestion)
_TYPE_ERRORS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": ("a finite number", _no_suggestion),
    "bool_type": _BOOL,
    "bool_parsing": _BOOL,
    "string_type": ("text", _suggest_text),
    "list_type": ("a list", _suggest_list),
    "dict_type": _FIELDS,
    "model_type": _FIELDS,
    "model_attributes_type": _FIELDS,
}
_LIMITS = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "needs at least {min_length} entry",
    "too_long": "must have at most {max_length} entries, not {actual_length}",
    "string_pattern_mismatch": "has characters that are not allowed here",
}
