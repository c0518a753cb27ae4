"""A folder of pictures: where it is, how it is split, what its fields do."""

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from dpvae_cli.data import Folder
from dpvae_cli.data.images import ImageTransform, read_image
from dpvae_cli.foundation.errors import MissingError, UsageError
from tests.data.synthetic import draw, draw_all

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DPVAE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def spec(path="in", **fields):
    return Folder(path=str(path), size=8, **fields)


def rows(data):
    """Return every picture of each split as bytes."""
    return {s: [row.numpy().tobytes() for row in data.split(s).stored] for s in SPLITS}


def test_every_picture_is_in_one_split(tmp_path):
    names = draw_all(tmp_path / "in", 20, width=20, height=30)
    found = rows(spec().load())
    assert {split: len(part) for split, part in found.items()} == {
        "train": 16,
        "validation": 2,
        "test": 2,
    }
    wanted = {
        read_image(tmp_path / "in" / n, ImageTransform(None, 8, "rgb")).tobytes() for n in names
    }
    assert {row for part in found.values() for row in part} == wanted
    assert len(wanted) == 20


def test_the_split_is_the_same_everywhere_and_mixes_folders(tmp_path):
    for place in ("in", "elsewhere"):
        draw_all(tmp_path / place / "a", 20, width=9, height=9)
        draw_all(tmp_path / place / "b", 20, width=9, height=9, mode="L")
    assert rows(spec("in").load()) == rows(spec("elsewhere").load())
    held = spec(validation=0.25, test=0.25).load()
    grey = (held.test.stored == held.test.stored[:, :1]).all(dim=(1, 2, 3))
    assert 0 < grey.sum() < len(grey)


def test_a_new_picture_moves_few_others(tmp_path):
    draw_all(tmp_path / "in", 20, width=9, height=9)
    before = rows(spec().load())["test"]
    draw(tmp_path / "in" / "new.png", 9, 9, seed=99)
    assert set(before) & set(rows(spec().load())["test"])


def test_own_splits_are_kept(tmp_path):
    for number, split in enumerate(SPLITS):
        draw_all(tmp_path / "in" / split / "class", number + 1, width=9, height=9)
    data = spec(validation=0.4).load()
    assert [len(data.split(split)) for split in SPLITS] == [1, 2, 3]
    draw(tmp_path / "in" / "stray.png", 9, 9)
    with pytest.raises(UsageError, match=r"stray\.png"):
        spec().load()


def test_an_empty_own_split_is_named(tmp_path):
    for split in SPLITS:
        (tmp_path / "in" / split).mkdir(parents=True)
    draw_all(tmp_path / "in" / "train", 3, width=9, height=9)
    with pytest.raises(MissingError, match=r"validation holds no images"):
        spec().load()


NAMES = [
    ("train", "val", "test"),
    ("Training", "Valid", "TESTING"),
    ("TRAIN", "dev", "Test"),
    ("training", "Validation", "test"),
]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0] + names[1])
def test_common_names_of_splits_are_taken(tmp_path, names):
    for number, name in enumerate(names):
        draw_all(tmp_path / "in" / name / "class", 3 + number, width=9, height=9)
    data = spec(validation=0.4).load()
    assert [len(data.split(split)) for split in SPLITS] == [3, 4, 5]
    assert spec().summary() == data.summary
    assert data.remarks == (f"splits are the folders {', '.join(names)}",)


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("train", "test"), [15, 5, 20]),
        (("train", "val"), [15, 20, 5]),
        (("train",), [10, 5, 5]),
    ],
    ids=str,
)
def test_a_missing_split_is_split_off_from_the_training_images_alone(tmp_path, names, sizes):
    for seed, name in enumerate(names):
        for number in range(20):
            draw(tmp_path / "in" / name / f"{number}.png", 9, 9, seed=100 * seed + number)
    data = spec(validation=0.25, test=0.25).load()
    assert [len(data.split(split)) for split in SPLITS] == sizes
    own = {tmp_path / "in" / names[-1] / f"{number}.png" for number in range(20)}
    held = {read_image(path, ImageTransform(None, 8, "rgb")).tobytes() for path in own}
    if len(names) > 1:
        assert not held & set(rows(data)["train"])
        assert held == set(rows(data)["test" if names[-1] == "test" else "validation"])
    assert "split off from train" in data.remarks[-1]


OTHER = {
    "two of one split": (("train", "val", "valid", "test"), "two folders for the validation"),
    "none to train on": (("val", "test"), "none called train"),
    "years": (("train2017", "val2017"), "look like splits"),
    "words around": (("images_train", "images-test"), "look like splits"),
    "inside of classes": (("cat/train", "cat/test", "dog/train", "dog/test"), "look like splits"),
    "below": (("images/train", "images/val"), "look like splits"),
    "beside another": (("train", "test", "unlabeled"), "lie outside"),
    "a class": (("car", "train", "bus"), "lie outside"),
}


