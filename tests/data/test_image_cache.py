"""Pictures are decoded once, mapped from then on, and never taken for others."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dpvae_cli.data import image_cache
from dpvae_cli.data.dataset import Dataset, Split
from dpvae_cli.data.image_cache import ImageSource, load_splits
from dpvae_cli.data.images import CropError, ImageTransform, read_image
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.progress import ProgressEvent, handle_progress
from tests.data.synthetic import draw, draw_all

SMALL = ImageTransform(crop=None, size=8, colour="rgb")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pictures"


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of the files that are decoded from now on."""
    names = []

    def read(path, transform):
        names.append(path.name)
        return read_image(path, transform)

    monkeypatch.setattr(image_cache, "read_image", read)
    return names


def source(folder, count=5, *, transform=SMALL, **kwargs):
    """Draw pictures where there are none; return three of them as train, one each held out."""
    if not folder.exists():
        draw_all(folder, count, width=20, height=20, **kwargs)
    names = sorted(path.name for path in folder.iterdir())
    parts = {"train": names[:-2], "validation": names[-2:-1], "test": names[-1:]}
    return ImageSource("some", folder, parts, transform)


def load(chosen, *, on_error="refuse"):
    return load_splits(chosen, on_error=on_error)[0]


def test_each_split_has_its_pictures_in_order(tmp_path):
    chosen = source(tmp_path / "in")
    parts = load(chosen)
    assert list(parts) == ["train", "validation", "test"]
    for split, part in parts.items():
        assert part.names == tuple(chosen.parts[split])
        for name, row in zip(part.names, part.stored, strict=True):
            expected = read_image(tmp_path / "in" / name, SMALL)
            assert np.array_equal(row.numpy(), expected)


def test_the_second_load_decodes_nothing(tmp_path, decoded):
    first = load(source(tmp_path / "in"))
    assert len(decoded) >= 5
    decoded.clear()
    second = load(source(tmp_path / "in"))
    assert decoded == []
    assert torch.equal(first["train"].stored, second["train"].stored)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_pictures_are_mapped_not_read(tmp_path, cache):
    stored = load(source(tmp_path / "in"))["train"].stored
    (file,) = cache.glob("*.npy")
    first = stored.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(file)):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            assert start <= first < end
            return
    raise AssertionError("the cache file is not mapped")


def test_a_data_set_of_mapped_pictures_behaves_as_one_in_memory(tmp_path):
    stored = load(source(tmp_path / "in", 9))["train"].stored
    split, copy = Split(stored), Split(stored.clone())
    index = torch.tensor([4, 0, 4])
    assert torch.equal(split.examples(index), copy.examples(index))
    assert split.to(torch.device("cpu")).stored.data_ptr() == stored.data_ptr()
    mapped, plain = (Dataset("x", s, s, s).fingerprint() for s in (split, copy))
    assert mapped == plain


def test_nothing_written_reaches_the_file(tmp_path):
    stored = load(source(tmp_path / "in"))["train"].stored
    before = stored.clone()
    stored.zero_()
    assert torch.equal(load(source(tmp_path / "in"))["train"].stored, before)


def other_size(chosen):
    return ImageSource("some", chosen.folder, chosen.parts, ImageTransform(None, 9, "rgb"))


def other_crop(chosen):
    return ImageSource("some", chosen.folder, chosen.parts, ImageTransform(7, 8, "rgb"))


def other_colour(chosen):
    return ImageSource("some", chosen.folder, chosen.parts, ImageTransform(None, 8, "grey"))


def other_order(chosen):
    parts = {"train": chosen.parts["train"][::-1], **{k: chosen.parts[k] for k in HELD}}
    return ImageSource("some", chosen.folder, parts, SMALL)


def other_picture(chosen):
    draw(chosen.folder / "000002.png", 20, 20, seed=77)
    return chosen


def other_time(chosen):
    os.utime(chosen.folder / "000002.png", ns=(1, 1))
    return chosen


def other_folder(chosen):
    """The same names, sizes and times: only the place differs."""
    folder = chosen.folder.with_name("copy")
    shutil.copytree(chosen.folder, folder)
    return ImageSource("some", folder, chosen.parts, SMALL)


HELD = ("validation", "test")
CHANGES = (
    other_size,
    other_crop,
    other_colour,
    other_order,
    other_picture,
    other_time,
    other_folder,
)


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_pixels_makes_another_cache(tmp_path, change, decoded):
    chosen = source(tmp_path / "in")
    load(chosen)
    decoded.clear()
    changed = change(chosen)
    parts = load(changed)
    assert decoded
    for name, row in zip(parts["train"].names, parts["train"].stored, strict=True):
        expected = read_image(changed.folder / name, changed.transform)
        assert np.array_equal(row.numpy(), expected)


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def swap(file):
    np.save(file, np.zeros((5, 3, 9, 9), np.uint8))


def spoil_list(file):
    file.with_suffix(".json").write_text("[]")


