"""The user's own arrays: what is read, how it is split and scaled, what is refused."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dpvae_cli.data import Arrays, Dataset
from dpvae_cli.foundation.errors import MissingError, UsageError

RANDOM = np.random.default_rng(0)
FLOATS = RANDOM.normal(size=(40, 3)) * [1.0, 5.0, 0.1] + [0.0, 100.0, -1.0]
BYTES = RANDOM.integers(0, 256, (40, 1, 4, 4)).astype(np.uint8)
NAMES = ("train", "validation", "test")


def load(path: Path, **fields) -> Dataset:
    return Arrays(path=str(path), **fields).load(path.parent, download=False)


def saved(folder: Path, array: np.ndarray | None = None, **arrays: np.ndarray) -> Path:
    """Write one array as .npy or several as .npz."""
    if array is not None:
        path = folder / "data.npy"
        np.save(path, array)
        return path
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def rows(data: Dataset) -> torch.Tensor:
    return torch.cat([data.split(name).examples() for name in NAMES])


def sizes(data: Dataset) -> list[int]:
    return [len(data.split(name)) for name in NAMES]


def test_one_array_is_cut_into_disjoint_splits_that_cover_it(tmp_path):
    numbered = np.arange(100.0).reshape(50, 2)
    data = load(saved(tmp_path, numbered), validation=0.2, test=0.1)
    assert sizes(data) == [35, 10, 5]
    assert torch.equal(rows(data)[:, 0].sort().values, torch.from_numpy(numbered[:, 0]).float())
    assert not torch.equal(rows(data)[:, 0], rows(data)[:, 0].sort().values)
    assert data.name == "data"


def test_the_deal_is_repeatable_and_follows_its_seed(tmp_path):
    path = saved(tmp_path, FLOATS)
    first, second, other = (load(path, shuffle_seed=seed) for seed in (0, 0, 1))
    for name in NAMES:
        assert torch.equal(first.split(name).examples(), second.split(name).examples())
    assert not torch.equal(first.train.examples(), other.train.examples())


def test_three_rows_are_enough(tmp_path):
    assert sizes(load(saved(tmp_path, FLOATS[:3]))) == [1, 1, 1]


@pytest.mark.parametrize("name", ["x", "anything"])
def test_npz_with_one_array(tmp_path, name):
    assert sizes(load(saved(tmp_path, **{name: FLOATS}))) == [32, 4, 4]


def test_compressed_npz(tmp_path):
    np.savez_compressed(tmp_path / "data.npz", x=FLOATS)
    assert sizes(load(tmp_path / "data.npz")) == [32, 4, 4]


def test_labels_follow_their_rows(tmp_path):
    x = np.arange(40.0).reshape(40, 1)
    data = load(saved(tmp_path, x=x, labels=np.arange(40) * 2))
    for name in NAMES:
        split = data.split(name)
        assert torch.equal(split.labels, 2 * split.examples()[:, 0].long())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", ">i4", ">f8", "float16"])
def test_labels_and_examples_of_any_numeric_type(tmp_path, dtype):
    numbers = np.arange(40).astype(dtype)
    data = load(saved(tmp_path, x=numbers.reshape(40, 1), labels=numbers), scale="none")
    assert data.train.labels.dtype in {torch.int64, torch.float32}
    assert torch.equal(data.train.labels.float(), data.train.examples()[:, 0])


def test_own_splits_are_kept_as_they_are(tmp_path):
    path = saved(
        tmp_path,
        train=FLOATS[:20],
        validation=FLOATS[20:30],
        test=FLOATS[30:],
        test_labels=np.arange(10),
    )
    data = load(path)
    assert_close(rows(data), torch.from_numpy(FLOATS).float(), rtol=0, atol=0)
    assert sizes(data) == [20, 10, 10]
    assert data.train.labels is None
    assert data.test.labels.tolist() == list(range(10))


def test_shape_without_loading(tmp_path):
    assert Arrays(path=str(saved(tmp_path, BYTES))).example_shape() == (1, 4, 4)
    path = saved(tmp_path, train=FLOATS, validation=FLOATS, test=FLOATS)
    assert Arrays(path=str(path)).example_shape() == (3,)


def test_where_the_file_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_DATA", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    spec = Arrays(path="a.npy")
    for place in (tmp_path / "root", tmp_path / "root" / "arrays", tmp_path):
        place.mkdir(exist_ok=True)
        np.save(place / "a.npy", np.zeros((3, len(str(place)))))
        assert spec.example_shape() == (len(str(place)),)


# --- scale


@pytest.mark.parametrize("scale", [None, "unit"])
def test_bytes_become_intensities(tmp_path, scale):
    data = load(saved(tmp_path, BYTES), scale=scale)
    assert data.eight_bit
    assert data.train.stored.dtype == torch.uint8
    pixels = torch.from_numpy(BYTES).float() / 255
    assert_close(rows(data).sum(), pixels.sum())
    assert rows(data).max() <= 1


def test_scale_none_keeps_bytes_as_numbers(tmp_path):
    data = load(saved(tmp_path, BYTES), scale="none")
    assert not data.eight_bit
    assert rows(data).max() == BYTES.max()


@pytest.mark.parametrize("scale", [None, "none"])
def test_floats_are_kept(tmp_path, scale):
    data = load(saved(tmp_path, FLOATS), scale=scale)
    assert not data.eight_bit
    assert_close(rows(data).sort(dim=0).values, torch.from_numpy(np.sort(FLOATS, axis=0)).float())


@pytest.mark.parametrize("array", [FLOATS, BYTES], ids=["floats", "bytes"])
def test_standardize_uses_the_training_split_alone(tmp_path, array):
    plain = load(saved(tmp_path, array), scale="none")
    data = load(saved(tmp_path, array), scale="standardize")
    train = data.train.examples()
    assert_close(train.mean(dim=0), torch.zeros(array.shape[1:]), rtol=0, atol=1e-4)
    assert_close(train.std(dim=0, correction=0), torch.ones(array.shape[1:]), rtol=1e-4, atol=0)
    spread, mean = torch.std_mean(plain.train.examples(), dim=0, correction=0)
    assert_close(data.test.examples(), (plain.test.examples() - mean) / spread)


def test_standardize_leaves_constant_columns_finite(tmp_path):
    constant = np.concatenate([FLOATS, np.full((40, 1), 7.0)], axis=1)
    assert torch.isfinite(rows(load(saved(tmp_path, constant), scale="standardize"))).all()


def test_unit_is_for_bytes(tmp_path):
    with pytest.raises(UsageError, match="unit"):
        load(saved(tmp_path, FLOATS), scale="unit")


# --- few levels, whole numbers, large offsets

BITS = (RANDOM.random((40, 6)) < 0.3).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, bool])
@pytest.mark.parametrize("binarize", [None, "threshold", "static", "dynamic"])
def test_zeros_and_ones_in_bytes_stay_zeros_and_ones(tmp_path, dtype, binarize):
    data = load(saved(tmp_path, BITS.astype(dtype)), binarize=binarize)
    assert not data.eight_bit
    assert sorted(map(tuple, rows(data).tolist())) == sorted(map(tuple, BITS.tolist()))


@pytest.mark.parametrize("top", [2, 16, 127])
def test_few_levels_in_bytes_are_asked_about_and_every_answer_works(tmp_path, top):
    levels = (np.arange(40 * 4) % (top + 1)).astype(np.uint8).reshape(40, 4)
    path = saved(tmp_path, levels)
    with pytest.raises(UsageError, match=f"8-bit values from 0 to {top}") as caught:
        load(path)
    for scale, highest in (("unit", top / 255), ("none", top)):
        assert f"data.scale={scale}" in caught.value.hint
        assert float(rows(load(path, scale=scale)).max()) == pytest.approx(highest)
    assert_close(load(path, scale="standardize").train.examples().mean(), torch.tensor(0.0))


@pytest.mark.parametrize("other", [BITS / 1.0, BITS.astype(bool), BITS.astype(np.int8)])
def test_splits_of_different_types_are_refused(tmp_path, other):
    path = saved(tmp_path, train=200 * BITS, validation=200 * BITS, test=other)
    with pytest.raises(UsageError, match="splits of different types"):
        load(path)


def test_dark_images_with_one_bright_value_are_images(tmp_path):
    assert load(saved(tmp_path, np.minimum(BYTES, 128))).eight_bit


@pytest.mark.parametrize("dtype", ["int64", "uint16", "float64"])
def test_unit_takes_8_bit_values_of_any_type(tmp_path, dtype):
    wide = load(saved(tmp_path, BYTES.astype(dtype)), scale="unit")
    assert torch.equal(rows(wide), rows(load(saved(tmp_path, BYTES))))
    assert wide.eight_bit
    assert set(
        rows(load(saved(tmp_path, BYTES.astype(dtype)), scale="unit", binarize="threshold"))
        .unique()
        .tolist()
    ) == {0.0, 1.0}


@pytest.mark.parametrize("binarize", ["threshold", "static", "dynamic"])
def test_binarised_data_of_one_value_are_refused(tmp_path, binarize):
    with pytest.raises(UsageError, match=f"binarize={binarize} makes every training value 0"):
        load(saved(tmp_path, np.zeros((40, 2))), binarize=binarize)
    with pytest.raises(UsageError, match="makes every training value 1"):
        load(saved(tmp_path, np.ones((40, 2))), binarize=binarize)


TIMES = 1_700_000_000 + np.arange(2_000)


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint32", "longdouble"])
def test_standardize_keeps_every_unix_time(tmp_path, dtype):
    table = np.stack([TIMES.astype(dtype), np.arange(2_000).astype(dtype)], axis=1)
    data = load(saved(tmp_path, table), scale="standardize")
    values = rows(data)
    assert len(values[:, 0].unique()) == 2_000
    assert_close(values[:, 0], values[:, 1], rtol=0, atol=1e-6)  # the same numbers plus a constant
    assert data.remarks == ()


def test_standardize_takes_what_float32_cannot_hold(tmp_path):
    data = load(saved(tmp_path, FLOATS * 1e200), scale="standardize")
    assert_close(rows(data), rows(load(saved(tmp_path, FLOATS), scale="standardize")))
    with pytest.raises(UsageError, match="not finite"):
        load(saved(tmp_path, FLOATS * 1e200))


def test_a_constant_that_float64_cannot_hold_is_zero(tmp_path):
    values = rows(load(saved(tmp_path, np.full((40, 1), 0.1)), scale="standardize"))
    assert float(values.abs().max()) < 1e-6


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_a_column_that_float32_blurs_is_named(tmp_path, dtype):
    table = np.stack([np.arange(2_000), TIMES, np.full(2_000, 1e9 + 1)], axis=1).astype(dtype)
    (remark,) = load(saved(tmp_path, table)).remarks
    assert "column 1 (from 0)" in remark
    assert "data.scale=standardize" in remark
    assert load(saved(tmp_path, FLOATS)).remarks == ()
    assert load(saved(tmp_path, 0.1 + 1e-17 * FLOATS)).remarks == ()


def test_whole_numbers_in_floats_are_labels_and_factors(tmp_path):
    np.save(tmp_path / "f.npy", FACTORS.astype(float))
    path = saved(tmp_path, x=FLOATS, labels=(np.arange(40) % 3).astype(float))
    data = load(path, factors="f.npy")
    assert data.train.labels.dtype == torch.int64
    assert set(data.train.labels.tolist()) == {0, 1, 2}
    assert data.train.factors.dtype == torch.int64
    times = load(saved(tmp_path, x=FLOATS, labels=TIMES[:40] + 0.25)).train.labels
    assert len(times.unique()) == 32


# --- arrays by name


def test_arrays_that_are_not_used_are_named_with_what_they_may_be(tmp_path):
    path = saved(tmp_path, x=FLOATS, y=np.arange(40), ids=np.arange(40), info=np.array([{}]))
    spec = Arrays(path=str(path))
    remarks = spec.load().remarks
    assert remarks == spec.summary().remarks
    assert remarks[0].startswith("array y of data.npz is not used; is it labels?")
    assert [remark.split()[1] for remark in remarks] == ["y", "ids", "info"]
    assert load(saved(tmp_path, x=FLOATS, labels=np.arange(40))).remarks == ()


def test_names_that_are_not_ours_come_with_the_python_that_mends_them(tmp_path, monkeypatch):
    path = saved(
        tmp_path, x_train=FLOATS, y_train=np.arange(40), x_test=FLOATS, y_test=np.arange(40)
    )
    with pytest.raises(UsageError, match="which are the examples") as caught:
        load(path)
    monkeypatch.chdir(tmp_path)
    exec(caught.value.hint.partition("Python: ")[2], {"numpy": np})
    data = load(tmp_path / "renamed.npz")
    assert sizes(data) == [36, 4, 40]
    assert sorted(data.test.labels.tolist()) == list(range(40))


@pytest.mark.parametrize("name", ["x_test", "val", "X_valid", "testing"])
def test_a_split_that_would_not_be_taken_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=f"{name} looks like a split") as caught:
        load(saved(tmp_path, **{"x": FLOATS, name: FLOATS}))
    assert 'train=a["x"]' in caught.value.hint
    with pytest.raises(UsageError, match=f"{name} looks like a split"):
        load(saved(tmp_path, **{"train": FLOATS, name: FLOATS}))


def test_a_split_that_is_missing_is_split_off_from_the_training_one(tmp_path):
    numbered = np.arange(80.0).reshape(40, 2)
    path = saved(tmp_path, train=numbered, test=numbered[:7] + 1_000, train_labels=numbered[:, 0])
    np.save(tmp_path / "f.npy", np.arange(47).reshape(47, 1))
    data = load(path, validation=0.25, factors="f.npy")
    assert sizes(data) == [30, 10, 7]
    assert dict(Arrays(path=str(path), validation=0.25).summary().sizes) == {
        "train": 30,
        "validation": 10,
        "test": 7,
    }
    own = torch.cat([data.train.stored, data.validation.stored])
    assert torch.equal(own[:, 0].sort().values, torch.from_numpy(numbered[:, 0]).float())
    assert torch.equal(data.test.stored, torch.from_numpy(numbered[:7] + 1_000).float())
    assert torch.equal(data.validation.labels.float(), data.validation.stored[:, 0])
    assert torch.equal(2 * data.validation.factors[:, 0].float(), data.validation.stored[:, 0])
    assert data.test.factors[:, 0].tolist() == list(range(40, 47))


def test_only_the_arrays_that_are_needed_are_read(tmp_path, monkeypatch):
    path = saved(tmp_path, x=FLOATS, extra=np.zeros((1_000, 1_000)), labels=np.arange(40))
    read = []
    original = np.lib.format.read_array

    def read_array(file, **options):
        array = original(file, **options)
        read.append(array.shape)
        return array

    monkeypatch.setattr(np.lib.format, "read_array", read_array)
    assert Arrays(path=str(path)).example_shape() == (3,)
    assert sum(Arrays(path=str(path)).summary().sizes.values()) == 40
    assert read == []
    monkeypatch.setattr("dpvae_cli.foundation.array_files.total_memory_bytes", lambda: 2**20)
    load(path)
    assert sorted(read) == [(40,), (40, 3)]


def test_a_csv_under_another_name_is_called_one(tmp_path):
    path = tmp_path / "x.npy"
    path.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b, _ in FLOATS))
    with pytest.raises(MissingError, match="it is a CSV") as caught:
        load(path)
    assert "ends in .csv" in caught.value.hint
    path = path.rename(tmp_path / "x.csv")
    assert_close(rows(load(path)).sum(), torch.tensor(FLOATS[:, :2].sum()).float())


@pytest.mark.parametrize("form", ["raw pickle", "object array", "object npz"])
def test_no_message_recommends_pickles(tmp_path, form):
    path = tmp_path / "x.npz"
    if form == "raw pickle":
        path.write_bytes(pickle.dumps([1, 2]))
    elif form == "object array":
        path = saved(tmp_path, np.array([[{}, 1]] * 3, dtype=object))
    else:
        path = saved(tmp_path, x=np.array([[{}, 1]] * 3, dtype=object))
    with pytest.raises(MissingError) as caught:
        load(path)
    said = f"{caught.value} {caught.value.hint}"
    assert "allow_pickle" not in said
    assert "pickle.load" not in said
    assert "is not" in said or "Python objects" in said


def test_a_file_that_is_cut_short_says_so(tmp_path):
    path = saved(tmp_path, FLOATS)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(MissingError, match="cut short"):
        load(path)


def test_binarised_arrays(tmp_path):
    data = load(saved(tmp_path, BYTES), binarize="dynamic")
    assert not data.eight_bit
    assert set(rows(data).unique().tolist()) == {0.0, 1.0}
    assert data.train.binarize_from is not None
    with pytest.raises(UsageError, match="binarize"):
        load(saved(tmp_path, FLOATS), binarize="static")


# --- refusals


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_the_malicious_object_works(tmp_path):
    """Guard the next test: unpickling does create the file."""
    pickle.loads(pickle.dumps(Malicious(tmp_path / "pwned")))
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize("form", ["npy", "npz", "npz labels", "raw pickle"])
def test_pickled_objects_are_refused_and_not_executed(tmp_path, form):
    target = tmp_path / "pwned"
    objects = np.array([[Malicious(target)] * 2] * 3, dtype=object)
    if form == "raw pickle":
        path = tmp_path / "data.npy"
        path.write_bytes(pickle.dumps(Malicious(target)))
    elif form == "npy":
        path = saved(tmp_path, objects)
    elif form == "npz":
        path = saved(tmp_path, x=objects)
    else:
        path = saved(tmp_path, x=FLOATS, labels=objects)
    with pytest.raises(MissingError, match="cannot be read") as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "numpy.save" in caught.value.hint
    assert not target.exists()


def test_damaged_and_foreign_files_are_refused(tmp_path):
    whole = saved(tmp_path, x=FLOATS).read_bytes()
    np.savez_compressed(tmp_path / "packed.npz", x=FLOATS)
    packed = (tmp_path / "packed.npz").read_bytes()
    spoilt = packed[:200] + bytes(100) + packed[300:]
    cases = [b"", b"no numbers", whole[:-30], whole[:50], spoilt]
    for number, content in enumerate(cases):
        path = tmp_path / f"damaged{number}.npz"
        path.write_bytes(content)
        with pytest.raises(MissingError, match="cannot be read"):
            load(path)


def test_archives_of_other_things_are_refused(tmp_path):
    path = tmp_path / "text.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(MissingError, match=r"readme\.txt"):
        load(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("split", ["x", "test"])
def test_values_that_are_not_finite_are_refused(tmp_path, bad, split):
    spoilt = FLOATS.copy()
    spoilt[-1, -1] = bad
    arrays = {"x": spoilt} if split == "x" else dict.fromkeys(NAMES, FLOATS) | {"test": spoilt}
    with pytest.raises(UsageError, match=rf"{split} has values that are not finite"):
        load(saved(tmp_path, **arrays))


@pytest.mark.parametrize("dtype", ["float16", "float32", "longdouble"])
def test_values_of_other_widths_that_are_not_finite_are_refused(tmp_path, dtype):
    with pytest.raises(UsageError, match="not finite"):
        load(saved(tmp_path, np.array([[1.0], [np.inf], [2.0]], dtype=dtype)))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(10),
        np.zeros((2, 3)),
        np.zeros((0, 3)),
        np.zeros((5, 0)),
        np.array([["a", "b"]] * 4),
        np.zeros((4, 2), dtype=complex),
    ],
    ids=["vector", "two rows", "no rows", "no columns", "text", "complex"],
)
def test_odd_arrays_are_refused(tmp_path, array):
    with pytest.raises(UsageError, match="has shape"):
        load(saved(tmp_path, array))


def test_ambiguous_names_are_refused(tmp_path):
    with pytest.raises(UsageError, match="one, two"):
        load(saved(tmp_path, one=FLOATS, two=FLOATS))


def test_splits_of_different_shapes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="different shapes"):
        load(saved(tmp_path, train=FLOATS, validation=FLOATS, test=FLOATS[:, :2]))


@pytest.mark.parametrize("labels", [np.zeros(39), np.array(["a"] * 40), np.float64(1)])
def test_labels_that_do_not_fit_are_refused(tmp_path, labels):
    with pytest.raises(UsageError, match="40 numbers are expected"):
        load(saved(tmp_path, x=FLOATS, labels=labels))


def test_a_missing_file_names_every_place(tmp_path):
    with pytest.raises(MissingError) as caught:
        Arrays(path="nowhere.npy").load(tmp_path)
    for place in (tmp_path / "arrays" / "nowhere.npy", tmp_path / "nowhere.npy"):
        assert str(place) in str(caught.value)
    assert "--data-root" in caught.value.hint


def test_shares_that_leave_nothing_are_refused(tmp_path):
    with pytest.raises(UsageError, match="none to train on"):
        load(saved(tmp_path, FLOATS), validation=0.6, test=0.5)


FACTORS = np.stack([np.arange(40) % 3, np.arange(40) // 3], axis=1)


def test_factors_follow_their_examples(tmp_path):
    numbered = np.arange(80.0).reshape(40, 2)
    np.save(tmp_path / "f.npy", FACTORS)
    data = load(saved(tmp_path, numbered), factors="f.npy", scale="none")
    for name in NAMES:
        split = data.split(name)
        row = (split.stored[:, 0] / 2).long()
        assert torch.equal(split.factors, torch.from_numpy(FACTORS)[row])
    assert [factor.name for factor in data.factors] == ["factor 0", "factor 1"]
    assert load(tmp_path / "data.npy").train.factors is None
    assert load(tmp_path / "data.npy").factors == ()


def test_factors_of_a_file_with_splits_are_theirs_in_order(tmp_path):
    np.save(tmp_path / "f.npy", FACTORS.astype(np.uint8))
    path = saved(tmp_path, train=FLOATS[:30], validation=FLOATS[30:36], test=FLOATS[36:])
    data = load(path, factors=str(tmp_path / "f.npy"), scale="standardize", binarize=None)
    assert [len(data.split(name).factors) for name in NAMES] == [30, 6, 4]
    found = torch.cat([data.split(name).factors for name in NAMES])
    assert torch.equal(found, torch.from_numpy(FACTORS))


def test_factors_survive_binarisation(tmp_path):
    np.save(tmp_path / "f.npy", FACTORS)
    data = load(saved(tmp_path, BYTES), factors="f.npy", binarize="dynamic")
    assert data.train.factors.shape == (32, 2)
    assert data.train.to(torch.device("cpu")).factors is not None


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        (FACTORS[:-1], r"\(39, 2\)"),
        (FACTORS[:, 0], r"\(40,\)"),
        (FACTORS + 0.5, "float64"),
        (FACTORS[:, :0], r"\(40, 0\)"),
    ],
)
def test_odd_factors_are_refused(tmp_path, factors, said):
    np.save(tmp_path / "f.npy", factors)
    with pytest.raises(UsageError, match=said) as caught:
        load(saved(tmp_path, FLOATS), factors="f.npy")
    assert "a row for each of 40 examples" in str(caught.value)


def test_factors_that_are_not_there(tmp_path):
    with pytest.raises(MissingError, match=r"data\.factors f\.npy was not found"):
        load(saved(tmp_path, FLOATS), factors="f.npy")
