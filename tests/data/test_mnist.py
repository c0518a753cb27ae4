"""MNIST from small files in the real format; nothing is downloaded."""

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from dpvae_cli.data import Mnist
from dpvae_cli.foundation import download as downloads
from dpvae_cli.foundation.errors import MissingError, UsageError

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SPEC = Mnist(validation=5)


def idx(array: np.ndarray, *, kind: int = 8) -> bytes:
    """Return the bytes of an IDX file."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def digits(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 28, 28)), np.arange(count) % 10


def write(path: Path, content: bytes, *, packed: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def make(folder: Path, *, packed: bool = False) -> None:
    """Write 12 training and 6 test images."""
    for count, seed, images, labels in (
        (12, 0, TRAIN_IMAGES, TRAIN_LABELS),
        (6, 1, TEST_IMAGES, TEST_LABELS),
    ):
        pixels, classes = digits(count, seed=seed)
        write(folder / images, idx(pixels), packed=packed)
        write(folder / labels, idx(classes), packed=packed)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["MNIST/raw", "mnist/MNIST/raw"])
def test_reads_both_layouts_packed_or_not(tmp_path, layout, packed):
    make(tmp_path / layout, packed=packed)
    data = SPEC.load(tmp_path, download=False)
    pixels, classes = digits(12, seed=0)
    expected = torch.from_numpy(pixels).unsqueeze(1)
    assert torch.equal(data.train.stored.long(), expected[:7])
    assert torch.equal(data.validation.stored.long(), expected[7:])
    assert data.validation.labels.tolist() == classes[7:].tolist()
    assert torch.equal(data.test.stored[:, 0].long(), torch.from_numpy(digits(6, seed=1)[0]))
    assert data.train.stored.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert data.example_shape == SPEC.example_shape() == (1, 28, 28)
    assert data.eight_bit


def test_torchvision_reads_the_same(tmp_path):
    """Guard the fixture: torchvision's own reader takes the files."""
    make(tmp_path / "MNIST" / "raw")
    theirs = torchvision.datasets.MNIST(str(tmp_path), download=False)
    ours = SPEC.load(tmp_path, download=False)
    both = torch.cat([ours.train.stored, ours.validation.stored])
    assert torch.equal(theirs.data, both.squeeze(1))


def test_its_own_folder_goes_before_the_shared_one(tmp_path):
    make(tmp_path / "MNIST" / "raw")
    make(tmp_path / "mnist" / "MNIST" / "raw")
    write(tmp_path / "mnist/MNIST/raw" / TEST_LABELS, idx(np.full(6, 3)))
    assert SPEC.load(tmp_path, download=False).test.labels.tolist() == [3] * 6


def test_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_DATA", str(tmp_path))
    make(tmp_path / "MNIST" / "raw")
    assert len(SPEC.load(download=False).train) == 7


