import dataclasses
import json
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from dpvae_cli.data import Split
from dpvae_cli.evaluation import nll as nll_module
from dpvae_cli.evaluation.evaluate import evaluate
from dpvae_cli.evaluation.nll import negative_log_likelihoods
from dpvae_cli.model import build
from dpvae_cli.recipe import Evaluation, load_recipe
from dpvae_cli.sampling import samples as samples_module
from tests.small import image_vae, linear_gaussian_vae, random_dataset

SCALE = 0.6


def exact_nll(model, x):
    weight, bias = model.decoder.weight.data, model.decoder.bias.data
    covariance = weight @ weight.T + SCALE**2 * torch.eye(len(bias), dtype=torch.float64)
    return -MultivariateNormal(bias, covariance).log_prob(x)


@pytest.mark.parametrize("seed", range(4))
def test_the_marginal_of_a_linear_gaussian_vae(seed):
    model = linear_gaussian_vae(2, 3, scale=SCALE, seed=seed)
    x = torch.randn(1, 3, dtype=torch.float64)
    [found] = negative_log_likelihoods(
        model, x, samples=20_000, generators=[torch.Generator().manual_seed(seed)]
    )
    assert abs(found.nll - float(exact_nll(model, x))) < 4 * found.standard_error
    assert 0 < found.standard_error < 0.5
    assert 1 < found.effective_samples < 20_000


def plant_encoder(model, *, narrow=1.0, shift=0.0):
    """Set a linear model's encoder: the best diagonal Gaussian's mean plus `shift` deviations.

    Its deviations are divided by `narrow`.
    """
    weight, bias = model.decoder.weight.data, model.decoder.bias.data
    latent_dim = weight.shape[1]
    precision = torch.eye(latent_dim, dtype=torch.float64) + weight.T @ weight / SCALE**2
    gain = torch.linalg.solve(precision, weight.T) / SCALE**2
    variance = 1 / precision.diagonal()
    linear = model.encoder.network[1]
    linear.weight.data = torch.cat([gain, torch.zeros_like(gain)])
    moved = shift * variance.sqrt() / math.sqrt(latent_dim) - gain @ bias
    linear.bias.data = torch.cat([moved, (variance / narrow**2).log()])
    return model


def estimate(model, x, *, samples, seed=0):
    generators = [torch.Generator().manual_seed(seed + index) for index in range(len(x))]
    return negative_log_likelihoods(model, x, samples=samples, generators=generators)


@pytest.mark.parametrize("latent_dim", [2, 8])
@pytest.mark.parametrize(("narrow", "shift"), [(10, 0), (1, 6), (3, 6)])
def test_a_posterior_that_is_too_narrow_or_off_does_not_bias_the_value(latent_dim, narrow, shift):
    """Draws of q(z|x) alone are 2 to 18 nats too high here, at a printed error of 0.1 to 0.7."""
    model = linear_gaussian_vae(latent_dim, 2 * latent_dim, scale=SCALE, seed=3)
    plant_encoder(model, narrow=narrow, shift=shift)
    x = torch.randn(8, 2 * latent_dim, dtype=torch.float64)
    found = estimate(model, x, samples=5_000)
    off = sum(one.nll for one in found) / 8 - float(exact_nll(model, x).mean())
    error = math.sqrt(sum(one.standard_error**2 for one in found)) / 8
    assert error < 0.05
    assert abs(off) < 3 * error
    assert min(one.effective_samples for one in found) > 200


def test_a_good_encoder_loses_few_effective_samples():
    """The exact posterior alone has all of them; the fitted half is a little wider."""
    model = plant_encoder(linear_gaussian_vae(1, 1, scale=SCALE))
    x = torch.tensor([[0.7]], dtype=torch.float64)
    [found] = estimate(model, x, samples=2_000)
    assert abs(found.nll - float(exact_nll(model, x))) < 3 * found.standard_error
    assert found.effective_samples > 0.9 * 2_000


