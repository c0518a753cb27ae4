"""The packages that pyproject.toml names have their shapes checked in tests, and nowhere else."""

import pytest
import torch
from jaxtyping import TypeCheckError

from dpvae_cli.mathematics.divergences import mmd_squared
from dpvae_cli.priors import StandardNormalPrior


def test_a_wrong_shape_is_noticed():
    with pytest.raises(TypeCheckError):
        StandardNormalPrior(2).log_prob(torch.zeros(3))


def test_axes_of_one_name_are_equally_long():
    with pytest.raises(TypeCheckError):
        mmd_squared(torch.zeros(4, 2), torch.zeros(4, 3), bandwidth=1.0)
