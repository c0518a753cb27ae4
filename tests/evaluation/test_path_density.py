import math

import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.path_density import POINTS, path_statistics
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.priors import Decoupled, StandardNormalPrior
from dpvae_cli.sampling.samples import TrainingEncodings, encode
from tests.small import gaussian_posterior_vae, random_dataset, small_recipe


def bent_model():
    """Return a float64 model whose g bends lines."""
    torch.manual_seed(0)
    prior = Decoupled(hidden=8).build(2, None, (2,))
    for parameter in prior.parameters():
        parameter.data *= 2.5
    return gaussian_posterior_vae(torch.zeros(2), torch.zeros(2), prior).double()


def ring(count=40, scale=0.1):
    """Return codes on a circle and q(z) around them: a pocket in the middle."""
    angle = torch.arange(count).double() * 2 * math.pi / count
    codes = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return codes, AggregatePosterior(codes, torch.full_like(codes, 2 * math.log(scale)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_pair_is_that_of_brute_force():
    model, (codes, aggregate) = bent_model(), ring()
    found = path_statistics(model, aggregate, codes, pairs=5, generator=generator())
    for row, (first, second) in enumerate(found.pairs.tolist()):
        assert first != second
        share = torch.linspace(0, 1, POINTS, dtype=torch.float64)[:, None]
        with torch.no_grad():
            both = codes[[first, second]]
            start, end = model.prior.to_generation(both)[0]
            line = (1 - share) * both[0] + share * both[1]
            curve = model.prior.to_representation((1 - share) * start + share * end)[0]
        assert found.lowest_z[row] == pytest.approx(float(aggregate.log_prob(line).min()))
        assert found.lowest_z0[row] == pytest.approx(float(aggregate.log_prob(curve).min()))
        torch.testing.assert_close(found.ends[row], aggregate.log_prob(both))


def test_means_and_errors_are_those_of_pairs():
    model, (codes, aggregate) = bent_model(), ring()
    found = path_statistics(model, aggregate, codes, pairs=50, generator=generator())
    gain = found.lowest_z0 - found.lowest_z
    assert found.means()["difference"].value == pytest.approx(float(gain.mean()))
    assert found.means()["difference"].standard_error == pytest.approx(
        float(gain.std()) / math.sqrt(50)
    )
    assert found.means()["difference"].value == pytest.approx(
        found.means()["z0"].value - found.means()["z"].value
    )
    assert found.means()["drop_z"].value == pytest.approx(
        found.means()["lower_end"].value - found.means()["z"].value
    )
    assert found.means()["end"].value >= found.means()["lower_end"].value
    assert (found.ends.amin(dim=1) >= found.lowest_z).all()


def test_the_standard_error_is_the_spread_over_draws():
    model, (codes, aggregate) = bent_model(), ring()
    found = [
        path_statistics(model, aggregate, codes, pairs=8, generator=generator(seed)).means()["z"]
        for seed in range(40)
    ]
    spread = float(torch.tensor([each.value for each in found]).std())
    stated = sum(each.standard_error for each in found) / len(found)
    assert stated == pytest.approx(spread, rel=0.35)


def test_a_map_along_the_ring_keeps_out_of_its_pocket():
    """With g the polar coordinates (up to scale) a line in z0 is an arc: nothing is crossed."""
    model, (codes, aggregate) = bent_model(), ring(200)
    model.prior = Polar()
    found = path_statistics(model, aggregate, codes, pairs=60, generator=generator())
    assert found.means()["drop_z0"].value == pytest.approx(0, abs=1e-6)
    assert found.means()["drop_z"].value > 10
    assert found.means()["difference"].value > 5 * found.means()["difference"].standard_error


class Polar(torch.nn.Module):
    generation = StandardNormalPrior(2)

    def to_generation(self, z):
        turned = torch.stack([torch.atan2(z[:, 1], z[:, 0]), z.norm(dim=1)], dim=1)
        return turned, z[:, 0]

    def to_representation(self, z0):
        angle, radius = z0.T
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), z0[:, 0]


def test_the_identity_makes_no_difference():
    model = gaussian_posterior_vae(torch.zeros(2), torch.zeros(2), StandardNormalPrior(2)).double()
    codes, aggregate = ring()
    found = path_statistics(model, aggregate, codes, pairs=9, generator=generator())
    assert found.means()["difference"] == (0, 0)


def test_pairs_are_of_all_codes_and_one_code_is_no_pair():
    model, (codes, aggregate) = bent_model(), ring(5)
    found = path_statistics(model, aggregate, codes, pairs=400, generator=generator())
    assert len({tuple(pair) for pair in found.pairs.tolist()}) == 20
    with pytest.raises(UsageError, match="no pair"):
        path_statistics(model, aggregate, codes[:1], pairs=2, generator=generator())


def test_the_metric_is_the_statistic_of_held_out_means():
    recipe = small_recipe()
    model, data = dpvae.build(recipe), recipe.data.load()
    sizes = recipe.evaluation.model_copy(update={"split": "validation"})
    results = dpvae.evaluate(model, data, ["path"], evaluation=sizes, seed=2)
    context = EvaluationContext(
        model, lambda: data, TrainingEncodings(model, lambda: data), sizes, 2
    )
    expected = path_statistics(
        model,
        context.aggregate,
        encode(model, data.validation).mean,
        pairs=100,
        generator=context.generator("path"),
    )
    values = {result.metric: (result.value, result.standard_error) for result in results}
    assert values == {
        "path": expected.means()["difference"],
        "path_z": expected.means()["z"],
        "path_z0": expected.means()["z0"],
    }
    assert {(result.samples, result.split, result.unit) for result in results} == {
        (100, "validation", "nats")
    }
    assert results[0].details["lower_end"] == expected.means()["lower_end"]._asdict()


def test_one_gaussian_is_crossed_nowhere():
    """log q is concave: its lowest on a segment is at an end."""
    model = gaussian_posterior_vae(torch.zeros(2), torch.zeros(2), StandardNormalPrior(2))
    data = random_dataset(2)
    aggregate = TrainingEncodings(model, lambda: data).aggregate_posterior()
    codes = data.test.examples()
    found = path_statistics(model, aggregate, codes, pairs=30, generator=generator())
    assert found.means()["drop_z"].value == pytest.approx(0, abs=1e-6)
