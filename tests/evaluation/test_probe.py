"""Probes of labels: planted codes, chance, attributes, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import dpvae_cli as dpvae
from dpvae_cli.data import Dataset, Split
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.priors import StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from tests.evaluation.test_disentanglement import linear_model
from tests.small import random_dataset

SIZES = Evaluation(probe_samples=500)
NAMES = ["probe", "probe_knn", "probe_generation", "probe_knn_generation"]


def split(seed, labels_of, count=600):
    x = torch.randn(count, 3, generator=stream(seed, "probe"))
    return Split(x, labels_of(x))


def data(labels_of):
    train, test = split(0, labels_of), split(1, labels_of, 300)
    return Dataset("planted", train=train, validation=test, test=test)


def measured(labels_of, **changes):
    sizes = SIZES.model_copy(update=changes)
    model = linear_model(StandardNormalPrior(3))
    return dpvae.evaluate(model, data(labels_of), ["probe"], evaluation=sizes)


def side(x):
    return (x[:, 0] > 0).long() + 5


def ring(x):
    return (x.norm(dim=1) > 1.5).long()


def test_a_linear_label_is_found_by_both():
    linear, nearest, *again = measured(side)
    assert linear.value > 0.97
    assert nearest.value > 0.88
    assert [result.metric for result in (linear, nearest, *again)] == NAMES
    assert [result.value for result in again] == [linear.value, nearest.value]
    assert (linear.samples, linear.split) == (300, "test")
    assert linear.details["training_examples"] == 500
    assert (linear.details["neighbours"], nearest.details["neighbours"]) == (None, 5)
    p = linear.value
    assert linear.standard_error == pytest.approx(np.sqrt(p * (1 - p) / 299), rel=1e-6)


def test_a_ring_is_found_by_neighbours_alone():
    linear, nearest, *_ = measured(ring)
    assert linear.value < linear.details["commonest"] + 0.05
    assert nearest.value > linear.value + 0.15


def test_labels_that_codes_do_not_tell_are_left_to_chance():
    def coin(x):
        return torch.randint(4, (len(x),), generator=stream(len(x), "coin"))

    for result in measured(coin):
        assert abs(result.value - 0.25) < 4 * result.standard_error + 0.02
        assert abs(result.details["commonest"] - 0.25) < 0.1


def test_numbers_are_scikit_learns_on_standardised_codes():
    everything = data(side)
    train, test = everything.train.stored.numpy(), everything.test.stored.numpy()
    mean, spread = train.mean(axis=0), train.std(axis=0)
    x, y = (train - mean) / spread, (test - mean) / spread
    found = measured(side, probe_samples=600)
    for result, classifier in zip(
        found, (LogisticRegression(max_iter=1000), KNeighborsClassifier(5)), strict=False
    ):
        fitted = classifier.fit(x, everything.train.labels.numpy())
        expected = fitted.score(y, everything.test.labels.numpy())
        assert result.value == pytest.approx(expected, abs=1 / 300)


def test_attributes_are_averaged_and_may_be_constant():
    def attributes(x):
        constant = torch.ones(len(x))
        return torch.stack([(x[:, 0] > 0).float(), (x[:, 1] > 0).float(), constant], dim=1).byte()

    linear = measured(attributes)[0]
    assert linear.details["labels"] == 3
    assert linear.value > 0.97
    assert linear.details["commonest"] == pytest.approx((1 + 0.5 + 0.5) / 3, abs=0.05)


def test_the_split_is_the_evaluations():
    assert measured(side, split="validation")[0].split == "validation"


def test_data_without_labels_is_refused():
    model = linear_model(StandardNormalPrior(3))
    with pytest.raises(UsageError, match="no labels to probe") as caught:
        dpvae.evaluate(model, random_dataset(3), ["probe"], evaluation=SIZES)
    assert "mnist" in caught.value.hint


def test_labels_that_are_no_classes_are_refused():
    with pytest.raises(UsageError, match="not classes"):
        measured(lambda x: x[:, 0])


def test_all_takes_the_probe_where_there_are_labels():
    model = linear_model(StandardNormalPrior(3))
    sizes = Evaluation(samples=20, nll_samples=2, nll_images=2, probe_samples=50)
    with_labels = data(side)
    bare = dataclasses.replace(with_labels, train=Split(with_labels.train.stored))
    for dataset, there in ((with_labels, True), (bare, False)):
        results = dpvae.evaluate(model, dataset, ["all"], evaluation=sizes)
        assert ("probe" in {result.metric for result in results}) == there