@pytest.mark.parametrize("spoil", [cut, swap, spoil_list, lambda file: file.write_bytes(b"")])
def test_a_damaged_cache_is_made_again(tmp_path, cache, spoil):
    before = load(source(tmp_path / "in"))["train"].stored.clone()
    (file,) = cache.glob("*.npy")
    spoil(file)
    assert torch.equal(load(source(tmp_path / "in"))["train"].stored, before)


def with_damage(tmp_path, count=6):
    chosen = source(tmp_path / "in", count)
    (chosen.folder / "000002.png").write_bytes(b"")
    (chosen.folder / "000003.png").write_text("no picture")
    return chosen


def test_unreadable_files_are_all_named_and_nothing_is_left(tmp_path, cache):
    with pytest.raises(MissingError, match="2 of 6 images") as caught:
        load(with_damage(tmp_path))
    assert "000002.png: the file is empty" in str(caught.value)
    assert "000003.png: not an image" in str(caught.value)
    assert "data.on_error=skip" in caught.value.hint
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_many_unreadable_files_are_counted(tmp_path):
    chosen = source(tmp_path / "in", 25)
    for name in chosen.names[1:]:
        (chosen.folder / name).write_bytes(b"")
    with pytest.raises(MissingError, match=r"24 of 25(.|\n)*and 4 more"):
        load(chosen)


@pytest.mark.parametrize("load_number", ["first", "second"])
def test_skipping_leaves_them_out(tmp_path, load_number, decoded):
    chosen = with_damage(tmp_path)
    parts, skipped = load_splits(chosen, on_error="skip")
    if load_number == "second":
        decoded.clear()
        parts, skipped = load_splits(chosen, on_error="skip")
        assert decoded == []
    assert set(skipped) == {"000002.png", "000003.png"}
    assert parts["train"].names == ("000001.png", "000004.png")
    assert parts["train"].stored.shape == (2, 3, 8, 8)
    expected = read_image(chosen.folder / "000004.png", SMALL)
    assert np.array_equal(parts["train"].stored[1].numpy(), expected)


def test_what_was_skipped_once_is_still_refused(tmp_path):
    chosen = with_damage(tmp_path)
    load(chosen, on_error="skip")
    with pytest.raises(MissingError, match="000003"):
        load(chosen)


def test_a_split_without_readable_pictures_is_an_error(tmp_path):
    chosen = source(tmp_path / "in")
    (chosen.folder / chosen.parts["test"][0]).write_bytes(b"")
    with pytest.raises(MissingError, match="test split"):
        load(chosen, on_error="skip")


def test_nothing_readable_is_an_error_even_when_skipping(tmp_path):
    chosen = source(tmp_path / "in")
    for name in chosen.names:
        (chosen.folder / name).write_bytes(b"")
    with pytest.raises(MissingError, match="5 of 5"):
        load(chosen, on_error="skip")


@pytest.mark.parametrize("number", [1, 4])
def test_a_picture_smaller_than_the_crop_is_an_error_even_when_skipping(tmp_path, number, cache):
    chosen = source(tmp_path / "in", transform=ImageTransform(15, 8, "rgb"))
    draw(chosen.folder / f"00000{number}.png", 14, 30)
    with pytest.raises(CropError, match=f"00000{number}.png"):
        load(chosen, on_error="skip")
    assert not list(cache.glob("*.npy"))


def test_progress_is_reported_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "BLOCK", 2)
    events = []
    with handle_progress(events.append):
        load(source(tmp_path / "in"))
        load(source(tmp_path / "in"))
    assert events == [ProgressEvent("decoding some", done, 5) for done in (2, 4, 5)]


def test_rows_do_not_depend_on_blocks(tmp_path, monkeypatch, cache):
    whole = load(source(tmp_path / "in"))["train"].stored.clone()
    shutil.rmtree(cache)
    monkeypatch.setattr(image_cache, "BLOCK", 2)
    assert torch.equal(load(source(tmp_path / "in"))["train"].stored, whole)


def test_an_interrupted_decoding_leaves_no_cache(tmp_path, cache, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_cache, "report_progress", stop)
    with pytest.raises(KeyboardInterrupt):
        load(source(tmp_path / "in"))
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="cannot write to") as caught:
        load(source(tmp_path / "in"))
    assert "DPVAE_CACHE" in caught.value.hint


def test_odd_names_are_fine(tmp_path, cache):
    folder = tmp_path / ("ü" * 60)
    draw_all(folder, 2, width=9, height=9)
    (folder / "000002.png").rename(folder / os.fsdecode(b"\xff .png"))
    names = sorted(path.name for path in folder.iterdir())
    parts = {"train": names[:1], "test": names[1:]}
    loaded = load(ImageSource(folder.name, folder, parts, SMALL))
    assert loaded["test"].names == (names[1],)
    assert all(len(os.fsencode(path.name)) < 255 for path in cache.iterdir())


def test_the_list_of_the_skipped_is_json(tmp_path, cache):
    load(with_damage(tmp_path), on_error="skip")
    (file,) = cache.glob("*.json")
    assert set(json.loads(file.read_text())["skipped"]) == {"000002.png", "000003.png"}
