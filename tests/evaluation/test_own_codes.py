"""Metrics of codes without a model are those of the model with these codes."""

import math
from dataclasses import replace

import pytest
import torch

from dpvae_cli.evaluation.evaluate import measure
from dpvae_cli.evaluation.metrics import METRICS
from dpvae_cli.evaluation.own_codes import context_of_codes, metrics_of_codes
from dpvae_cli.fitting.codes import LabelledCodes
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe import Evaluation
from tests.evaluation.planted import context, normal, planted, prior_of

SIZES = Evaluation(samples=100, c2st_samples=50, factor_samples=100, factor_repeats=1)


def codes(*, points: bool = False) -> LabelledCodes:
    mean = normal(300)
    labels = (mean[:, 0] > 0).long()
    factors = torch.stack([labels, (mean[:, 1] > 0).long()], dim=1)
    return LabelledCodes(mean, None if points else torch.full_like(mean, -4.0), labels, factors)


@pytest.mark.parametrize("kind", ["standard_normal", "decoupled"])
def test_numbers_are_those_of_a_model_with_these_codes(kind):
    prior, given = prior_of(kind), codes()
    alone = context_of_codes(given, prior, evaluation=SIZES, held_out=0.0)
    of_model = context(*planted(prior, given.mean, math.exp(-2)))
    of_model = replace(of_model, evaluation=SIZES)
    names = ["skl", "leak", "c2st"]
    (found, failed), (expected, _) = measure(alone, names), measure(of_model, names)
    assert not failed
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.metric == theirs.metric
        assert mine.value == pytest.approx(theirs.value, rel=1e-4)


def test_every_metric_of_codes_works_on_a_share_of_them():
    given = codes()
    names = metrics_of_codes("all", given, None)
    assert set(names) == {n for n, m in METRICS.items() if m.codes and not m.is_on_request}
    some = [name for name in names if name not in ("dci", "beta_score")]  # which take longest
    results, failed = measure(context_of_codes(given, evaluation=SIZES), some)
    assert not failed, failed
    by_name = {result.metric: result for result in results}
    assert by_name["skl"].details["components"] == 240
    assert (by_name["probe"].samples, by_name["probe"].details["training_examples"]) == (60, 240)
    assert by_name["probe"].value > 0.9
    assert by_name["mig"].details["factors"] == ["factor 0", "factor 1"]


def test_points_have_no_density():
    given = codes(points=True)
    names = metrics_of_codes("all", given, None)
    assert "skl" not in names
    assert {"c2st", "mig", "probe", "active_units"} <= set(names)
    some = ["c2st", "active_units"]
    results, failed = measure(context_of_codes(given, evaluation=SIZES), some)
    assert not failed, failed
    assert {result.metric: result.value for result in results}["active_units"] == 2
    with pytest.raises(UsageError, match="codes are points"):
        metrics_of_codes("skl", given, None)


def test_defaults_need_nothing_but_codes():
    given = codes()._replace(labels=None, factors=None)
    assert metrics_of_codes(None, given, None) == ["skl", "leak", "skl_knn", "c2st"]
    assert metrics_of_codes(None, given._replace(log_variance=None), None) == ["c2st"]


def test_what_cannot_be_says_so():
    with pytest.raises(UsageError, match="codes alone have no decoder"):
        metrics_of_codes("fid", codes(), None)
    with pytest.raises(UsageError, match="the prior has 3 dimensions, the codes have 2"):
        context_of_codes(codes(), prior_of("standard_normal", 3))
    alone = context_of_codes(codes())
    with pytest.raises(UsageError, match="no decoder"):
        alone.model.decode(normal(3))
