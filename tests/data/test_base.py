"""Splits, holding out, binarisation and fingerprints."""

import hashlib

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dpvae_cli.data.base import binarize_split, hold_out
from dpvae_cli.data.dataset import Dataset, Split
from dpvae_cli.data.locations import cache_root, candidate_folders, data_root
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import derive_seed, stream

GREY = Split(torch.randint(0, 256, (40, 1, 5, 5), dtype=torch.uint8), torch.arange(40))
EVERYTHING = torch.arange(40)


def test_bytes_are_read_as_intensities():
    split = Split(torch.tensor([[0, 51, 255]], dtype=torch.uint8))
    assert_close(split.examples(), torch.tensor([[0.0, 0.2, 1.0]]))


def test_floats_are_read_as_they_are():
    stored = torch.tensor([[0.0, 51.0], [-3.0, 2.0]])
    split = Split(stored)
    assert torch.equal(split.examples(), stored)
    assert torch.equal(split.examples(torch.tensor([1])), stored[1:])
    assert torch.equal(split.examples(slice(0, 1)), stored[:1])


def test_without_binarisation_a_training_batch_is_what_evaluation_sees():
    index = torch.tensor([3, 1])
    assert torch.equal(GREY.training_batch(index, stream(0, "b")), GREY.examples(index))
    assert binarize_split(GREY, None, "train") is GREY


def test_threshold():
    split = Split(torch.tensor([[0, 127, 128, 255]], dtype=torch.uint8))
    assert binarize_split(split, "threshold", "train").examples().tolist() == [[0.0, 0.0, 1.0, 1.0]]


@pytest.mark.parametrize("how", ["threshold", "static", "dynamic"])
def test_binarised_examples_are_zeros_and_ones_and_keep_their_labels(how):
    split = binarize_split(GREY, how, "train")
    batch = split.training_batch(EVERYTHING, stream(0, "b"))
    for values in (split.examples(), batch):
        assert set(values.unique().tolist()) == {0.0, 1.0}
        assert values.dtype == torch.float32
    assert torch.equal(split.labels, GREY.labels)


@pytest.mark.parametrize("how", ["threshold", "static", "dynamic"])
def test_evaluation_sees_the_same_at_every_load(how):
    first, second = (binarize_split(GREY, how, "train") for _ in range(2))
    assert torch.equal(first.examples(), second.examples())
    assert torch.equal(first.examples(), first.examples())


def test_static_draws_differ_between_splits_and_follow_the_grey_values():
    train, test = (binarize_split(GREY, "static", name).examples() for name in ("train", "test"))
    assert not torch.equal(train, test)
    grey = GREY.examples()
    error = (grey * (1 - grey)).sum().sqrt() / grey.numel()
    assert (train.mean() - grey.mean()).abs() < 4 * error


RAMP = Split((torch.arange(2_500 * 6) % 256).to(torch.uint8).view(2_500, 1, 2, 3))
"""More rows than are drawn at a time."""


def test_static_draws_are_these_very_ones_whatever_the_seeds_and_threads():
    """Written down once: every run, machine and version must draw them again."""
    threads, digests = torch.get_num_threads(), set()
    for seed in (0, 7):
        torch.manual_seed(seed)
        np.random.seed(seed)
        torch.set_num_threads(1 + seed % 2)
        drawn = binarize_split(RAMP, "static", "train").stored.numpy()
        digests.add(hashlib.sha256(drawn.tobytes()).hexdigest()[:16])
    torch.set_num_threads(threads)
    assert digests == {"a4d8488c749341da"}


def test_static_draws_follow_from_the_generator_s_raw_words():
    """One where the upper 53 bits of PCG64's next word, read as a fraction, are below x / 255."""
    words = np.random.PCG64(derive_seed(0, "test")).random_raw(RAMP.stored.numel())
    fractions = [int(word) >> 11 for word in words]
    expected = [
        255 * fraction < int(value) * 2**53
        for fraction, value in zip(fractions, RAMP.stored.flatten().tolist(), strict=True)
    ]
    assert (binarize_split(RAMP, "static", "test").stored.flatten() > 0).tolist() == expected


def test_static_draws_of_floats_and_bytes_agree():
    floats = Split(RAMP.stored.double() / 255)
    drawn = [binarize_split(split, "static", "test").stored for split in (RAMP, floats)]
    assert torch.equal(*drawn)


def test_static_draws_keep_black_and_white():
    split = Split(torch.tensor([0, 255], dtype=torch.uint8).expand(50, 2).contiguous())
    assert torch.equal(binarize_split(split, "static", "train").stored, split.stored)


