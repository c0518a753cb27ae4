"""dSprites from small files in its layout, whose `metadata` would run code if it were unpickled."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dpvae_cli.data import Dsprites, dsprites
from dpvae_cli.data.dsprites import FILE
from dpvae_cli.foundation.errors import MissingError

SIZES = (1, 3, 2, 4, 3, 2)
COUNT = 144
SPLITS = ("train", "validation", "test")


class Trap:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("trapped",))


def arrays():
    classes = np.stack(np.unravel_index(np.arange(COUNT), SIZES), axis=1)
    images = np.random.default_rng(0).integers(0, 2, (COUNT, 64, 64), dtype=np.uint8)
    return {"imgs": images, "latents_values": classes / 2, "latents_classes": classes}


def write(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in (arrays() | changes).items() if value is not None}
    np.savez_compressed(folder / FILE, **kept)
    with zipfile.ZipFile(folder / FILE, "a") as archive:
        header = (
            b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': ()}"
        )
        archive.writestr("metadata.npy", header.ljust(79) + b"\n" + pickle.dumps(Trap()))
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("layout", [".", "dsprites"])
@pytest.mark.parametrize("block", [7, 4_096])
def test_every_picture_comes_once_with_its_factors(tmp_path, layout, block, monkeypatch):
    monkeypatch.setattr(dsprites, "BLOCK", block)
    write(tmp_path / layout)
    data = Dsprites(images=None).load(tmp_path)
    parts = [data.split(name) for name in SPLITS]
    assert [len(part) for part in parts] == [116, 14, 14]
    factors = torch.cat([part.factors for part in parts])
    images = torch.cat([part.stored for part in parts])
    rows = np.ravel_multi_index(tuple(factors.numpy().T), SIZES)
    assert sorted(rows) == list(range(COUNT))
    np.testing.assert_array_equal(images[:, 0].numpy(), 255 * arrays()["imgs"][rows])
    assert torch.equal(parts[0].labels, parts[0].factors[:, 1])
    assert [f.name for f in data.factors] == ["color", "shape", "scale", "orientation", "x", "y"]
    assert not Path("trapped").exists()


def test_a_part_is_the_beginning_of_one_fixed_order(tmp_path):
    write(tmp_path)
    whole, part = (Dsprites(images=n).load(tmp_path) for n in (None, 100))
    assert [len(part.split(name)) for name in SPLITS] == [80, 10, 10]
    assert torch.equal(part.train.stored, whole.train.stored[:80])
    assert torch.equal(part.train.stored, Dsprites(images=100).load(tmp_path).train.stored)
    assert part.note == (
        "100 of the 144 images of dSprites, drawn at random, of a file that should have 737,280"
    )
    assert Dsprites().images * 64 * 64 < 3e8


def test_where_it_is_missing_the_error_says_where_to_put_it(tmp_path):
    with pytest.raises(MissingError, match="not found; looked in") as caught:
        Dsprites().load(tmp_path)
    assert str(tmp_path / "dsprites") in caught.value.hint
    assert "data=sprites" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"imgs": None}, "imgs.npy"),
        ({"latents_classes": None}, "latents_classes.npy"),
        ({"imgs": np.zeros((COUNT, 32, 32), np.uint8)}, "shape"),
        ({"imgs": np.zeros((COUNT, 64, 64), np.float32)}, "float32"),
        ({"imgs": np.zeros((9, 64, 64), np.uint8)}, "(144, 64, 64)"),
        ({"imgs": np.full((COUNT, 64, 64), 255, np.uint8)}, "other than 0 and 1"),
        ({"latents_classes": np.zeros((COUNT, 5), int)}, "latents_classes has shape"),
        ({"latents_classes": np.zeros((COUNT, 6))}, "float64"),
        ({"latents_classes": np.array([[Trap()] * 6] * COUNT)}, "holds Python objects"),
    ],
)
def test_other_files_are_refused(tmp_path, changes, said):
    write(tmp_path, **changes)
    with pytest.raises(MissingError, match="cannot be read as dSprites") as caught:
        Dsprites().load(tmp_path)
    assert said in str(caught.value)
    assert not Path("trapped").exists()


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_damaged_files_are_refused(tmp_path, keep):
    path = write(tmp_path) / FILE
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(MissingError, match="cannot be read as dSprites"):
        Dsprites().load(tmp_path)


def test_a_spoiled_picture_is_noticed(tmp_path):
    path = write(tmp_path) / FILE
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("imgs.npy").header_offset + 500
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(MissingError, match="cannot be read as dSprites"):
        Dsprites(images=None).load(tmp_path)