IMAGES, LABELS = digits(12, seed=0)
DAMAGE = {
    "a wrong magic number": (TRAIN_IMAGES, b"\x01" + idx(IMAGES)[1:]),
    "another type": (TRAIN_IMAGES, idx(IMAGES, kind=0x0D)),
    "no content": (TEST_LABELS, b""),
    "half a header": (TEST_IMAGES, idx(IMAGES)[:7]),
    "a header alone": (TRAIN_IMAGES, idx(IMAGES)[:16]),
    "a cut end": (TRAIN_IMAGES, idx(IMAGES)[:-1]),
    "something appended": (TRAIN_LABELS, idx(LABELS) + b"\x00"),
    "a label beyond 9": (TRAIN_LABELS, idx(np.full(12, 10))),
    "labels for images": (TRAIN_IMAGES, idx(LABELS)),
    "images of another size": (TRAIN_IMAGES, idx(IMAGES[:, :27])),
    "a web page": (TEST_IMAGES, b"<html>404</html>"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "content"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(tmp_path, name, content, packed):
    folder = tmp_path / "MNIST" / "raw"
    make(folder, packed=packed)
    write(folder / name, content, packed=packed)
    with pytest.raises(MissingError) as caught:
        SPEC.load(tmp_path, download=False)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("labels", [11, 13])
def test_counts_that_do_not_match_are_named(tmp_path, labels):
    folder = tmp_path / "MNIST" / "raw"
    make(folder)
    write(folder / TRAIN_LABELS, idx(np.zeros(labels)))
    with pytest.raises(MissingError, match=str(labels)) as caught:
        SPEC.load(tmp_path, download=False)
    assert str(folder / TRAIN_IMAGES) in str(caught.value)


@pytest.mark.parametrize("spoil", [lambda c: c[: len(c) // 2], lambda c: b"no gzip" + c[7:]])
def test_damaged_packing_is_named(tmp_path, spoil):
    folder = tmp_path / "MNIST" / "raw"
    make(folder, packed=True)
    packed = folder / f"{TRAIN_IMAGES}.gz"
    packed.write_bytes(spoil(packed.read_bytes()))
    with pytest.raises(MissingError) as caught:
        SPEC.load(tmp_path, download=False)
    assert str(packed) in str(caught.value)


@pytest.mark.parametrize("name", [TRAIN_LABELS, TEST_IMAGES, TEST_LABELS])
def test_a_missing_file_is_named(tmp_path, name):
    folder = tmp_path / "MNIST" / "raw"
    make(folder)
    (folder / name).unlink()
    with pytest.raises(MissingError) as caught:
        SPEC.load(tmp_path, download=False)
    assert f"{name} not found; looked in {folder}" in str(caught.value)


def test_nothing_there_names_both_places(tmp_path):
    with pytest.raises(MissingError) as caught:
        SPEC.load(tmp_path, download=False)
    for folder in (tmp_path / "mnist" / "MNIST" / "raw", tmp_path / "MNIST" / "raw"):
        assert str(folder) in str(caught.value)
    assert "--data-root" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_says_where_the_files_belong(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(downloads, "download", fail)
    with pytest.raises(MissingError, match="no network") as caught:
        SPEC.load(tmp_path)
    assert str(tmp_path / "mnist" / "MNIST" / "raw") in str(caught.value)
    assert TRAIN_IMAGES in caught.value.hint


def test_only_what_is_missing_is_downloaded_from_all_mirrors(tmp_path, monkeypatch):
    """A download that broke off between two files goes on where the first ones are."""
    published = tmp_path / "published"
    make(published, packed=True)
    theirs, asked = torchvision.datasets.MNIST, []

    def download(urls, path, *, checksum):
        assert urls == [mirror + path.name for mirror in theirs.mirrors]
        assert checksum == f"md5:{dict(theirs.resources)[path.name]}"
        asked.append(path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(published / path.name, path)

    monkeypatch.setattr(downloads, "download", download)
    raw = tmp_path / "new" / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    shutil.copy(published / f"{TRAIN_IMAGES}.gz", raw)
    assert len(SPEC.load(tmp_path / "new").train) == 7
    assert len(asked) == 3
    assert f"{TRAIN_IMAGES}.gz" not in asked
    assert len(SPEC.load(tmp_path / "new", download=False).train) == 7
    SPEC.load(tmp_path / "new")
    assert len(asked) == 3


def test_holding_out_everything_is_refused(tmp_path):
    make(tmp_path / "MNIST" / "raw")
    with pytest.raises(UsageError, match="12 of 12"):
        Mnist(validation=12).load(tmp_path, download=False)


@pytest.mark.parametrize("how", ["threshold", "static", "dynamic"])
def test_binarised_digits(tmp_path, how):
    make(tmp_path / "MNIST" / "raw")
    data = Mnist(validation=5, binarize=how).load(tmp_path, download=False)
    again = Mnist(validation=5, binarize=how).load(tmp_path, download=False)
    assert not data.eight_bit
    for name in ("train", "validation", "test"):
        examples = data.split(name).examples()
        assert ((examples == 0) | (examples == 1)).all()
        assert torch.equal(examples, again.split(name).examples())
    assert (data.train.binarize_from is not None) == (how == "dynamic")


def test_static_pixels_do_not_depend_on_how_many_images_are_held_out(tmp_path):
    make(tmp_path / "MNIST" / "raw")
    drawn = []
    for validation in (2, 5):
        data = Mnist(validation=validation, binarize="static").load(tmp_path, download=False)
        drawn.append(torch.cat([data.train.stored, data.validation.stored]))
    assert torch.equal(*drawn)


def test_labels_stay_with_their_binarised_digits(tmp_path):
    make(tmp_path / "MNIST" / "raw")
    grey, cut = (
        Mnist(validation=5, binarize=how).load(tmp_path, download=False)
        for how in (None, "threshold")
    )
    for name in ("train", "validation", "test"):
        assert torch.equal(grey.split(name).labels, cut.split(name).labels)
        assert torch.equal(cut.split(name).stored > 0, grey.split(name).stored > 127)


@pytest.mark.parametrize("how", ["threshold", "static", "dynamic"])
def test_binarised_digits_say_that_published_likelihoods_are_of_others(tmp_path, how):
    make(tmp_path / "MNIST" / "raw")
    note = Mnist(validation=5, binarize=how).load(tmp_path, download=False).note
    assert "published likelihoods" in note
    assert "binarized_mnist" in note
    assert SPEC.load(tmp_path, download=False).note is None
