"""Reading study files: YAML 1.2 values, positions, duplicates, syntax."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trimtab import study_file
from trimtab.errors import TrimtabError

GOOD = """\
name: x
trainer: {name: gpt, settings: {width: 64}}
space:
  lr: {type: float, low: 1e-4, high: 1, log: true}
metric: {name: val_loss}
fidelity: {max: 1_000}
budget:
  trials: 3
"""


def write(folder: Path, text: str, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(path: Path) -> list[tuple[int, int, str, str]]:
    with pytest.raises(study_file.InvalidStudyFileError) as caught:
        study_file.load(path)
    return [(m.line, m.column, m.problem.pointer, m.problem.message) for m in caught.value.mistakes]


def test_numbers_are_read_by_yaml_1_2(tmp_path: Path) -> None:
    spec = study_file.load(write(tmp_path, GOOD))
    assert spec.space["lr"].low == 1e-4  # type: ignore[union-attr]
    assert spec.fidelity.max == 1000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E3", 1e3), (".5", 0.5), ("-2.", -2.0), ("010", 10), ("0x1F", 31), ("0o17", 15),
        ("yes", "yes"), ("off", "off"), ("true", True), ("null", None), ("~", None), ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"), ("'1'", "1"), ("1.2.3", "1.2.3"), ("-.inf", float("-inf")),
        ("_1", "_1"),
    ],
)  # fmt: skip
def test_scalars(text: str, value: object) -> None:
    read = study_file.Reader(Path("x.yaml")).read(f"a: {text}")["a"]
    assert read == value
    assert type(read) is type(value)


def test_keys_stay_text() -> None:
    assert study_file.Reader(Path("x.yaml")).read("{on: 1, no: 2, 3: 4}") == {"on": 1, "no": 2, "3": 4}


def test_mistakes_have_their_places_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        GOOD.replace("high: 1,", "hihg: 1,")
        .replace("val_loss", "val_los")
        .replace("trials: 3", "trials: -1")
    )
    assert [(line, column, pointer) for line, column, pointer, _ in mistakes(write(tmp_path, text))] == [
        (4, 32, "/space/lr/hihg"),
        (5, 10, "/metric/name"),
        (8, 3, "/budget/trials"),
    ]


def test_a_missing_field_is_shown_at_its_parent(tmp_path: Path) -> None:
    assert mistakes(write(tmp_path, GOOD.replace(", high: 1", ""))) == [
        (4, 3, "/space/lr/high", "high is missing")
    ]


def test_duplicate_keys_are_mistakes(tmp_path: Path) -> None:
    found = mistakes(write(tmp_path, GOOD + "name: y\n"))
    assert found == [(9, 1, "/name", "name stands here twice; first in line 1")]


def test_broken_yaml_has_a_line(tmp_path: Path) -> None:
    line, column, pointer, message = mistakes(write(tmp_path, "name: x\nspace: {a: [1, 2}\n"))[0]
    assert (line, column, pointer) == (2, 17, "")
    assert message.startswith("cannot be read: ")


def test_json_with_tabs_and_positions(tmp_path: Path) -> None:
    document = yaml.safe_load(GOOD)
    document["space"]["lr"]["low"] = 1e-4
    document["fidelity"]["max"] = 10
    good = json.dumps(document, indent="\t")
    assert study_file.load(write(tmp_path, good, "s.json")).name == "x"
    bad = good.replace('"trials": 3', '"trials": "x"')
    line, column, pointer, _ = mistakes(write(tmp_path, bad, "s.json"))[0]
    assert pointer == "/budget/trials"
    assert bad.splitlines()[line - 1][column - 1 :].startswith('"trials"')


@pytest.mark.parametrize(
    "text", ["", "- a\n", "a: &x [*x]\n", "a: !!python/none x\n", "--- 1\n--- 2\n", "\x00"]
)
def test_what_is_no_study_is_refused_with_a_message(tmp_path: Path, text: str) -> None:
    assert mistakes(write(tmp_path, text))


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    text = GOOD.replace("lr: {", "lr: &range {") + "  # end\nstopping: []\n"
    text = text.replace("metric:", "  weight_decay: {<<: *range, low: 0.001}\nmetric:")
    spec = study_file.load(write(tmp_path, text))
    assert spec.space["weight_decay"].low == 0.001  # type: ignore[union-attr]
    assert spec.space["weight_decay"].high == 1  # type: ignore[union-attr]


def test_no_such_file_suggests_a_neighbour(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(TrimtabError) as caught:
        study_file.load(tmp_path / "studdy.yaml")
    assert "study.yaml" in caught.value.hint


def test_script_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("{name: gpt, settings: {width: 64}}", "{script: sub/train.py}")
    path = write(tmp_path, text)
    assert mistakes(path)[0][2] == "/trainer/script"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train.py").touch()
    assert study_file.load(path).trainer.script == str(tmp_path / "sub" / "train.py")


DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text("abc yes:#-'\"e1.~", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcon1-_", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(DOCUMENTS)
def test_json_documents_round_trip(document: object) -> None:
    text = json.dumps(document).replace("Infinity", ".inf")
    assert study_file.Reader(Path("x.json")).read(text) == document
