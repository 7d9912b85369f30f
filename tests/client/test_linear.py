"""Linear constraints as text: what they mean, and what is said about the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.wire import linear


@pytest.mark.parametrize(
    ("text", "terms", "relation", "bound"),
    [
        ("layers * 1 + 2 * heads <= 32", {"layers": 1, "heads": 2}, "<=", 32),
        ("warmup <= 0.5 * steps", {"warmup": 1, "steps": -0.5}, "<=", 0),
        ("-a + 3 >= 2*b - 1e1", {"a": -1, "b": -2}, ">=", -13),
        ("mix/web = 0.5", {"mix/web": 1}, "==", 0.5),
        ("2 * 3 * a - -a == .5", {"a": 7}, "==", 0.5),
        ("a - b + b <= 1", {"a": 1}, "<=", 1),
    ],
)
def test_a_constraint_is_read(text: str, terms: dict[str, float], relation: str, bound: float) -> None:
    read = linear.parse(text)
    assert (dict(read.terms), read.relation, read.bound) == (terms, relation, bound)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a side is empty"),
        ("a + b", "compares nothing"),
        ("a <=", "a side is empty"),
        ("a + <= 3", "missing after +"),
        ("a < 3", "write <="),
        ("1 <= a <= 3", "two constraints"),
        ("a * b <= 3", "not linear"),
        ("2 a <= 3", "write 2 * a"),
        ("(a + b) * 2 <= 3", "write the sum out"),
        ("a / 2 <= 3", "multiply by a number"),
        ("a - a <= 3", "cancel out"),
        ("1e999 * a <= 3", "too large"),
        ("__import__('os') <= 3", "no meaning here"),
        ("a ** 2 <= 3", "stands between"),
    ],
)
def test_what_is_no_constraint_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        linear.parse(text)
    assert words in str(caught.value)


@given(st.text(alphabet="ab12.e+-*/<>= ()_", max_size=20) | st.text(max_size=20))
def test_any_text_is_read_or_explained(text: str) -> None:
    try:
        linear.parse(text)
    except ValueError as error:
        said = str(error)
    else:
        said = "fine"
    assert said