@pytest.mark.parametrize(("names", "said"), OTHER.values(), ids=OTHER)
def test_what_looks_like_splits_and_is_not_taken_is_refused(tmp_path, names, said):
    for name in names:
        draw_all(tmp_path / "in" / name, 3, width=9, height=9)
    with pytest.raises(UsageError, match=said) as caught:
        spec().load()
    assert "data.splits=random" in caught.value.hint
    assert sum(spec(splits="random").summary().sizes.values()) == 3 * len(names)
    if names[0] == "images/train":
        assert f"data.path={tmp_path / 'in' / 'images'}" in caught.value.hint
        draw_all(tmp_path / "in" / "images" / "train", 9, width=9, height=9)
        assert len(spec(tmp_path / "in" / "images").load().validation) == 3


def test_one_class_with_a_word_of_splits_is_a_class(tmp_path):
    for name in ("test_tube", "bottle", "glass/train"):
        draw_all(tmp_path / "in" / name, 3, width=9, height=9)
    assert [len(spec().load().split(split)) for split in SPLITS] == [7, 1, 1]


def test_files_of_other_endings_are_counted(tmp_path):
    draw_all(tmp_path / "in", 5, width=9, height=9)
    for number in range(18):
        (tmp_path / "in" / f"{number}.HEIC").touch()
    for name in ("a.txt", "b/c.txt", "LICENSE", ".hidden.xyz"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    (remark,) = spec().load().remarks
    assert "18 .heic, 2 .txt, 1 without an ending (" in remark
    assert "pillow-heif" in remark
    assert spec().summary().remarks == (remark,)


def test_pictures_of_few_dark_levels_are_remarked_on(tmp_path):
    for number in range(5):
        (tmp_path / "in").mkdir(exist_ok=True)
        mask = np.arange(81, dtype=np.uint8).reshape(9, 9) % 2
        Image.fromarray(mask).save(tmp_path / "in" / f"{number}.png")
    assert "brighter than 1 of 255" in spec().load().remarks[-1]


def test_a_large_picture_can_be_allowed(tmp_path):
    draw_all(tmp_path / "in", 4, width=9, height=9)
    draw(tmp_path / "in" / "large.png", 30, 30)
    with pytest.raises(MissingError, match=r"30x30 = 900 pixels, 899 is the limit") as caught:
        spec(max_pixels=899).load()
    assert "data.max_pixels" in caught.value.hint
    assert len(spec(max_pixels=900).load().train) == 3


@pytest.mark.parametrize(("colour", "channels"), [("rgb", 3), ("grey", 1)])
def test_shapes(tmp_path, colour, channels):
    draw_all(tmp_path / "in", 10, width=40, height=30)
    chosen = Folder(path="in", size=16, crop=20, colour=colour)
    data = chosen.load()
    assert data.example_shape == chosen.example_shape() == (channels, 16, 16)
    assert (data.name, data.eight_bit, data.note) == ("in", True, None)
    assert data.train.stored.dtype == torch.uint8
    assert data.train.labels is None
    assert float(data.train.examples().max()) <= 1


def test_crop_is_used(tmp_path):
    for name in "abcdef":
        values = np.zeros((30, 30, 3), np.uint8)
        values[10:20, 10:20] = 255
        draw(tmp_path / "in" / f"{name}.png", 30, 30)
        Image.fromarray(values).save(tmp_path / "in" / f"{name}.png")
    assert (spec(crop=10).load().train.stored == 255).all()
    assert not (spec().load().train.stored == 255).all()
    with pytest.raises(UsageError, match="31 is more than") as caught:
        spec(crop=31).load()
    assert "data.crop=30" in caught.value.hint


@pytest.mark.parametrize("place", ["data", "data/folder"])
def test_the_folder_may_lie_under_the_data_root(tmp_path, place):
    draw_all(tmp_path / place / "in", 5, width=9, height=9)
    assert len(spec().load(tmp_path / "data").train) == 3


def test_skipping_is_noted_and_refusing_is_the_default(tmp_path):
    draw_all(tmp_path / "in", 9, width=9, height=9)
    (tmp_path / "in" / "bad.gif").write_bytes(b"GIF89a")
    with pytest.raises(MissingError, match=r"bad\.gif"):
        spec().load()
    assert spec(on_error="skip").load().note == "1 unreadable file left out"


def test_a_missing_folder_names_the_places(tmp_path):
    (tmp_path / "in").touch()
    with pytest.raises(MissingError, match="in is not a folder") as caught:
        spec().load(tmp_path / "data")
    for place in (tmp_path / "data" / "folder" / "in", tmp_path / "data" / "in"):
        assert str(place) in str(caught.value)
    assert "--data-root" in caught.value.hint


def test_too_few_pictures(tmp_path):
    draw_all(tmp_path / "in", 2, width=9, height=9)
    with pytest.raises(UsageError, match="holding out 2 of 2"):
        spec().load()


@pytest.mark.parametrize(
    "fields", [{"crop": 0}, {"colour": "sepia"}, {"on_error": "ignore"}, {"test": 1.0}], ids=str
)
def test_refused_fields(fields):
    with pytest.raises(ValidationError):
        spec(**fields)


def test_former_names_of_values_are_read():
    spec = Folder(path="mine", splits="deal", on_error="refuse")
    assert (spec.splits, spec.on_error) == ("random", "raise")
