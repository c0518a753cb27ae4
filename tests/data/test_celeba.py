"""CelebA from small files in the official layout: splits, attributes, crop, and what goes wrong."""

import numpy as np
import pytest
import torch

from dpvae_cli.data import Celeba
from dpvae_cli.data.images import ImageTransform, read_image
from dpvae_cli.foundation.errors import MissingError, UsageError
from tests.data.synthetic import draw

IMAGES = "img_align_celeba"
PARTITION, ATTRIBUTES = "list_eval_partition.txt", "list_attr_celeba.txt"
COUNT = 20
NAMES = [f"{number:06d}.jpg" for number in range(1, COUNT + 1)]
SPEC = Celeba(crop=74, size=8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Return a folder with 20 JPEG files of half the official size."""
    folder = tmp_path_factory.mktemp("faces")
    for seed, name in enumerate(NAMES):
        draw(folder / name, 89, 109, seed=seed)
    return folder


@pytest.fixture
def base(tmp_path, faces):
    """Return a data root in which celeba/img_align_celeba has copies of the faces."""
    folder = tmp_path / "data" / "celeba"
    (folder / IMAGES).mkdir(parents=True)
    for name in NAMES:
        (folder / IMAGES / name).hardlink_to(faces / name)
    return folder


def load(base, spec=SPEC):
    return spec.load(base.parent)


def write_partition(base, codes, place="."):
    (base / place).mkdir(exist_ok=True)
    lines = [f"{name} {code}\n" for name, code in zip(NAMES, codes, strict=True)]
    (base / place / PARTITION).write_text("".join(lines))


def write_attributes(base, *, count=COUNT, place="."):
    """Write as the authors do: the count, the names with a space after them, aligned values."""
    (base / place).mkdir(exist_ok=True)
    values = np.where(np.random.default_rng(0).random((COUNT, 3)) < 0.5, -1, 1)
    rows = [
        f"{n} " + " ".join(f"{v:2d}" for v in row) for n, row in zip(NAMES, values, strict=True)
    ]
    (base / place / ATTRIBUTES).write_text(
        "\n".join([str(count), "Bald Male Young ", *rows]) + "\n"
    )
    return values


def expected(base, names):
    squares = [read_image(base / IMAGES / name, ImageTransform(74, 8, "rgb")) for name in names]
    return torch.from_numpy(np.stack(squares))


OFFICIAL = [0] * 12 + [1] * 5 + [2] * 3


@pytest.mark.parametrize("place", [".", "Eval"])
def test_the_official_partition(base, place):
    write_partition(base, OFFICIAL, place)
    data = load(base)
    cuts = {"train": NAMES[:12], "validation": NAMES[12:17], "test": NAMES[17:]}
    for split, names in cuts.items():
        assert torch.equal(data.split(split).stored, expected(base, names))
    assert data.eight_bit
    assert data.example_shape == SPEC.example_shape() == (3, 8, 8)
    assert data.note == "20 of CelebA's 202,599 images: no published number compares"


def test_a_partition_in_any_order(base):
    codes = [2, 0, 1, 0] * 5
    write_partition(base, codes)
    data = load(base)
    for split, code in (("train", 0), ("validation", 1), ("test", 2)):
        names = [name for name, c in zip(NAMES, codes, strict=True) if c == code]
        assert torch.equal(data.split(split).stored, expected(base, names))


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        (None, "there is no list_eval_partition.txt"),
        ([0] * COUNT, "leaves validation and test empty"),
        ([0] * 10 + [1] * 10, "leaves test empty"),
        ([2] * 10 + [1] * 10, "leaves train empty"),
    ],
)
def test_without_a_usable_partition_the_split_is_80_10_10_and_says_so(base, codes, reason):
    if codes is not None:
        write_partition(base, codes)
    data = load(base)
    cuts = {"train": NAMES[:16], "validation": NAMES[16:18], "test": NAMES[18:]}
    for split, names in cuts.items():
        assert torch.equal(data.split(split).stored, expected(base, names))
    assert reason in data.note
    assert "80/10/10 in their order" in data.note


def test_the_whole_set_with_its_partition_needs_no_note(base, monkeypatch):
    monkeypatch.setattr("dpvae_cli.data.celeba.OFFICIAL_COUNT", COUNT)
    write_partition(base, OFFICIAL)
    assert load(base).note is None


@pytest.mark.parametrize("place", [".", "Anno"])
def test_attributes_are_labels(base, place):
    values = write_attributes(base, place=place)
    write_partition(base, [2, 0, 1, 0] * 5)
    data = load(base)
    assert data.train.labels.tolist() == ((values[1::2] + 1) // 2).tolist()
    assert data.test.labels.tolist() == ((values[0::4] + 1) // 2).tolist()
    assert load(base, SPEC.model_copy(update={"size": 4})).train.labels.shape == (10, 3)


def test_without_attributes_there_are_no_labels(base):
    assert load(base).train.labels is None


def test_skipped_files_take_their_labels_along(base):
    values = write_attributes(base)
    write_partition(base, OFFICIAL)
    (base / IMAGES / NAMES[3]).unlink()
    (base / IMAGES / NAMES[3]).write_bytes(b"")
    with pytest.raises(MissingError, match=f"{NAMES[3]}: the file is empty"):
        load(base)
    data = load(base, SPEC.model_copy(update={"on_error": "skip"}))
    kept = [0, 1, 2, *range(4, 12)]
    assert torch.equal(data.train.stored, expected(base, [NAMES[i] for i in kept]))
    assert data.train.labels.tolist() == ((values[kept] + 1) // 2).tolist()
    assert "1 unreadable file left out" in data.note


def test_the_default_crop_on_half_size_images_names_the_fitting_one(base):
    with pytest.raises(UsageError, match="148 is more than") as caught:
        load(base, Celeba())
    assert "data.crop=74" in caught.value.hint
    assert "178x218" in caught.value.hint


def test_images_may_lie_right_in_the_root_or_a_folder_deeper(tmp_path, faces):
    deeper = tmp_path / "data" / IMAGES / IMAGES
    deeper.mkdir(parents=True)
    for name in NAMES:
        (deeper / name).hardlink_to(faces / name)
    (tmp_path / "data" / PARTITION).write_text(
        "".join(f"{name} {code}\n" for name, code in zip(NAMES, OFFICIAL, strict=True))
    )
    assert len(SPEC.load(tmp_path / "data").validation) == 5


def test_nothing_there_says_what_to_put_where_and_downloads_nothing(tmp_path):
    with pytest.raises(MissingError, match="CelebA was not found") as caught:
        SPEC.load(tmp_path, download=True)
    for said in ("never downloads", f"{IMAGES}.zip", PARTITION, ATTRIBUTES, "--data-root"):
        assert said in caught.value.hint
    assert str(tmp_path / "celeba" / IMAGES / "000001.jpg") in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def spoil(base, file, change):
    path = base / file
    path.write_text(change(path.read_text()))


DAMAGE = {
    "an unknown split": (PARTITION, lambda t: t.replace("1.jpg 0", "1.jpg 3", 1), ":1:"),
    "a word missing": (PARTITION, lambda t: t.replace("000002.jpg 0", "000002.jpg"), ":2:"),
    "a missing image": (PARTITION, lambda t: t.replace("000005", "500000"), "000005.jpg"),
    "a cut list": (ATTRIBUTES, lambda t: t[: len(t) // 2], "damaged"),
    "nothing": (ATTRIBUTES, lambda t: "", "damaged"),
    "no names": (ATTRIBUTES, lambda t: "0\n\n", "damaged"),
    "another value": (ATTRIBUTES, lambda t: t.replace(" 1", " 2", 1), ":3:|:4:|:5:"),
    "a value missing": (ATTRIBUTES, lambda t: t[:-3] + "\n", ":22:"),
    "an unknown image": (ATTRIBUTES, lambda t: t.replace("000007", "700000"), "000007.jpg"),
}


@pytest.mark.parametrize(("file", "change", "named"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_lists_are_named(base, file, change, named):
    write_partition(base, OFFICIAL)
    write_attributes(base)
    spoil(base, file, change)
    with pytest.raises(MissingError, match=named) as caught:
        load(base)
    assert file in str(caught.value)


def test_a_list_that_is_no_text_is_named(base):
    (base / PARTITION).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MissingError, match=PARTITION):
        load(base)
