"""Priors given a label: each conditional density, their mixture, and what is refused."""

import pytest
import torch
from torch.testing import assert_close

import dpvae_cli as dpvae
from dpvae_cli.evaluation.kl import symmetric_kl
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.priors import ClassConditionalPrior, FlowMatchingPrior
from dpvae_cli.recipe.validation import kinds
from tests.cases import small_spec
from tests.mathematics.random_models import normal, randomised
from tests.priors.test_contract import check_integral, jacobians
from tests.small import small_recipe

LABELS = (0, 1, 7)
TAKERS = [kind for kind, spec in kinds("fit_prior").items() if spec.takes_labels]


@pytest.fixture(params=TAKERS)
def prior(request):
    flow = small_spec("fit_prior", request.param).build(2, context=len(LABELS))
    weights = torch.tensor([0.5, 0.2, 0.3])
    prior = ClassConditionalPrior(randomised(flow, gain=0.9, seed=3), LABELS, weights).double()
    if isinstance(flow, FlowMatchingPrior):
        flow.bijection.steps = 24
    return prior


def labelled_codes(count=300):
    """Return codes of two clusters whose label tells them apart."""
    labels = torch.arange(count) % 2 * 7
    mean = 0.3 * torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    mean[:, 0] += torch.where(labels == 7, 2.0, -2.0)
    return mean, labels


def test_each_label_has_a_flow_of_its_own(prior):
    z = normal(3, 2)
    given = [prior.given(label) for label in LABELS]
    assert not torch.allclose(given[0].log_prob(z), given[2].log_prob(z))
    z0, log_abs_det = given[2].to_generation(z)
    back, inverse = given[2].to_representation(z0)
    assert_close(back, z, rtol=1e-6, atol=1e-6)
    assert_close(log_abs_det + inverse, torch.zeros(3).double(), rtol=0, atol=1e-6)
    exact = torch.linalg.slogdet(jacobians(given[2].to_generation, z)).logabsdet
    assert_close(log_abs_det, exact, rtol=1e-6, atol=1e-6)
    mixture = sum(
        weight * each.log_prob(z).exp() for weight, each in zip(prior.weights, given, strict=True)
    )
    assert_close(prior.log_prob(z).exp(), mixture)
    assert prior.generation is None
    assert given[0].spec == prior.spec


def test_the_density_given_a_label_integrates_to_one(prior):
    if not isinstance(prior.flow, FlowMatchingPrior):
        check_integral(prior.given(1))


def test_the_loss_of_each_code_is_that_of_its_label(prior):
    z, labels = normal(4, 2), torch.tensor([7, 0, 1, 7])
    if isinstance(prior.flow, FlowMatchingPrior):
        assert prior.fitting_loss(z, labels=labels).shape == (4,)
        return
    for context in (torch.no_grad, torch.enable_grad):
        with context():
            loss = prior.fitting_loss(z, labels=labels)
            alone = [
                prior.given(int(y)).log_prob(row[None]) for y, row in zip(labels, z, strict=True)
            ]
            assert_close(loss, -torch.cat(alone))


def test_labels_are_learned_saved_and_loaded(tmp_path):
    mean, labels = labelled_codes()
    fitting = dpvae.Fitting(iterations=150, batch_size=128, learning_rate=1e-2, given="label")
    fitted = dpvae.fit_prior(mean, None, "spline", fitting=fitting, labels=labels)
    assert fitted.prior.labels == (0, 7)
    assert fitted.record.given == "label"
    for label, side in ((0, -2.0), (7, 2.0)):
        drawn = fitted.given(label).sample(500)
        assert drawn[:, 0].mean() == pytest.approx(side, abs=0.3)
    fitted.save(tmp_path / "prior.pt")
    again = dpvae.load_prior(tmp_path / "prior.pt")
    assert torch.equal(again.given(7).sample(9, seed=1), fitted.given(7).sample(9, seed=1))
    assert torch.equal(again.log_prob(mean), fitted.log_prob(mean))


def test_what_cannot_be_given_a_label_is_refused(tmp_path):
    mean, labels = labelled_codes(40)
    with pytest.raises(UsageError, match="a mixture prior cannot be given a label") as caught:
        dpvae.fit_prior(mean, None, "mixture", labels=labels)
    assert "spline" in caught.value.hint
    with pytest.raises(UsageError, match=r"labels have shape \(39,\), and 40 codes need \(40,\)"):
        dpvae.fit_prior(mean, None, "spline", labels=labels[1:])
    with pytest.raises(UsageError, match="whole numbers are expected"):
        dpvae.fit_prior(mean, None, "spline", labels=labels / 2)
    with pytest.raises(UsageError, match="needs the labels"):
        dpvae.fit_prior(mean, None, "spline", fitting=dpvae.Fitting(given="label"))
    with pytest.raises(UsageError, match="different labels"):
        dpvae.fit_prior(torch.randn(1_001, 2), None, "spline", labels=torch.arange(1_001))
    with pytest.raises(UsageError, match="knows no labels"):
        dpvae.Spline().build(2).given(3)


def test_skl_by_label_is_that_of_each_label():
    recipe = small_recipe("vae", "training.iterations=5")
    data = recipe.data.load()
    model = dpvae.build(recipe)
    with pytest.raises(UsageError, match="skl_by_label is for priors that are given a label"):
        dpvae.evaluate(model, data, ["skl_by_label"], evaluation=recipe.evaluation)
    with torch.no_grad():
        posterior = model.encode(data.train.examples())
    labels = data.class_labels()
    fitted = dpvae.fit_prior(
        posterior.mean,
        posterior.log_variance,
        "decoupled",
        labels=labels,
        fitting=dpvae.Fitting(iterations=5),
    )
    model = model.with_prior(fitted.prior).eval()
    [result] = dpvae.evaluate(model, data, ["skl_by_label"], evaluation=recipe.evaluation)
    assert result.details["labels"] == [0, 1]
    assert result.value == pytest.approx(sum(result.details["values"]) / 2)
    rows = labels == 1
    q = AggregatePosterior(posterior.mean[rows], posterior.log_variance[rows])
    expected = symmetric_kl(
        model.with_prior(fitted.prior.given(1)), q, samples=2_000, generator=stream(1, "skl")
    )
    error = expected.standard_error + result.details["standard_errors"][1]
    assert abs(result.details["values"][1] - expected.value) < 5 * error
