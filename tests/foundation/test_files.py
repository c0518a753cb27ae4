"""Files are there whole or not at all."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpvae_cli.foundation.array_files import read_cache, read_npz, write_cache, write_npz
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import (
    link_to,
    remove_stale_temporaries,
    write_atomically,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    """Return what lies in the folder, hidden or not."""
    return [path.name for path in folder.iterdir()]


class PowerCut(Exception):
    pass


def failing(error: BaseException):
    """Return a writer that fails half way."""

    def write(file) -> None:
        file.write(b"half of the new ")
        file.flush()
        raise error

    return write


ERRORS = {
    "any error": (PowerCut(), PowerCut),
    "a full disk": (OSError(28, "No space left on device"), UsageError),
    "an interrupt": (KeyboardInterrupt(), KeyboardInterrupt),
}


@pytest.mark.parametrize(("error", "seen"), ERRORS.values(), ids=ERRORS)
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, error, seen):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(seen):
        write_atomically(path, failing(error))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_failed_first_write_leaves_nothing(tmp_path):
    with pytest.raises(PowerCut):
        write_atomically(tmp_path / "file", failing(PowerCut()))
    assert names(tmp_path) == []


def test_readers_never_see_half_a_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def write(file) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"

    with path.open() as reader:
        write_atomically(path, write)
        assert reader.read() == "old", "the old file is renamed over, not written into"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "file", "é")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == "é".encode()


def test_permissions_are_those_of_ordinary_files(tmp_path):
    ordinary, ours = tmp_path / "ordinary", tmp_path / "ours"
    ordinary.write_text("x")
    write_text(ours, "x")
    assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "x")


def test_a_folder_in_the_place_of_the_file_is_a_usage_error(tmp_path):
    (tmp_path / "taken" / "by").mkdir(parents=True)
    with pytest.raises(UsageError, match="taken"):
        write_text(tmp_path / "taken", "x")
    assert names(tmp_path) == ["taken"]


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None, 2.5]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_json(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": value})
    assert names(tmp_path) == []


def test_npz(tmp_path):
    arrays = {"z": np.arange(6.0).reshape(3, 2), "names": np.array(["a", "b"])}
    write_npz(tmp_path / "a.npz", arrays)
    back = read_npz(tmp_path / "a.npz")
    assert back.keys() == arrays.keys()
    assert all((back[name] == arrays[name]).all() for name in arrays)


def test_npz_holds_no_objects(tmp_path):
    objects = np.array([{}, {}])
    with pytest.raises(TypeError, match="'bad'"):
        write_npz(tmp_path / "a.npz", {"bad": objects})
    np.savez(tmp_path / "b.npz", bad=objects)
    with pytest.raises(ValueError, match="bad holds Python objects"):
        read_npz(tmp_path / "b.npz")


@pytest.mark.parametrize("content", ["torn", "flipped", "array", "text", "empty", "absent"])
def test_kept_arrays_that_cannot_be_read_are_none(content, tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, values=np.arange(5_000.0), checkpoint=np.array("a"))
    whole = path.read_bytes()
    middle = len(whole) // 2
    if content == "array":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    elif content == "absent":
        path.unlink()
    else:
        path.write_bytes(
            {
                "torn": whole[:middle],
                "flipped": whole[:middle] + bytes(64) + whole[middle + 64 :],
                "text": b"no archive",
                "empty": b"",
            }[content]
        )
    assert read_cache(path, checkpoint="a") is None


def test_kept_arrays_belong_to_their_checkpoint(tmp_path):
    path = tmp_path / "x.npz"
    write_cache(path, {"values": np.arange(3)}, checkpoint="a")
    assert read_cache(path, checkpoint="b") is None
    assert read_cache(path, checkpoint="a")["values"].tolist() == [0, 1, 2]


def test_the_old_file_is_kept_as_previous(tmp_path):
    path, previous = tmp_path / "file", tmp_path / "file.previous"
    for text in ("one", "two", "three"):
        write_atomically(path, lambda file, text=text: file.write(text.encode()), previous=previous)
    assert (path.read_text(), previous.read_text()) == ("three", "two")
    assert sorted(names(tmp_path)) == ["file", "file.previous"]


@pytest.mark.parametrize("can_link", [True, False])
def test_neither_of_two_files_is_ever_missing(tmp_path, monkeypatch, can_link):
    """Look before every operation on the folder, with second names and without."""
    path, previous = tmp_path / "file", tmp_path / "file.previous"
    seen = []

    def looking(original):
        def look(*arguments, **options):
            seen.append((path.read_text(), previous.read_text()))
            return original(*arguments, **options)

        return look

    def refuse(*_, **__):
        raise OSError(1, "Operation not permitted")

    for text in ("one", "two"):
        write_atomically(path, lambda file, text=text: file.write(text.encode()), previous=previous)
    monkeypatch.setattr(os, "link", looking(os.link if can_link else refuse))
    for name in ("replace", "unlink", "chmod"):
        monkeypatch.setattr(Path, name, looking(getattr(Path, name)))
    write_atomically(path, lambda file: file.write(b"three"), previous=previous)
    assert set(seen) == {("two", "one"), ("two", "two"), ("three", "two")}
    assert sorted(names(tmp_path)) == ["file", "file.previous"]


def test_a_failed_write_leaves_both_files_alone(tmp_path):
    path, previous = tmp_path / "file", tmp_path / "file.previous"
    for text in ("one", "two"):
        write_atomically(path, lambda file, text=text: file.write(text.encode()), previous=previous)
    with pytest.raises(UsageError):
        write_atomically(path, failing(OSError(28, "No space left on device")), previous=previous)
    assert (path.read_text(), previous.read_text()) == ("two", "one")


def test_pointing_at_the_same_file_again_leaves_nothing_behind(tmp_path):
    (tmp_path / "a").write_text("x")
    for _ in range(2):
        link_to(tmp_path / "b", to=tmp_path / "a")
    assert sorted(names(tmp_path)) == ["a", "b"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    others = [".file.abcd1234", ".checkpoint.pt.20261128", ".dpvae", "dpvae-tmp-x", ".dpvae-lock"]
    for name in (*others, ".dpvae-tmp-abcd1234"):
        (tmp_path / name).write_text("half")
    remove_stale_temporaries(tmp_path)
    assert set(names(tmp_path)) == set(others)
    remove_stale_temporaries(tmp_path / "nowhere")


def test_every_writer_removes_what_killed_ones_left_beside_its_file(tmp_path):
    (tmp_path / ".dpvae-tmp-abcd1234").write_text("half")
    write_text(tmp_path / "report.md", "whole")
    assert names(tmp_path) == ["report.md"]


def test_the_file_of_a_writer_at_work_is_left_alone(tmp_path):
    """`train` and `eval` may write into one folder at the same time."""
    code = "import sys; from pathlib import Path; from dpvae_cli.foundation.files import write_text"
    other = [sys.executable, "-c", f"{code}; write_text(Path(sys.argv[1]), 'theirs')"]

    def write(file):
        file.write(b"our")
        subprocess.run([*other, str(tmp_path / "theirs")], check=True)
        file.write(b"s")

    write_atomically(tmp_path / "ours", write)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "ours": "ours",
        "theirs": "theirs",
    }
