import copy

import numpy as np
import pytest
import torch
from torch import nn

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.sampling.gallery import portrait
from dpvae_cli.sampling.paths import interpolate, standard_deviations
from dpvae_cli.sampling.samples import TrainingEncodings
from dpvae_cli.sampling.traversal import line, record, sweeps
from tests.small import small_recipe


@pytest.fixture(scope="module")
def setting():
    recipe = small_recipe()
    model, data = dpvae.build(recipe).eval().double(), recipe.data.load()
    for parameter in model.prior.parameters():
        parameter.data *= 2
    single = copy.deepcopy(model).float()
    return model, data, TrainingEncodings(single, lambda: data).aggregate_posterior()


def ends(model, data):
    with torch.no_grad():
        mean = model.encode(data.test.examples(slice(0, 2)).double()).mean
    return mean[:1], mean[1:]


def test_a_line_in_z0_maps_back_exactly(setting):
    model, data, _ = setting
    start, end = (model.prior.to_generation(each)[0].detach() for each in ends(model, data))
    z, z0 = interpolate(model, start, end, space="z0", points=9)
    with torch.no_grad():
        back = model.prior.to_generation(z[0])[0]
    share = torch.linspace(0, 1, 9, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(back, (1 - share) * start + share * end, rtol=0, atol=1e-12)
    torch.testing.assert_close(z0[0], back, rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", ["z0", "z"])
def test_the_line_is_straight_in_its_space_and_ends_at_the_examples(setting, space):
    model, data, aggregate = setting
    start, end = ends(model, data)
    walk = line(model, aggregate, start, end, space=space, steps=9)
    straight_one, other = (walk.z0, walk.z) if space == "z0" else (walk.z, walk.z0)
    np.testing.assert_allclose(np.diff(straight_one, 2, axis=0), 0, atol=1e-12)
    torch.testing.assert_close(walk.z[[0, -1]], torch.cat([start, end]), rtol=0, atol=1e-12)
    assert np.abs(np.diff(other, 2, axis=0)).max() > 1e-7, "and bent in the other"


@pytest.mark.parametrize("space", ["z0", "z"])
@pytest.mark.parametrize("steps", [2, 7, 500])
def test_the_lowest_log_q_is_that_of_brute_force(setting, space, steps):
    model, data, aggregate = setting
    start, end = (3 * each for each in ends(model, data))
    walk = line(model, aggregate, start, end, space=space, steps=steps)
    q = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=torch.zeros(len(aggregate)).double()),
        torch.distributions.Independent(
            torch.distributions.Normal(aggregate.mean, (aggregate.log_variance / 2).exp()), 1
        ),
    )
    share = torch.linspace(0, 1, 4001, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        if space == "z0":
            start, end = (model.prior.to_generation(each)[0] for each in (start, end))
        z = (1 - share) * start + share * end
        z = model.prior.to_representation(z)[0] if space == "z0" else z
    lowest = float(q.log_prob(z).min())
    assert lowest - 1e-9 <= walk.lowest_log_q
    assert walk.lowest_log_q == pytest.approx(lowest, abs=2e-3)


@pytest.mark.parametrize("space", ["z0", "z"])
def test_sweeps_move_one_coordinate_by_standard_deviations(setting, space):
    model, data, aggregate = setting
    start, _ = ends(model, data)
    found = sweeps(model, aggregate, start, space=space, dimensions=9, reach=2.0, steps=5)
    deviations = standard_deviations(model, aggregate, space=space).numpy()
    order = [walk.dimension for walk in found]
    assert order == list(np.argsort(-deviations)), "at most L, by size"
    centre = start if space == "z" else model.prior.to_generation(start)[0].detach()
    for walk in found:
        np.testing.assert_allclose(walk.position, [-2, -1, 0, 1, 2])
        assert walk.standard_deviation == pytest.approx(deviations[walk.dimension])
        steps = (walk.z if space == "z" else walk.z0)[:: walk.stride]
        moved = (steps - centre).numpy()
        expected = walk.position.numpy() * deviations[walk.dimension]
        np.testing.assert_allclose(moved[:, walk.dimension], expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(np.delete(moved, walk.dimension, axis=1), 0, atol=1e-12)


def test_standard_deviations_are_those_of_samples(setting):
    model, _, aggregate = setting
    drawn = aggregate.sample(200_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        by_space = {"z": drawn, "z0": model.prior.to_generation(drawn)[0]}
    for space, sample in by_space.items():
        found = standard_deviations(model, aggregate, space=space)
        torch.testing.assert_close(found, sample.std(dim=0), rtol=0.04, atol=0)
    again = standard_deviations(model, aggregate, space="z0")
    torch.testing.assert_close(
        again, standard_deviations(model, aggregate, space="z0"), rtol=0, atol=0
    )


def test_a_record_holds_the_steps_among_the_path(setting):
    model, data, aggregate = setting
    start, end = ends(model, data)
    walks = [line(model, aggregate, start, end, space=space, steps=6) for space in ("z0", "z")]
    walks += sweeps(model, aggregate, start, space="z", dimensions=2, reach=5.0, steps=6)
    arrays = record(model, aggregate, walks)
    assert list(arrays["walk_space"]) == ["z0", "z", "z", "z"]
    assert list(arrays["walk_dimension"][:2]) == [-1, -1]
    assert np.isnan(arrays["walk_standard_deviation"][:2]).all()
    np.testing.assert_array_equal(arrays["walk_z"], arrays["path_z"][:, ::40])
    np.testing.assert_array_equal(arrays["lowest_log_q"], arrays["path_log_q"].min(axis=1))
    for index, walk in enumerate(walks):
        with torch.no_grad():
            decoded = model.decode(walk.z[::40])
        np.testing.assert_allclose(arrays["walk_decoded"][index], decoded, atol=1e-12)
        log_q = aggregate.log_prob(torch.from_numpy(arrays["walk_z"][index]))
        np.testing.assert_allclose(arrays["walk_log_q"][index], log_q)


def test_the_map_is_log_q_on_a_grid_that_sweeps_do_not_widen(setting):
    model, data, aggregate = setting
    start, end = ends(model, data)
    near = record(model, aggregate, [line(model, aggregate, start, end, space="z", steps=3)])
    point = torch.tensor([[near["grid_x"][80], near["grid_y"][17]]])
    assert near["log_q"][17, 80] == pytest.approx(float(aggregate.log_prob(point)))
    far = sweeps(model, aggregate, start, space="z", dimensions=2, reach=500.0, steps=3)
    np.testing.assert_allclose(record(model, aggregate, far)["grid_x"], near["grid_x"])


class Overflowing(nn.Module):
    def to_representation(self, z0):
        return z0 / 0, z0.sum(dim=1)


def test_a_path_that_overflows_says_so(setting):
    model = copy.deepcopy(setting[0])
    model.prior = Overflowing()
    one = torch.ones(1, 2).double()
    with pytest.raises(DpvaeError, match="finite") as caught:
        interpolate(model, one, 2 * one, space="z0", points=3)
    assert "--range" in str(caught.value.hint)


def test_a_portrait_holds_what_the_figures_show(setting):
    model, data, aggregate = setting
    model = copy.deepcopy(model).float()
    arrays = portrait(model, aggregate, data, seed=0, samples=50, extremes=3, pool=40)
    assert arrays["high_x"].shape == arrays["high_z0"].shape == (3, 2)
    assert arrays["samples"].shape == arrays["codes_z0"].shape == (50, 2)
    log_q = aggregate.log_prob(torch.from_numpy(arrays["sample_z"]))
    np.testing.assert_allclose(arrays["sample_log_q"], log_q, rtol=1e-5)
    assert arrays["log_q"].shape == arrays["log_p"].shape
    with torch.no_grad():
        z0 = model.prior.to_generation(torch.from_numpy(arrays["codes"]))[0]
    np.testing.assert_allclose(arrays["codes_z0"], z0, atol=1e-5)


def test_a_portrait_needs_two_dimensions(setting):
    _, data, aggregate = setting
    model = dpvae.build(small_recipe("vae", "architecture.latent_dim=3"))
    with pytest.raises(UsageError, match="latent_dim 3"):
        portrait(model, aggregate, data, seed=0)
