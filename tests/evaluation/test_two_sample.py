"""c2st of planted pockets and leaks, of a perfect prior, and in both spaces."""

import math

import pytest
import torch

from dpvae_cli.evaluation import classifiers
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.evaluate import measure
from dpvae_cli.priors import StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings
from tests.evaluation.planted import codes, normal, planted, prior_of

SIZES = Evaluation(c2st_samples=500)


@pytest.fixture(autouse=True)
def _all_trees(monkeypatch):
    monkeypatch.setattr(classifiers, "BOOSTED_TREES", 100)


def c2st(model, data, *, sizes=SIZES):
    encoded = TrainingEncodings(model, lambda: data)
    results, failed = measure(EvaluationContext(model, lambda: data, encoded, sizes, 0), ["c2st"])
    assert not failed, failed
    return results


def test_a_prior_that_is_q_is_not_told_from_it():
    in_z, in_z0 = c2st(*planted(StandardNormalPrior(2), normal(1_500, deviation=0.3), 0.3))
    assert in_z.value == pytest.approx(0.5, abs=4 * in_z.standard_error)
    null = in_z.details["null"]
    assert null["value"] == pytest.approx(0.5, abs=4 * null["standard_error"])
    assert in_z.samples == 500
    assert (in_z0.metric, in_z0.value) == ("c2st_generation", in_z.value)
    assert 0 < in_z.standard_error < 2 * math.sqrt(0.25 / 1_000)


def test_pockets_are_told():
    ring = torch.nn.functional.normalize(normal(1_000)) * 1.4
    [in_z, _] = c2st(*planted(StandardNormalPrior(2), ring, 0.1))
    assert in_z.value > 0.75
    assert abs(in_z.details["null"]["value"] - 0.5) < 4 * in_z.details["null"]["standard_error"]


def test_leaks_are_told():
    far = torch.cat([normal(800), normal(200, seed=1) + torch.tensor([6.0, 0.0])])
    [in_z, _] = c2st(*planted(StandardNormalPrior(2), far, 0.1))
    assert in_z.value > 0.55


def test_both_spaces_of_a_prior_that_bends():
    prior = prior_of("decoupled")
    model, data = planted(prior, codes(prior, normal(1_500)), 0.01)
    for result in c2st(model, data):
        assert result.value == pytest.approx(0.5, abs=4 * result.standard_error)


def test_few_codes_are_an_error():
    model, data = planted(StandardNormalPrior(2), normal(15), 0.1)
    encoded = TrainingEncodings(model, lambda: data)
    _, failed = measure(EvaluationContext(model, lambda: data, encoded, SIZES, 0), ["c2st"])
    assert "20 codes or more" in str(failed["c2st"])
