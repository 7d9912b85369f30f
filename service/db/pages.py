"""Keyset paging: an opaque cursor names the last row of a page, so that pages stay put while rows come."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from service.errors import InvalidError
from trimtab.wire.problems import FieldProblem


def encode(listing: str, *key: Any) -> str:
    """The cursor behind the row with this sort key. ``listing`` names the listing and its order."""
    text = json.dumps([listing, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, listing: str, *types: type | tuple[type, ...]) -> list[Any]:
    """The sort key in ``cursor``: one value of each of ``types``.

    Raises:
        InvalidError: it is no cursor, or one of another listing or another order.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        values = None
    if not isinstance(values, list) or not values or len(values) != len(types) + 1:
        raise _invalid("this is no cursor", "send `next_cursor` of the page before, unchanged")
    name, *key = values
    if name != listing:
        raise _invalid(
            "this cursor belongs to another listing or order",
            "ask for the first page without a cursor, and keep `sort` the same for the pages behind it",
        )
    for value, kind in zip(key, types, strict=True):
        big = isinstance(value, int) and abs(value) >= 2**63
        if not isinstance(value, kind) or isinstance(value, bool) or big:
            raise _invalid("this is no cursor", "send `next_cursor` of the page before, unchanged")
    return key


def _invalid(message: str, suggestion: str) -> InvalidError:
    return InvalidError(
        f"The cursor cannot be used: {message}; {suggestion}.",
        [FieldProblem(pointer="/query/cursor", message=message, suggestion=suggestion)],
    )
