"""precision, recall, density and coverage of models whose samples are known."""

from dataclasses import replace

import pytest
import torch

from dpvae_cli.data import Dataset, Split
from dpvae_cli.evaluation import feature_statistics
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.evaluate import measure
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.mathematics.support import compare_support
from dpvae_cli.priors import StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings, decode, prior_samples
from tests.evaluation.planted import normal, planted
from tests.small import image_vae, random_images, tiny_extractor

FOUR = ["precision", "recall", "density", "coverage"]
SIZES = Evaluation(support_samples=300, fid_samples=60)


def measured(model, data, names, sizes=SIZES, features=None):
    given = EvaluationContext(
        model,
        lambda: data,
        TrainingEncodings(model, lambda: data),
        sizes,
        0,
        features=features or FeatureOptions(),
    )
    results, failed = measure(given, names)
    assert not failed, failed
    return {result.metric: result for result in results}, given


@torch.no_grad()
def echo(means: torch.Tensor, *, gain: float = 1.0) -> tuple:
    """Return a model with the prior N(0, I) that decodes z as gain z, and its data."""
    model, data = planted(StandardNormalPrior(2), means, 0.05)
    model.decoder.weight.copy_(gain * torch.eye(2))
    model.decoder.bias.zero_()
    return model, replace(data, test=Split(normal(300, seed=1)))


def test_samples_of_the_data_s_distribution_are_as_good_as_held_out_examples():
    results, _ = measured(*echo(normal(400)), FOUR)
    for result in results.values():
        held_out = result.details["held_out"]
        error = result.standard_error + held_out["standard_error"]
        assert result.value == pytest.approx(held_out["value"], abs=4 * error)
        assert (result.samples, held_out["samples"]) == (300, 300)
        assert (result.details["neighbours"], result.details["dimensions"]) == (5, 2)


def test_collapse_and_pockets():
    collapsed, _ = measured(*echo(normal(400), gain=1e-6), FOUR)
    assert collapsed["precision"].value == 1
    assert collapsed["recall"].value == 0
    assert collapsed["coverage"].value < 0.1
    ring = torch.nn.functional.normalize(normal(400)) * 1.2
    model, data = echo(ring)
    pockets, _ = measured(model, replace(data, test=Split(ring[:200])), [*FOUR, "precision_lp"])
    assert pockets["precision"].value < 0.5
    assert pockets["density"].value < 0.3
    assert pockets["recall"].value > 0.95
    lowest = pockets["precision_lp"]
    assert lowest.value < 0.05
    assert lowest.details["pool"] == 1_500
    assert lowest.details["held_out"] == pockets["precision"].details["held_out"]


def test_precision_lp_has_the_null_of_the_selection():
    results, _ = measured(*echo(normal(400, deviation=0.05)), ["precision_lp"])
    result = results["precision_lp"]
    null, error = result.details["null"].values()
    assert result.value == pytest.approx(null, abs=4 * (error + result.standard_error))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    return FeatureOptions(features=tiny_extractor(tmp_path / "tiny.pt"), trust=True)


def test_images_are_compared_by_the_features_of_fid(tiny):
    data, sizes = random_images(1, 6, 6, count=70), SIZES.model_copy(update={"support_samples": 60})
    model = image_vae(1, 6, 6)
    results, given = measured(model, data, ["fid", *FOUR, "precision_lp"], sizes, tiny)
    names = [f"{name}_tiny" for name in ("frechet", *FOUR)]
    assert list(results) == [*names, "precision_tiny_lp"]
    drawn = prior_samples(model, 60, generator=given.generator("fid", 0))
    fake = given.extractor(decode(model, drawn.z))
    expected = compare_support(given.reference.rows[:60], fake)
    for name in FOUR:
        assert results[f"{name}_tiny"].value == pytest.approx(getattr(expected, name).value)
        assert results[f"{name}_tiny"].weights.startswith("tiny.pt (sha256 ")
    assert len(given.prior_features) == 1  # which fid looked at already


def test_moments_alone_do_not_compare(tiny, tmp_path):
    model, data = image_vae(1, 6, 6), random_images(1, 6, 6, count=70)
    _, given = measured(model, data, ["fid"], features=tiny)
    moments = replace(given.reference, rows=None)
    feature_statistics.write(tmp_path / "r.npz", moments)
    given = replace(given, features=replace(tiny, reference=tmp_path / "r.npz"))
    _, failed = measure(given, ["precision"])
    assert "no features for precision" in str(failed["precision"])


def test_too_few_examples():
    split = Split(normal(5))
    model, _ = echo(normal(5))
    data = Dataset("few", train=split, validation=split, test=split)
    given = EvaluationContext(model, lambda: data, TrainingEncodings(model, lambda: data), SIZES, 0)
    _, failed = measure(given, ["recall"])
    assert "no 5-th neighbour" in str(failed["recall"])
    assert "evaluation.support_neighbours" in failed["recall"].hint
