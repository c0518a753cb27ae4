import torch
from scipy.stats import ks_2samp

from dpvae_cli.mathematics.divergences import kolmogorov_distance


def test_it_is_scipys_statistic_dimension_by_dimension():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    second = 0.4 + torch.randn(45, 3, generator=generator, dtype=torch.float64)
    second[:20, 0] = first[:20, 0]
    expected = [ks_2samp(first[:, l], second[:, l]).statistic for l in range(3)]
    torch.testing.assert_close(
        kolmogorov_distance(first, second), torch.tensor(expected, dtype=torch.float64)
    )


def test_it_has_no_scale_and_is_symmetric():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 50, 1, generator=generator)
    found = kolmogorov_distance(first, second)
    torch.testing.assert_close(found, kolmogorov_distance(second, first))
    torch.testing.assert_close(found, kolmogorov_distance(first.exp(), second.exp()))
    assert float(kolmogorov_distance(first, first)) == 0
    assert float(kolmogorov_distance(first, first + 100)) == 1
