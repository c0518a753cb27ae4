import dataclasses

import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.evaluate import measure, metric_names
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.evaluation.kl import are_active
from dpvae_cli.evaluation.metrics import METRICS, metrics_needing
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.sampling.samples import TrainingEncodings, decode, prior_samples
from tests.small import (
    gaussian_posterior_vae,
    image_vae,
    random_dataset,
    random_images,
    small_recipe,
    tiny_extractor,
)


@pytest.fixture(scope="module")
def moons():
    recipe = small_recipe()
    return recipe, recipe.data.load(), dpvae.build(recipe)


def test_every_metric_gives_sound_records(moons):
    recipe, data, model = moons
    results = dpvae.evaluate(model, data, ["all"], evaluation=recipe.evaluation, seed=3)
    missing = [metrics_needing(need) for need in ("images", "factors", "a prior given labels")]
    expected = set(METRICS).difference(*missing, {"cost"})
    assert {result.metric for result in results} >= expected
    for result in results:
        assert result.seed == 3
        assert result.samples > 0
        assert result.unit
        assert result.standard_error is None or result.standard_error >= 0
        result.to_json()


def test_the_seed_decides(moons):
    recipe, data, model = moons

    def once(seed):
        return dpvae.evaluate(model, data, ["all"], evaluation=recipe.evaluation, seed=seed)

    first = once(1)
    assert first == once(1)
    changed = zip(first, once(2), strict=True)
    drawn = [
        (one, other)
        for one, other in changed
        # so few training examples are all taken by the probe, which draws nothing else
        if one.standard_error is not None and not one.metric.startswith("probe")
    ]
    assert len(drawn) > 10
    assert all(one.value != other.value for one, other in drawn)


def test_manifold_is_the_mean_distance_of_decoded_samples(moons):
    recipe, data, model = moons
    [result] = dpvae.evaluate(model, data, ["manifold"], evaluation=recipe.evaluation)
    context = EvaluationContext(
        model, lambda: data, TrainingEncodings(model, lambda: data), recipe.evaluation, 0
    )
    drawn = prior_samples(model, 20, generator=context.generator("manifold"))
    expected = data.distance_to_manifold(decode(model, drawn.z)).mean()
    assert result.value == pytest.approx(float(expected), rel=1e-6)


def test_manifold_lp_of_a_perfect_posterior_is_its_null(moons):
    """With q = p the lowest log q and the lowest log p are the same samples."""
    model = gaussian_posterior_vae(torch.zeros(2), torch.zeros(2), moons[2].prior)
    from dpvae_cli.priors import StandardNormalPrior

    model.prior = StandardNormalPrior(2)
    recipe, data, _ = moons
    [result] = dpvae.evaluate(model, data, ["manifold_lp"], evaluation=recipe.evaluation)
    assert result.value == pytest.approx(result.details["null"]["value"], rel=1e-6)
    assert result.details["pool"] == 5 * 20


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(UsageError, match="did you mean skl_knn") as caught:
        metric_names("skl,skl_kn", ["manifold", "generation space"])
    assert all(name in caught.value.hint for name in METRICS)
    with pytest.raises(UsageError, match="empty"):
        metric_names(" , ", ["manifold", "generation space"])


def test_all_leaves_out_what_the_data_cannot_give():
    needs = {
        "manifold": {"manifold", "manifold_lp"},
        "images": {"fid", "fid_lp", "kid"},
        "generation space": {"path"},
        "factors": {"mig", "dci", "sap", "factor_score", "beta_score"},
        "labels": {"probe"},
        "a prior given labels": {"skl_by_label"},
    }
    everything = metric_names("all", needs)
    assert everything == [name for name in METRICS if name != "cost"]
    for need, names in needs.items():
        assert set(everything) - set(metric_names("all", needs.keys() - {need})) == names


def test_what_is_measured_when_no_metric_is_named():
    assert set(metric_names(None, [])) == {"skl", "skl_knn", "nll", "leak"}
    assert set(metric_names(None, ["manifold"])) - set(metric_names(None, [])) == {
        "manifold",
        "manifold_lp",
    }


