"""Files are there whole or not at all."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import (
    read_kept,
    read_npz,
    write_atomically,
    write_json,
    write_kept,
    write_npz,
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
    with pytest.raises(ValueError, match="allow_pickle"):
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
    assert read_kept(path, checkpoint="a") is None


def test_kept_arrays_belong_to_their_checkpoint(tmp_path):
    path = tmp_path / "x.npz"
    write_kept(path, {"values": np.arange(3)}, checkpoint="a")
    assert read_kept(path, checkpoint="b") is None
    assert read_kept(path, checkpoint="a")["values"].tolist() == [0, 1, 2]
