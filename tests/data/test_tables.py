"""Comma-separated tables as data, and samples written as such."""

import csv

import numpy as np
import pytest
from torch.testing import assert_close

from dpvae_cli.data import Arrays
from dpvae_cli.data.tables import read_csv, write_csv
from dpvae_cli.foundation.errors import MissingError, UsageError

ROWS = np.random.default_rng(0).normal([1.7e9, -2e-4], [1e5, 1e-5], (40, 2))


def load(path, text, **fields):
    path.write_text(text)
    return Arrays(path=str(path), **fields).load()


def lines(rows, separator=","):
    return "".join(separator.join(map(repr, row)) + "\n" for row in rows.tolist())


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("", ()),
        ("time,volts", ("time", "volts")),
        ("\ufefftime, volts ", ("time", "volts")),
        ('"time, s","volts ""AC"""', ("time, s", 'volts "AC"')),
    ],
)
def test_a_table_is_read_with_or_without_names(head, names, ending, tmp_path):
    text = (head + "\n" if head else "") + lines(ROWS)
    path = tmp_path / "x.csv"
    path.write_bytes(text.replace("\n", ending).encode())
    data = Arrays(path=str(path), scale="standardize").load()
    assert data.columns == data.units.columns == names
    everything = [data.split(name).stored for name in ("train", "validation", "test")]
    values = np.concatenate([data.units.inverse_transform(x).numpy() for x in everything])
    assert_close(np.sort(values, axis=0), np.sort(ROWS, axis=0), rtol=0, atol=0.1)
    assert Arrays(path=str(path)).example_shape() == (2,)
    assert sum(Arrays(path=str(path)).summary().sizes.values()) == 40


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rows of numbers"),
        ("a,b\n", "holds no rows of numbers"),
        ("a,b\n1,2\n3\n4,5\n", "line 3 has 1 cells, the first line has 2"),
        ("1,2\n3,4,5\n", "line 2 has 3 cells, the first line has 2"),
        ("a,b\n1,2\n3,x y\n", "line 3, column 2: 'x y' is not a number"),
        ("a,b\n1,2\n,3\n", "line 3, column 1: '' is not a number"),
        ("a,1\n1,2\n3,4\n", "the first line has names and numbers: a, 1"),
        ("a;b\n1;2\n3;4\n", "line 2, column 1: '1;2' is not a number"),
    ],
)
def test_mistakes_in_a_table_are_named_by_their_line(text, said, tmp_path):
    with pytest.raises(MissingError, match=r"cannot be read as \.csv") as caught:
        load(tmp_path / "x.csv", text)
    assert said in str(caught.value)


def test_an_npz_may_name_its_columns(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=ROWS, columns=np.array(["time", "volts"]), labels=np.arange(40))
    data = Arrays(path=str(path)).load()
    assert data.columns == ("time", "volts")
    assert not any("columns" in remark for remark in data.remarks)
    np.savez(path, x=ROWS, columns=np.array(["time"]))
    with pytest.raises(UsageError, match=r"columns has shape \(1,\)"):
        Arrays(path=str(path)).load()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_written_is_read_to_the_bit(dtype, tmp_path):
    path, rows = tmp_path / "x.csv", ROWS.astype(dtype)
    write_csv(path, rows, ["time, s", "volts"])
    found = read_csv(path)
    np.testing.assert_array_equal(found["x"].astype(dtype), rows)
    assert found["columns"].tolist() == ["time, s", "volts"]
    with path.open(newline="") as file:
        assert next(csv.reader(file)) == ["time, s", "volts"]