def test_a_failing_metric_does_not_lose_the_others():
    model = gaussian_posterior_vae(
        torch.zeros(2), torch.zeros(2), dpvae.build(small_recipe()).prior
    )
    data = random_dataset(2)
    encoded = TrainingEncodings(model, lambda: data)
    context = EvaluationContext(model, lambda: data, encoded, small_recipe().evaluation, 0)
    results, failed = measure(context, ["manifold", "skl"])
    assert [result.metric for result in results] == ["skl"]
    assert isinstance(failed["manifold"], DpvaeError)


def test_active_units_of_a_model_are_those_of_all_held_out_means(moons):
    recipe, data, model = moons
    sizes = recipe.evaluation.model_copy(update={"split": "validation"})
    [result] = dpvae.evaluate(model, data, ["active_units"], evaluation=sizes)
    posterior = model.encode(data.validation.examples())
    signal = posterior.mean.var(dim=0, correction=0)
    noise = posterior.log_variance.exp().mean(dim=0)
    assert result.value == int((signal / (signal + noise) > 0.01).sum())
    assert (result.samples, result.split, result.standard_error) == (40, "validation", None)


def test_active_units_counts_dimensions_that_move():
    means = torch.zeros(100, 3)
    means[:, 0] = torch.linspace(-1, 1, 100)
    means[:, 2] = 0.05 * torch.linspace(-1, 1, 100)
    assert are_active(means, torch.ones(100, 3)).sum() == 1
    assert are_active(means, torch.zeros(100, 3)).sum() == 2, "points that vary"
    for scale in (1e-6, 1e6):
        assert are_active(scale * means, scale**2 * torch.ones(100, 3)).sum() == 1


def test_activity_at_unit_scale_is_burdas():
    """With q(z) of variance 1, Var[mean] > 0.01 and the share are one criterion."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(5_000, 5, generator=generator) * torch.tensor([0.09, 0.099, 0.102, 0.11, 1])
    variances = (1 - means.var(dim=0, correction=0)).expand(5_000, 5)
    burda = means.var(dim=0, correction=0) > 0.01
    assert are_active(means, variances).tolist() == burda.tolist()
    assert 1 < burda.sum() < 5


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    return FeatureOptions(features=tiny_extractor(tmp_path / "tiny.pt"), trust=True)


@pytest.mark.parametrize("note", ["a part of it", None])
def test_every_result_of_every_metric_has_the_note_of_the_data(moons, tiny, note):
    recipe, points, model = moons
    sizes = recipe.evaluation
    on_points = dataclasses.replace(points, note=note)
    on_images = dataclasses.replace(random_images(1, 6, 5), note=note)
    results = dpvae.evaluate(model, on_points, ["all"], evaluation=sizes)
    results += dpvae.evaluate(
        image_vae(1, 6, 5), on_images, metrics_needing("images"), evaluation=sizes, features=tiny
    )
    assert len(results) > len(METRICS)
    assert {result.details["data_note"] for result in results} == {note}


def test_the_note_of_the_training_data_needs_no_data(moons):
    """Where encodings are kept the data is not read, and its note is known all the same."""
    recipe, data, model = moons
    encoded = TrainingEncodings(model, lambda: data)
    now = dataclasses.replace(data, note="another part")
    context = EvaluationContext(
        model, lambda: now, encoded, recipe.evaluation, 0, training_note="a part of it"
    )
    results, failed = measure(context, ["skl", "nll"])
    assert not failed
    notes = [result.details["data_note"] for result in results]
    assert notes == ["a part of it", "a part of it; another part"]


def test_weights_that_are_not_there_are_looked_for_once(moons, tmp_path, monkeypatch):
    asked = []

    def build(*arguments):
        asked.append(arguments)
        raise DpvaeError("no weights")

    monkeypatch.setattr("dpvae_cli.evaluation.features.build_extractor", build)
    model, data = image_vae(1, 6, 5), random_images(1, 6, 5)
    context = EvaluationContext(
        model, lambda: data, TrainingEncodings(model, lambda: data), moons[0].evaluation, 0
    )
    results, failed = measure(context, metrics_needing("images"))
    assert not results
    assert {name: str(error) for name, error in failed.items()} == dict.fromkeys(
        metrics_needing("images"), "no weights"
    )
    assert len(asked) == 1