def test_the_fit_changes_nothing_of_the_model():
    model = image_vae(3, 4, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    estimate(model, torch.rand(2, 3, 4, 4), samples=40)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_few_effective_samples_are_warned_of():
    """An encoder 200 deviations off is out of the fit's reach."""
    model = plant_encoder(linear_gaussian_vae(2, 3, scale=SCALE), narrow=10, shift=200).float()
    sizes = Evaluation(nll_samples=300, nll_images=4)
    [result] = evaluate(model, random_dataset(3), ["nll"], evaluation=sizes)
    assert result.details["effective_samples_median"] < 50
    assert "effective samples or fewer of 300" in result.details["effective_samples_note"]
    [result] = evaluate(
        linear_gaussian_vae(2, 3, scale=SCALE).float(),
        random_dataset(3),
        ["nll"],
        evaluation=Evaluation(nll_samples=3_000, nll_images=4),
    )
    assert result.details["effective_samples_note"] is None


def test_the_standard_error_is_the_spread_over_draws():
    model = linear_gaussian_vae(2, 3, scale=SCALE, seed=1)
    x = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = estimate(model, x.expand(80, 3), samples=2_000)
    spread = float(torch.tensor([estimate.nll for estimate in found]).std())
    stated = float(torch.tensor([estimate.standard_error for estimate in found]).median())
    assert stated == pytest.approx(spread, rel=0.5)


def test_the_record_averages_images_and_states_both_errors():
    model = linear_gaussian_vae(2, 3, scale=SCALE).float()
    data = random_dataset(3)
    sizes = Evaluation(nll_samples=3_000, nll_images=10)
    [result] = evaluate(model, data, ["nll"], evaluation=sizes)
    expected = exact_nll(model.double(), data.test.stored[:10].double())
    over_samples = result.details["standard_error_over_importance_samples"]
    assert abs(result.value - float(expected.mean())) < 4 * over_samples
    spread = float(expected.std()) / math.sqrt(10)
    assert result.standard_error == pytest.approx(spread, rel=0.1)
    assert (result.samples, result.details["images"], result.split) == (3_000, 10, "test")
    assert result.details["bits_per_dimension"] is None


@pytest.fixture
def weights(monkeypatch):
    """Collect the log-weights of every example."""
    found, original = [], nll_module._summarise

    def collect(log_weights):
        found.append(log_weights)
        return original(log_weights)

    monkeypatch.setattr(nll_module, "_summarise", collect)
    return found


@pytest.mark.parametrize("samples", [30, 1_024, 2_500])
def test_weights_depend_neither_on_the_chunk_nor_on_neighbours(weights, monkeypatch, samples):
    model = image_vae(3, 4, 4).double()
    x = torch.rand(3, 3, 4, 4, dtype=torch.float64)

    def draws():
        return [torch.Generator().manual_seed(seed) for seed in (5, 6, 7)]

    for size in (1_000, 7):
        monkeypatch.setattr(samples_module, "batch_size_for", lambda model, size=size: size)
        negative_log_likelihoods(model, x, samples=samples, generators=draws())
    for row, generator in zip(x.split(1), draws(), strict=True):
        negative_log_likelihoods(model, row, samples=samples, generators=[generator])
    together, in_small_chunks, alone = weights[:3], weights[3:6], weights[6:]
    for one, other, third in zip(together, in_small_chunks, alone, strict=True):
        assert one.shape == (samples,)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-9)
        torch.testing.assert_close(one, third, rtol=1e-12, atol=1e-9)
    assert len(torch.cat(together).unique()) == 3 * samples, "no draw is used twice"


def test_one_example_is_not_copied_for_its_samples(monkeypatch):
    model = image_vae(1, 3, 3)
    x, seen = torch.rand(1, 1, 3, 3), []
    original = nll_module.reconstruction

    def looking(model, repeated, z):
        seen.append((repeated.data_ptr(), repeated.stride(0)))
        return original(model, repeated, z)

    monkeypatch.setattr(nll_module, "reconstruction", looking)
    negative_log_likelihoods(model, x, samples=40, generators=[torch.Generator()])
    assert set(seen) == {(x.data_ptr(), 0)}


@pytest.mark.parametrize("name", ["vae_mnist", "vae_svhn", "vae_celeba"])
def test_activations_stay_small(name):
    """At random weights: what the widest layer reads and writes stays in megabytes."""
    model = build(load_recipe(name))
    sizes = []

    def hear(_, inputs, output):
        sizes.append(inputs[0].nbytes + output.nbytes)

    for layer in model.decoder.modules():
        layer.register_forward_hook(hear)
    x, samples = torch.rand(1, *model.example_shape), 100
    generator = torch.Generator().manual_seed(0)
    negative_log_likelihoods(model.eval(), x, samples=samples, generators=[generator])
    assert 2**18 < max(sizes) < 64 * 2**20


def test_one_example_has_no_standard_error_over_examples():
    model = linear_gaussian_vae(2, 3, scale=SCALE).float()
    data = random_dataset(3)
    data = dataclasses.replace(data, test=Split(data.test.stored[:1]))
    [result] = evaluate(model, data, ["nll"], evaluation=Evaluation(nll_samples=20))
    assert result.standard_error is None
    assert result.details["standard_error_over_images"] is None
    assert result.details["standard_error_over_importance_samples"] > 0
    json.dumps(result.to_json(), allow_nan=False)
