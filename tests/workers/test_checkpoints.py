"""The checkpoint store on a local folder and on an object store that lives in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fsspec.core import url_to_fs

from workers.checkpoints import CheckpointStore, DamagedCheckpointError
from workers.failures import StoreUnreachableError


@pytest.fixture(params=["path", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "path": str(tmp_path / "root"),
        "file": (tmp_path / "root").as_uri(),
        "memory": f"memory://{tmp_path.name}/root",
    }[request.param]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 100)
    (folder / "deep" / "er" / "rng").write_text("42")
    return folder


def read(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_saved_is_loaded(root: str, state: Path, tmp_path: Path) -> None:
    store = CheckpointStore(root)
    saved = store.save(state, place="s/1/7/step-20", step=20)
    assert (saved.step, saved.bytes) == (20, 25_602)
    assert saved.uri.endswith("/root/s/1/7/step-20")
    target = tmp_path / "target"
    target.mkdir()
    CheckpointStore(root).load(saved.uri, target)
    assert read(target) == read(state)


def test_saving_again_under_the_same_name_replaces_it(root: str, state: Path, tmp_path: Path) -> None:
    store = CheckpointStore(root)
    store.save(state, place="s/1/7/step-20", step=20)
    (state / "weights.bin").write_bytes(b"new")
    saved = store.save(state, place="s/1/7/step-20", step=20)
    target = tmp_path / "target"
    target.mkdir()
    store.load(saved.uri, target)
    assert read(target) == read(state)


@pytest.mark.parametrize(
    ("victim", "content", "words"),
    [
        ("manifest.json", None, "never finished"),
        ("manifest.json", b'{"files": {"weights', "cannot be read"),
        ("manifest.json", b'{"files": {"../x": {"sha256": ""}}}', "outside"),
        ("files/weights.bin", None, "missing"),
        ("files/weights.bin", b"short", "not what was saved"),
    ],
)
def test_a_damaged_checkpoint_never_passes_for_whole(
    root: str, state: Path, tmp_path: Path, victim: str, content: bytes | None, words: str
) -> None:
    store = CheckpointStore(root)
    saved = store.save(state, place="s/1/7/step-20", step=20)
    fs, path = url_to_fs(saved.uri)
    fs.rm(f"{path}/{victim}")
    if content is not None:
        fs.pipe_file(f"{path}/{victim}", content)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(DamagedCheckpointError, match=words):
        store.load(saved.uri, target)


def test_a_deleted_checkpoint_is_gone_and_its_neighbours_are_not(
    root: str, state: Path, tmp_path: Path
) -> None:
    store = CheckpointStore(root)
    first = store.save(state, place="s/1/7/step-10", step=10)
    second = store.save(state, place="s/1/8/step-20", step=20)
    store.delete(first.uri)
    store.delete(first.uri)
    fs, path = url_to_fs(first.uri)
    assert not fs.exists(path)
    (tmp_path / "target").mkdir()
    store.load(second.uri, tmp_path / "target")


@pytest.mark.parametrize(
    "place", ["{root}", "{root}/../other", "{root}/a/../../b", "file:///etc/x", "memory://x/y"]
)
def test_nothing_outside_the_root_is_touched(root: str, place: str) -> None:
    with pytest.raises(ValueError, match="not below"):
        CheckpointStore(root).delete(place.format(root=root))


def test_a_store_that_does_not_answer_is_no_fault_of_the_training(state: Path, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file where the folder should be")
    store = CheckpointStore(str(tmp_path / "root"), retry_seconds=0.001)
    with pytest.raises(StoreUnreachableError, match="could not save a checkpoint"):
        store.save(state, place="s/1/7/step-20", step=20)


def test_a_full_store_is_named_and_works_again_when_there_is_space(state: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", root], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        store = CheckpointStore(str(root), retry_seconds=0.001)
        (root / "other").write_bytes(bytes(48 * 1024))
        with pytest.raises(StoreUnreachableError, match=rf"{root}/s/1/7/step-20: .*No space left"):
            store.save(state, place="s/1/7/step-20", step=20)
        assert store.uploads() == {}, "half a checkpoint would keep the disk full"
        (root / "other").unlink()
        saved = store.save(state, place="s/1/7/step-20", step=20)
        (tmp_path / "target").mkdir()
        store.load(saved.uri, tmp_path / "target")
    finally:
        subprocess.run(["umount", root], check=True)


def test_uploads_are_found_whole_or_not(root: str, state: Path) -> None:
    store = CheckpointStore(root)
    assert store.uploads() == {}
    whole = store.save(state, place="s/1/7/step-20", step=20)
    half = store.save(state, place="s/1/8/step-30", step=30)
    fs, path = url_to_fs(half.uri)
    fs.rm(f"{path}/manifest.json")
    found = {(f.study, f.token, f.step): uri for f, uri in store.uploads().items()}
    assert found == {("s", 7, 20): whole.uri, ("s", 8, 30): half.uri}
    store.delete(found["s", 8, 30])
    assert list(store.uploads().values()) == [whole.uri]
