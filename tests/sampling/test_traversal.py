import numpy as np
import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.sampling.encodings import EncodedTraining
from dpvae_cli.sampling.portrait import portrait
from dpvae_cli.sampling.traversal import standard_deviations, traverse
from tests.small import small_recipe


@pytest.fixture(scope="module")
def setting():
    recipe = small_recipe()
    model, data = dpvae.build(recipe).eval(), recipe.data.load()
    for parameter in model.prior.parameters():
        parameter.data *= 2
    return model, data, EncodedTraining(model, lambda: data).aggregate_posterior()


def ends(model, data):
    with torch.no_grad():
        mean = model.encode(data.test.examples(slice(0, 2))).mean
    return mean[:1], mean[1:]


@pytest.mark.parametrize("space", ["z0", "z"])
def test_the_line_is_straight_in_its_space_and_ends_at_the_examples(setting, space):
    model, data, aggregate = setting
    start, end = ends(model, data)
    record = traverse(model, aggregate, start, end, space=space, steps=9)
    straight = record[f"line_{space}"]
    np.testing.assert_allclose(np.diff(straight, 2, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(record["line_z"][[0, -1]], torch.cat([start, end]), atol=1e-4)
    with torch.no_grad():
        decoded = model.decode(torch.from_numpy(record["line_z"]))
    np.testing.assert_allclose(record["line_decoded"], decoded, atol=1e-5)
    log_q = aggregate.log_prob(torch.from_numpy(record["line_z"]))
    np.testing.assert_allclose(record["line_log_q"], log_q)
    other = record["line_z" if space == "z0" else "line_z0"]
    assert np.abs(np.diff(other, 2, axis=0)).max() > 1e-4, "and bent in the other"


def test_the_sweep_moves_one_dimension_by_standard_deviations(setting):
    model, data, aggregate = setting
    start, end = ends(model, data)
    record = traverse(model, aggregate, start, end, steps=5, dimensions=9, reach=2.0)
    deviations = standard_deviations(aggregate).numpy()
    assert list(record["sweep_dimensions"]) == list(np.argsort(-deviations)), "at most L, by size"
    np.testing.assert_allclose(record["sweep_offsets"], [-2, -1, 0, 1, 2])
    for row, dimension in enumerate(record["sweep_dimensions"]):
        moved = record["sweep_z"][row] - start.numpy()
        np.testing.assert_allclose(
            moved[:, dimension], record["sweep_offsets"] * deviations[dimension], rtol=1e-5
        )
        np.testing.assert_allclose(np.delete(moved, dimension, axis=1), 0, atol=1e-6)


def test_standard_deviations_are_those_of_samples(setting):
    aggregate = setting[2]
    drawn = aggregate.sample(200_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(standard_deviations(aggregate), drawn.std(dim=0), rtol=0.02, atol=0)


def test_the_map_is_log_q_on_a_grid(setting):
    model, data, aggregate = setting
    record = traverse(model, aggregate, *ends(model, data))
    row, column = 17, 80
    point = torch.tensor([[record["grid_x"][column], record["grid_y"][row]]])
    assert record["log_q"][row, column] == pytest.approx(float(aggregate.log_prob(point)))


def test_a_portrait_holds_what_the_figures_show(setting):
    model, data, aggregate = setting
    arrays = portrait(model, aggregate, data, seed=0, samples=50, extremes=3, pool=40)
    assert arrays["low_x"].shape == arrays["high_z0"].shape == (3, 2)
    assert arrays["samples"].shape == arrays["codes_z0"].shape == (50, 2)
    assert arrays["log_q"].shape == arrays["log_p"].shape
    with torch.no_grad():
        z0 = model.prior.to_generation(torch.from_numpy(arrays["codes"]))[0]
    np.testing.assert_allclose(arrays["codes_z0"], z0, atol=1e-5)


def test_a_portrait_needs_two_dimensions(setting):
    _, data, aggregate = setting
    model = dpvae.build(small_recipe("vae", "architecture.latent_dim=3"))
    with pytest.raises(UsageError, match="latent_dim 3"):
        portrait(model, aggregate, data, seed=0)
