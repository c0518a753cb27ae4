import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from dpvae_cli.evaluation.evaluate import evaluate
from dpvae_cli.evaluation.nll import negative_log_likelihood
from dpvae_cli.recipe import Evaluation
from tests.small import linear_gaussian_vae, random_dataset

SCALE = 0.6


def exact_nll(model, x):
    weight, bias = model.decoder.weight.data, model.decoder.bias.data
    covariance = weight @ weight.T + SCALE**2 * torch.eye(len(bias), dtype=torch.float64)
    return -MultivariateNormal(bias, covariance).log_prob(x)


@pytest.mark.parametrize("seed", range(4))
def test_the_marginal_of_a_linear_gaussian_vae(seed):
    model = linear_gaussian_vae(2, 3, scale=SCALE, seed=seed)
    x = torch.randn(1, 3, dtype=torch.float64)
    found = negative_log_likelihood(
        model, x, samples=20_000, generator=torch.Generator().manual_seed(seed)
    )
    assert abs(found.nll - float(exact_nll(model, x))) < 4 * found.standard_error
    assert 0 < found.standard_error < 0.5
    assert 1 < found.effective_samples < 20_000


def test_the_exact_posterior_as_encoder_gives_every_sample_the_same_weight():
    model = linear_gaussian_vae(1, 1, scale=SCALE)
    weight, bias = model.decoder.weight.item(), model.decoder.bias.item()
    precision = 1 + (weight / SCALE) ** 2
    gain = weight / SCALE**2 / precision
    linear = model.encoder.network[1]
    linear.weight.data = torch.tensor([[gain], [0.0]], dtype=torch.float64)
    linear.bias.data = torch.tensor([-gain * bias, -math.log(precision)], dtype=torch.float64)
    x = torch.tensor([[0.7]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    found = negative_log_likelihood(model, x, samples=50, generator=generator)
    assert found.nll == pytest.approx(float(exact_nll(model, x)), abs=1e-6), (
        "the scale is kept in float32"
    )
    assert found.effective_samples == pytest.approx(50)
    assert found.standard_error == pytest.approx(0, abs=1e-6)


def test_the_standard_error_is_the_spread_over_draws():
    model = linear_gaussian_vae(2, 3, scale=SCALE, seed=1)
    x = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = [
        negative_log_likelihood(
            model, x, samples=2_000, generator=torch.Generator().manual_seed(seed)
        )
        for seed in range(80)
    ]
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