def test_static_draws_have_the_intensity_as_their_probability():
    split = Split(torch.arange(256, dtype=torch.uint8).expand(4_000, 256).contiguous())
    frequency = binarize_split(split, "static", "train").examples().double().mean(dim=0)
    p = torch.arange(256).double() / 255
    surprise = (frequency - p)[1:-1] / (p * (1 - p) / 4_000).sqrt()[1:-1]
    assert surprise.abs().max() < 4.5
    assert surprise.std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("how", [None, "static", "dynamic"])
def test_a_part_is_cut_from_everything(how):
    whole = binarize_split(GREY, how, "train")
    part = whole.subset(slice(5, 9))
    assert torch.equal(part.examples(), whole.examples(slice(5, 9)))
    assert part.labels.tolist() == [5, 6, 7, 8]
    batches = [
        split.training_batch(index, stream(0, "b"))
        for split, index in ((part, torch.tensor([1, 2])), (whole, torch.tensor([6, 7])))
    ]
    assert torch.equal(*batches)
    assert Split(torch.zeros(4, 1)).subset(slice(2)).labels is None


@pytest.mark.parametrize("how", ["threshold", "static"])
def test_fixed_binarisation_trains_on_what_it_evaluates(how):
    split = binarize_split(GREY, how, "train")
    assert torch.equal(split.training_batch(EVERYTHING, stream(0, "b")), split.examples())


def test_dynamic_batches_differ_and_average_to_the_grey_value():
    split, grey, draws = binarize_split(GREY, "dynamic", "train"), GREY.examples(), 400
    batches = torch.stack(
        [split.training_batch(EVERYTHING, stream(0, "batch", i)) for i in range(draws)]
    )
    again = split.training_batch(EVERYTHING, stream(0, "batch", 0))
    assert torch.equal(batches[0], again)
    assert not torch.equal(batches[0], batches[1])
    error = (grey * (1 - grey) / draws).sqrt()
    surprise = (batches.mean(dim=0) - grey) / error.clamp(min=1e-9)
    assert surprise.abs().max() < 5
    assert surprise.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("values", [[-0.1, 0.5], [0.0, 255.0]], ids=str)
def test_binarisation_refuses_values_outside_the_unit_interval(values):
    with pytest.raises(UsageError, match=r"values in \[0, 1\]"):
        binarize_split(Split(torch.tensor([values])), "threshold", "train")


def test_hold_out_cuts_from_the_end():
    assert hold_out(10, validation=3, test=2) == {
        "train": slice(0, 5),
        "validation": slice(5, 8),
        "test": slice(8, 10),
    }
    with pytest.raises(UsageError, match="5 of 5 examples leaves none"):
        hold_out(5, validation=3, test=2)


def test_moving_keeps_everything():
    split = binarize_split(GREY, "dynamic", "train").to(torch.device("meta"))
    tensors = (split.stored, split.labels, split.binarize_from)
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 3
    bare = Split(torch.zeros(2, 1)).to(torch.device("meta"))
    assert bare.labels is None
    assert bare.binarize_from is None


def test_splits_by_name_and_shape():
    splits = {name: Split(torch.full((3, 2), i)) for i, name in enumerate(NAMES)}
    data = Dataset("x", **splits)
    assert all(data.split(name) is splits[name] for name in NAMES)
    assert data.example_shape == (2,)


NAMES = ("train", "validation", "test")


def fingerprint(stored: torch.Tensor) -> str:
    return Dataset("x", *(Split(part) for part in (stored, stored[:1], stored[:1]))).fingerprint()


def test_fingerprints_tell_values_shapes_and_types():
    stored = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    others = [stored.flip(0), stored.reshape(4, 3), stored.float(), stored[:2]]
    assert len({fingerprint(each) for each in (stored, *others)}) == 5
    assert fingerprint(stored) == fingerprint(stored.clone())
    assert fingerprint(stored.T) == fingerprint(stored.T.contiguous())


def test_where_data_is_looked_for(monkeypatch, tmp_path):
    for variable in ("DPVAE_DATA", "DPVAE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "dpvae"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_root() == tmp_path / "xdg" / "dpvae" / "data"
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    assert data_root() == tmp_path / "cache" / "data"
    monkeypatch.setenv("DPVAE_DATA", "~/sets")
    assert data_root() == tmp_path / "sets"
    assert data_root(tmp_path / "given") == tmp_path / "given"
    assert candidate_folders("mnist", tmp_path) == [tmp_path / "mnist", tmp_path]
