import numpy as np
import pytest
import torch
from scipy.stats import norm

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.sampling.plane import plane
from dpvae_cli.sampling.samples import TrainingEncodings
from tests.small import small_recipe


@pytest.fixture(scope="module")
def setting():
    recipe = small_recipe()
    model, data = dpvae.build(recipe).eval(), recipe.data.load()
    return model, TrainingEncodings(model, lambda: data).aggregate_posterior()


@pytest.fixture(scope="module")
def arrays(setting):
    return plane(*setting, spaces=("z0", "z"), side=6)


def test_z0_is_at_the_quantiles_of_a_normal(arrays):
    np.testing.assert_allclose(norm.cdf(arrays["plane_x"][0]), (np.arange(6) + 0.5) / 6)
    rows, columns = np.meshgrid(arrays["plane_x"][0], arrays["plane_y"][0])
    np.testing.assert_allclose(arrays["plane_z0"][0, ..., 0], rows, atol=1e-6)
    np.testing.assert_allclose(arrays["plane_z0"][0, ..., 1], columns, atol=1e-6)


def test_z_is_the_box_that_holds_q(setting, arrays):
    drawn = setting[1].sample(100_000, generator=torch.Generator().manual_seed(1)).numpy()
    for name, values in (("plane_x", drawn[:, 0]), ("plane_y", drawn[:, 1])):
        ends = arrays[name][1][[0, -1]]
        inside = ((values >= ends[0]) & (values <= ends[1])).mean()
        assert inside == pytest.approx(0.99, abs=0.004)
        np.testing.assert_allclose(np.diff(arrays[name][1], 2), 0, atol=1e-12)


def test_every_point_is_mapped_decoded_and_has_its_density(setting, arrays):
    model, aggregate = setting
    for index in range(2):
        z = torch.from_numpy(arrays["plane_z"][index]).view(-1, 2)
        with torch.no_grad():
            z0, decoded = model.prior.to_generation(z)[0], model.decode(z)
        np.testing.assert_allclose(arrays["plane_z0"][index].reshape(-1, 2), z0, atol=1e-4)
        np.testing.assert_allclose(
            arrays["plane_decoded"][index].reshape(-1, 2), decoded, atol=1e-5
        )
        np.testing.assert_allclose(arrays["plane_log_q"][index].ravel(), aggregate.log_prob(z))
        assert arrays["lowest_log_q"][index] == arrays["plane_log_q"][index].min()


def test_the_net_goes_through_the_points(setting, arrays):
    for index in range(2):
        net, points = arrays["net_z"][index], arrays["plane_z"][index]
        np.testing.assert_allclose(net[:6, [0, -1]], points[:, [0, -1]], atol=1e-5)
        np.testing.assert_allclose(net[6:, [0, -1]], points[[0, -1]].swapaxes(0, 1), atol=1e-5)
        with torch.no_grad():
            decoded = setting[0].decode(torch.from_numpy(net[3]))
        np.testing.assert_allclose(arrays["net_decoded"][index][3], decoded, atol=1e-5)


def test_three_dimensions_are_refused(setting):
    model = dpvae.build(small_recipe("vae", "architecture.latent_dim=3"))
    with pytest.raises(UsageError, match="needs latent_dim 2; this model has 3"):
        plane(model, setting[1], spaces=("z",), side=3)
