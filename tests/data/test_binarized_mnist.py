"""The published binarised MNIST from small files in its format; nothing is downloaded."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpvae_cli.data import BinarizedMnist, binarized_mnist
from dpvae_cli.data.binarized_mnist import FILES
from dpvae_cli.foundation.errors import MissingError

PUBLISHED = dict(binarized_mnist.IMAGES)
COUNTS = {"train": 7, "validation": 3, "test": 4}
SPEC = BinarizedMnist()


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    for name, count in COUNTS.items():
        monkeypatch.setitem(binarized_mnist.IMAGES, name, count)


def pixels(name: str) -> np.ndarray:
    random = np.random.default_rng(list(COUNTS).index(name))
    return random.integers(0, 2, (COUNTS[name], 784))


def lines(name: str) -> list[str]:
    return [" ".join(map(str, row)) for row in pixels(name)]


def write(folder: Path, name: str, text: list[str], *, end: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILES[name]
    path.write_bytes("".join(line + end for line in text).encode())
    return path


def make(folder: Path) -> None:
    for name in COUNTS:
        write(folder, name, lines(name))


def test_the_published_counts_and_names():
    assert PUBLISHED == {"train": 50_000, "validation": 10_000, "test": 10_000}
    assert list(FILES.values()) == [
        f"binarized_mnist_{name}.amat" for name in ("train", "valid", "test")
    ]


@pytest.mark.parametrize("layout", [".", "binarized_mnist"])
def test_reads_every_image_of_every_split(tmp_path, layout):
    make(tmp_path / layout)
    data = SPEC.load(tmp_path)
    for name in COUNTS:
        expected = torch.from_numpy(pixels(name)).reshape(-1, 1, 28, 28)
        assert torch.equal(data.split(name).examples(), expected.float())
        assert data.split(name).labels is None
    assert data.example_shape == SPEC.example_shape() == (1, 28, 28)
    assert not data.eight_bit
    assert "compare with published ones" in data.note


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_line_ends_do_not_matter(tmp_path, end):
    make(tmp_path)
    plain = SPEC.load(tmp_path).train.stored
    write(tmp_path, "train", lines("train"), end=end)
    assert torch.equal(SPEC.load(tmp_path).train.stored, plain)


def test_the_last_line_may_lack_its_end(tmp_path):
    make(tmp_path)
    path = tmp_path / FILES["test"]
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert len(SPEC.load(tmp_path).test) == COUNTS["test"]


def edited(name: str, line: int, change) -> list[str]:
    """Return the lines of a split with one of them, counted from 1, changed."""
    text = lines(name)
    text[line - 1] = change(text[line - 1])
    return text


def other_word(column: int, word: str):
    def change(line: str) -> str:
        words = line.split()
        words[column - 1] = word
        return " ".join(words)

    return change


DAMAGE = {
    "a column too few": (edited("train", 3, lambda line: line[:-2]), 3, "783 columns"),
    "a column too many": (edited("train", 7, lambda line: line + " 1"), 7, "785 columns"),
    "an empty line": (edited("train", 2, lambda line: ""), 2, "0 columns"),
    "a grey value": (edited("train", 5, other_word(784, "0.5")), 5, "'0.5' in column 784"),
    "a two": (edited("train", 1, other_word(9, "2")), 1, "'2' in column 9"),
    "no space between": (edited("train", 4, other_word(1, "01")), 4, "'01' in column 1"),
    "another character": (edited("train", 6, other_word(2, "\u00bd")), 6, "in column 2"),
    "a line too few": (lines("train")[:-1], 6, "after 6 of 7 lines"),
    "a line too many": ([*lines("train"), lines("train")[0]], 8, "more than 7 lines"),
    "nothing": ([], 0, "after 0 of 7 lines"),
    "a web page": (["<html>404</html>"], 1, "1 columns"),
}


@pytest.mark.parametrize(("text", "line", "said"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named_with_the_line(tmp_path, text, line, said):
    make(tmp_path)
    path = write(tmp_path, "train", text)
    with pytest.raises(MissingError) as caught:
        SPEC.load(tmp_path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert said in str(caught.value)
    assert binarized_mnist.SOURCE in caught.value.hint


@pytest.mark.parametrize("name", COUNTS)
def test_a_missing_file_is_named_and_where_it_belongs(tmp_path, name):
    make(tmp_path / "binarized_mnist")
    (tmp_path / "binarized_mnist" / FILES[name]).unlink()
    with pytest.raises(MissingError) as caught:
        SPEC.load(tmp_path)
    assert f"{FILES[name]} not found" in str(caught.value)
    assert str(tmp_path / "binarized_mnist") in caught.value.hint


def test_nothing_there_names_both_places_the_files_and_a_way_out(tmp_path):
    with pytest.raises(MissingError) as caught:
        SPEC.load(tmp_path, download=True)
    for name in (*FILES.values(), str(tmp_path / "binarized_mnist"), f"and {tmp_path}"):
        assert name in str(caught.value)
    for word in ("does not download", "--data-root", "DPVAE_DATA", "binarize: static"):
        assert word in caught.value.hint
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
