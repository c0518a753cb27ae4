"""SVHN from small .mat files as scipy writes them; nothing is downloaded."""

import numpy as np
import pytest
import scipy.io
import torch
import torchvision

from dpvae_cli.data import Svhn
from dpvae_cli.data.svhn import OFFICIAL
from dpvae_cli.foundation import download as download_module
from dpvae_cli.foundation.errors import MissingError

COUNTS = {"train": 20, "test": 6, "extra": 10}
SEEDS = {"train": 0, "test": 1, "extra": 2}


def content(name):
    """Return X and y as the official files have them: digit zero is labelled 10."""
    random, count = np.random.default_rng(SEEDS[name]), COUNTS[name]
    images = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
    return {"X": images, "y": (1 + np.arange(count, dtype=np.uint8) % 10)[:, None]}


def write(folder, name, values=None):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_32x32.mat"
    scipy.io.savemat(path, content(name) if values is None else values, do_compression=True)
    return path


@pytest.fixture
def root(tmp_path):
    for name in ("train", "test"):
        write(tmp_path / "svhn", name)
    return tmp_path


def images(name, rows=slice(None)):
    return torch.from_numpy(content(name)["X"].transpose(3, 2, 0, 1)[rows].copy())


def test_splits_and_labels(root):
    data = Svhn().load(root, download=False)
    assert torch.equal(data.train.stored, images("train", slice(0, 18)))
    assert torch.equal(data.validation.stored, images("train", slice(18, 20)))
    assert torch.equal(data.test.stored, images("test"))
    assert data.test.labels.tolist() == [1, 2, 3, 4, 5, 6]
    assert data.validation.labels.tolist() == [9, 0]
    assert data.train.labels.dtype == torch.int64
    assert data.example_shape == Svhn().example_shape() == (3, 32, 32)
    assert data.eight_bit


def test_torchvision_reads_the_same(root, monkeypatch):
    """Guard the fixture: torchvision's own reader takes the files."""
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda self: True)
    theirs = torchvision.datasets.SVHN(str(root / "svhn"), split="train", download=False)
    data = Svhn().load(root, download=False)
    both = torch.cat([data.train.stored, data.validation.stored]).numpy()
    labels = torch.cat([data.train.labels, data.validation.labels]).numpy()
    assert np.array_equal(theirs.data, both)
    assert np.array_equal(theirs.labels, labels)


def test_extra_joins_the_training_split_alone(root):
    write(root / "svhn", "extra")
    plain, more = (Svhn(extra=extra).load(root, download=False) for extra in (False, True))
    assert torch.equal(more.train.stored[:18], plain.train.stored)
    assert torch.equal(more.train.stored[18:], images("extra"))
    assert len(more.train.labels) == 28
    assert torch.equal(more.validation.stored, plain.validation.stored)
    assert "extra_32x32.mat has 10" in more.note


def test_a_subset_is_named_and_the_whole_is_not(root, monkeypatch):
    note = Svhn().load(root, download=False).note
    assert "train_32x32.mat has 20 images, the official one 73,257" in note
    assert "no published number compares" in note
    for name in OFFICIAL:
        monkeypatch.setitem(OFFICIAL, name, COUNTS[name])
    assert Svhn().load(root, download=False).note is None


def test_files_right_in_the_root(tmp_path):
    for name in ("train", "test"):
        write(tmp_path, name)
    assert len(Svhn().load(tmp_path, download=False).test) == 6


def bent(name, **changes):
    return content(name) | changes


DAMAGE = {
    "no images": bent("train", X=np.zeros((0, 0))),
    "another type": bent("train", X=content("train")["X"].astype(float)),
    "another order": bent("train", X=content("train")["X"].transpose(3, 0, 1, 2)),
    "another size": bent("train", X=content("train")["X"][:31]),
    "fewer labels": bent("train", y=content("train")["y"][1:]),
    "a label of 0": bent("train", y=content("train")["y"] - 1),
    "a label of 11": bent("train", y=content("train")["y"] + 1),
    "labels in words": bent("train", y=np.array(["a"] * 20)),
    "other names": {"images": content("train")["X"], "y": content("train")["y"]},
}


@pytest.mark.parametrize("values", DAMAGE.values(), ids=DAMAGE)
def test_odd_contents_are_named(root, values):
    path = write(root / "svhn", "train", values)
    with pytest.raises(MissingError) as caught:
        Svhn().load(root, download=False)
    assert str(path) in str(caught.value)


SPOILED = {
    "a cut end": lambda whole: whole[: len(whole) // 2],
    "a cut header": lambda whole: whole[:100],
    "nothing": lambda whole: b"",
    "a web page": lambda whole: b"<html>404</html>" * 20,
    "a wrong magic number": lambda whole: whole[:124] + b"\x09\x09\x09\x09" + whole[128:],
    "a changed middle": lambda whole: whole[:600] + bytes(64) + whole[664:],
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_damaged_files_are_named(root, spoil):
    path = root / "svhn" / "test_32x32.mat"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(MissingError) as caught:
        Svhn().load(root, download=False)
    assert str(path) in str(caught.value)


def test_nothing_there_names_both_places(tmp_path):
    with pytest.raises(MissingError, match=r"train_32x32\.mat, test_32x32\.mat") as caught:
        Svhn().load(tmp_path, download=False)
    assert f"{tmp_path / 'svhn'} and {tmp_path}" in str(caught.value)
    assert "--data-root" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(root):
    with pytest.raises(MissingError, match=r"extra_32x32\.mat not found"):
        Svhn(extra=True).load(root, download=False)


@pytest.fixture
def downloads(monkeypatch):
    """Stand for the download and return what is asked of it."""
    asked = []

    def download(urls, path, *, checksum):
        asked.append((*urls, path.name, checksum.removeprefix("md5:")))
        write(path.parent, path.name.split("_")[0])

    monkeypatch.setattr(download_module, "download", download)
    return asked


def test_only_what_is_missing_is_downloaded_with_its_checksum(tmp_path, downloads):
    write(tmp_path / "svhn", "train")
    before = (tmp_path / "svhn" / "train_32x32.mat").read_bytes()
    assert len(Svhn().load(tmp_path).test) == 6
    (found,) = downloads
    assert found == tuple(torchvision.datasets.SVHN.split_list["test"])
    assert len(found[2]) == 32
    assert (tmp_path / "svhn" / "train_32x32.mat").read_bytes() == before
    assert len(Svhn().load(tmp_path).test) == 6
    assert len(downloads) == 1
    assert sorted(path.name for path in (tmp_path / "svhn").iterdir()) == [
        "test_32x32.mat",
        "train_32x32.mat",
    ]


def test_extra_is_downloaded_only_when_asked_for(tmp_path, downloads):
    Svhn().load(tmp_path)
    assert [name for _, name, _ in downloads] == ["train_32x32.mat", "test_32x32.mat"]
    Svhn(extra=True).load(tmp_path)
    assert [name for _, name, _ in downloads[2:]] == ["extra_32x32.mat"]


def test_a_failed_download_leaves_nothing_and_says_what_to_put_where(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(download_module, "download", fail)
    with pytest.raises(MissingError, match="no network") as caught:
        Svhn().load(tmp_path)
    assert torchvision.datasets.SVHN.split_list["train"][0] in caught.value.hint
    assert str(tmp_path / "svhn") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_download_wins_over_what_has_begun(tmp_path, downloads):
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "train_32x32.mat.part").write_bytes(b"half")
    with pytest.raises(MissingError, match=r"train_32x32\.mat, test_32x32\.mat not found"):
        Svhn().load(tmp_path, download=False)
    assert not downloads
